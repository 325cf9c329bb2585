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

// A machine of a ring goes down with 10 s allowed, as its shutdown unit has it, under requests to the others: none fails, for its
// endpoints leave first; every container is told to stop and may do so; nothing of it runs when that is over, though the agent
// is still there, and starts nothing. After the boot all pods are as they were: none has failed, and a restart is counted for no container
// but those that came back with the machine, and for these one.
func TestFault_U6_MachineGoesDown(t *testing.T) {
	r := newRing(t, 3).start()
	first, n := r.nodes[0], r.nodes[1]
	first.Image("probe:v1")
	first.Repository(map[string]string{
		"apps/web/web.cue": replicated("one"),
		"apps/one/one.cue": beatingApp,
		"apps/trap/trap.yaml": `apiVersion: v1
kind: Pod
metadata: {name: trap}
spec:
  nodeSelector: {kubernetes.io/hostname: n2}
  containers:
  - {name: trap, image: shoal.local/probe:v1, args: [trap, -linger, 1s, -code, "3"]}
  - {name: deaf, image: shoal.local/probe:v1, args: [trap, -ignore]}
`,
	}).Push("one")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 5) })
	n.Stop()
	s := n.install().run()
	r.settled(5)
	uid := ""
	for _, p := range first.Status().Pods {
		if p.Name == "trap" {
			uid = p.UID
		}
	}
	n.mark = n.instance()
	var loads []*load
	for _, other := range []*Node{first, r.nodes[2]} {
		loads = append(loads, other.load("http://"+other.address+":30080/readyz", 4))
	}
	time.Sleep(500 * time.Millisecond)
	begun := time.Now()
	if out, err := n.command(context.Background(), s.down[0], s.down[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(s.down, " "), err, out)
	}
	took := time.Since(begun)
	t.Logf("down after %s", took.Round(10*time.Millisecond))
	if took > 15*time.Second {
		t.Errorf("it took %s of 10 s", took)
	}
	still := append(append(n.running("serve"), n.running("trap")...), n.running("lines")...)
	if len(still) > 0 {
		t.Errorf("still running: %v", still)
	}
	first.Eventually(20*time.Second, func() error { return first.readyOff("n2", "web-", 3) })
	first.Eventually(20*time.Second, func() error { return first.readyOff("n2", "one-", 1) })
	if still := append(n.running("serve"), n.running("trap")...); len(still) > 0 {
		t.Errorf("started again: %v", still)
	}
	for _, l := range loads {
		l.end(t)
	}
	logs, _ := filepath.Glob(filepath.Join(n.Logs, "*_trap_"+uid, "trap", "*.log"))
	if len(logs) != 1 {
		t.Fatalf("logs of the pod: %v", logs)
	}
	if b, err := os.ReadFile(logs[0]); err != nil || !strings.Contains(string(b), "trap: got terminated") || !strings.Contains(string(b), "trap: bye") {
		t.Errorf("the container was not given its time: %q, %v", b, err)
	}

	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	n.powerOff()
	<-s.done
	n.powerOn()
	first.Eventually(60*time.Second, func() error {
		if err := r.whole(3); err != nil {
			return err
		}
		for _, p := range first.Status().Pods {
			most := 0
			if p.Node == "n2" {
				most = p.Containers // the boot
			}
			if p.Status != "Running" || p.Restarts > most || p.Ready != p.Containers || p.Name == "trap" && (p.UID != uid || p.Node != "n2") {
				return fmt.Errorf("after the boot: %+v", p)
			}
		}
		return ready(first.Status(), 5)
	})
}
