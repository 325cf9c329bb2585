//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clocked has the agents of a ring, which are not started yet, read clocks that setClock sets.
func (r *ring) clocked() *ring {
	r.t.Helper()
	binary := tagged(r.t, "shoal_clock")
	for _, n := range r.nodes {
		n.binary = binary
		n.env = append(n.env, "SHOAL_CLOCK="+n.clockFile())
		n.setClock(0)
	}
	return r
}

func (n *Node) clockFile() string { return filepath.Join(filepath.Dir(n.Data), "clock") }

// setClock sets the clock of a machine's agent, by so much off the true time.
func (n *Node) setClock(off time.Duration) {
	n.t.Helper()
	temporary := n.clockFile() + ".new"
	if err := os.WriteFile(temporary, fmt.Append(nil, off.Milliseconds()), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(temporary, n.clockFile()); err != nil {
		n.t.Fatal(err)
	}
}

// The clock of the machine that leads jumps, by an hour and by ten years, ahead and back, and so do those of others: the leadership
// goes to one whose clock is right, ring time goes on as it did, no pod starts again, none that may run once runs twice, commits go
// on, machines can join, and CronJobs fire once a minute.
func TestFault_U8_ClocksThatJump(t *testing.T) {
	const year = 365 * 24 * time.Hour
	r := newRing(t, 3).clocked().start()
	first := r.nodes[0]
	first.Image("probe:v1")
	files := map[string]string{
		"apps/web/web.cue": replicated("zero"), "apps/one/one.cue": beatingApp,
		"apps/cron/cron.yaml": fmt.Sprintf(cronYAML, "cron", "Allow", `exit, "0"`),
	}
	repo := first.Repository(files)
	repo.Push("zero")
	first.Eventually(60*time.Second, func() error { return first.readyOff("", "web-", 3) })
	w := r.witness("one")
	w.ran(1)
	begun := time.Now()
	serving := fmt.Sprint(r.processes("serve"))
	runs := map[string]time.Time{} // of the CronJob, by pod: when it was first seen
	watch := func(span time.Duration) {
		for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			for _, n := range r.nodes {
				s, err := n.Client().Status(context.Background())
				if err != nil {
					continue
				}
				for _, p := range s.Pods {
					if _, seen := runs[p.Name]; strings.HasPrefix(p.Name, "cron-") && !seen {
						runs[p.Name] = time.Now()
					}
				}
				break
			}
		}
	}
	jumps := []time.Duration{10 * year, -time.Hour, time.Hour, -10 * year}
	for i, off := range jumps[:rounds(2, 4)] {
		leader, rest := r.around(r.leader())
		at := time.Now()
		leader.setClock(off)
		what := fmt.Sprint("jump", i) // at once: it is that leader's clock that the ring is to go by
		repo.Write("apps/texts/texts.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: texts}\ndata: {a: "+what+"}\n")
		repo.Push(what)
		first.Eventually(90*time.Second, func() error { // a leader that was to hand over a moment ago keeps the lead for a minute
			for _, e := range first.Status().Environments {
				if e.Commit != repo.Head() {
					return fmt.Errorf("%s is not activated after a jump of %s", what, off)
				}
				if astray := time.Since(e.Activated); astray < -time.Minute || astray > 2*time.Minute {
					t.Errorf("ring time was led astray by a jump of %s: commit %.12s was activated at %s", off, e.Commit, e.Activated)
				}
			}
			return nil
		})
		first.Eventually(90*time.Second, func() error {
			name, err := first.leads()
			if err == nil && name == leader.name {
				err = fmt.Errorf("%s leads still, with its clock %s off", name, off)
			}
			return err
		})
		t.Logf("%s, whose clock was set %s off, led for another %s", leader.name, off, time.Since(at).Round(time.Millisecond))
		if _, err := rest[0].Client().CreateToken(context.Background(), time.Hour); err != nil {
			t.Errorf("no machine can join after a jump of %s: %v", off, err)
		}
		rest[0].setClock([]time.Duration{time.Second, -time.Second, 3 * time.Second, -2 * time.Second}[i]) // as clocks are
		watch(15 * time.Second)
		leader.setClock(0)
		watch(3 * time.Second)
		if err := r.whole(3); err != nil {
			t.Errorf("after a jump of %s: %v", off, err)
		}
	}
	for _, n := range r.nodes {
		n.setClock(0)
	}
	watch(65 * time.Second)
	minutes := int(time.Since(begun)/time.Minute) + 1
	t.Logf("the CronJob ran %d times in %s", len(runs), time.Since(begun).Round(time.Second))
	if len(runs) > minutes+1 || len(runs) < minutes-1 {
		t.Errorf("the CronJob ran %d times in %s: %v", len(runs), time.Since(begun).Round(time.Second), runs)
	}
	late := 0
	for _, at := range runs {
		if time.Since(at) < 65*time.Second {
			late++
		}
	}
	if late == 0 {
		t.Error("the CronJob fires no more")
	}
	w.ran(1)
	w.alone(t)
	if now := fmt.Sprint(r.processes("serve")); now != serving {
		t.Errorf("servers run %s, and ran %s", now, serving)
	}
	s := first.Status()
	for _, p := range s.Pods {
		if p.Restarts > 0 || strings.HasPrefix(p.Name, "web-") && p.Created.After(begun) {
			t.Errorf("pod %s was made %s and restarted %d times", p.Name, p.Created, p.Restarts)
		}
	}
}

// The clock of a machine that does not lead is five minutes ahead: `shoal nodes` says so, it gets no more pods, those that are
// there stay, and no CronJob fires twice or ahead of its time. With its clock right it gets pods again.
func TestFault_J3(t *testing.T) {
	r := newRing(t, 3).clocked().start()
	first := r.nodes[0]
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{
		"apps/web/web.cue": replicated("one"), "apps/cron/cron.yaml": fmt.Sprintf(cronYAML, "cron", "Allow", `exit, "0"`),
	})
	repo.Push("one")
	first.Eventually(60*time.Second, func() error { return first.readyOff("", "web-", 3) })
	begun := time.Now()
	leader, rest := r.around(r.leader())
	off := rest[0]
	before := podsOn(first.Status())[off.name]
	off.setClock(5 * time.Minute)
	leader.says(off.name+" gets no more pods, its clock is ", "nodes")
	t.Logf("known to the ring after %s", time.Since(begun).Round(100*time.Millisecond))
	if out, _, _ := leader.Shoal("nodes"); !strings.Contains(out, "Ready,ClockSkew") || !strings.Contains(out, off.name+" is tainted: shoal.dev/clock-skew:NoSchedule") || !strings.Contains(out, "ahead of most voters'") {
		t.Errorf("nodes:\n%s", out)
	}
	scale := func(n int) {
		t.Helper()
		repo.Write("apps/web/web.cue", strings.Replace(replicated("one"), "replicas: 3", fmt.Sprint("replicas: ", n), 1))
		repo.PushBy(leader, fmt.Sprint(n))
		leader.Eventually(60*time.Second, func() error { return leader.readyOff("", "web-", n) })
	}
	scale(7)
	web := func() (n int) {
		for _, p := range leader.Status().Pods {
			if strings.HasPrefix(p.Name, "web-") && p.Node == off.name {
				n++
			}
		}
		return n
	}
	if now := web(); now != before {
		t.Errorf("%d pods of the app are on %s, %d were", now, off.name, before)
	}
	off.setClock(0)
	leader.Eventually(60*time.Second, func() error {
		if out, _, _ := leader.Shoal("nodes"); strings.Contains(out, "ClockSkew") {
			return fmt.Errorf("nodes:\n%s", out)
		}
		return nil
	})
	scale(9)
	if now := web(); now <= before {
		t.Errorf("with its clock right %d pods are on %s, %d were", now, off.name, before)
	}
	for name, pods := range r.instances("cron") {
		var minute int64
		_, _ = fmt.Sscanf(name, "cron-%d", &minute)
		if at := time.Unix(minute*60, 0); pods != 1 || at.After(time.Now()) {
			t.Errorf("%s, of %s, ran in %d pods at %s", name, at, pods, time.Now())
		}
	}
}
