package probes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var web = Key{Pod: "p1", Container: "web"}

func spec(t testing.TB, text string) *corev1.Container {
	t.Helper()
	c := &corev1.Container{Name: "web"}
	if err := yaml.UnmarshalStrict([]byte(text), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// story runs a container with exec probes in a bubble with its own time. healthy says what a command answers at
// a time since the start; the story is every change of the result, and how often each command ran.
func story(t *testing.T, container string, length time.Duration, healthy func(command string, at time.Duration) bool, change ...func(p *Prober, at time.Duration, target Target)) string {
	t.Helper()
	var b strings.Builder
	var told []string // what was last said at each moment
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		runs := map[string]int{}
		p := New(Options{Exec: func(ctx context.Context, _ Key, _ string, command []string) (int, []byte, error) {
			mu.Lock()
			runs[command[0]]++
			mu.Unlock()
			at := time.Since(start)
			switch {
			case command[0] == "hang":
				<-ctx.Done()
				return 0, nil, ctx.Err()
			case command[0] == "broken":
				return 0, nil, errors.New("no runtime")
			case !healthy(command[0], at):
				return 1, []byte("not well"), nil
			}
			return 0, nil, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		target := Target{ID: "i1", Started: start, IP: netip.MustParseAddr("10.0.0.1"), Container: spec(t, container)}
		p.Set(map[Key]Target{web: target})
		var last string
		var when time.Duration = -1
		for time.Since(start) < length {
			select {
			case <-p.Events():
			case <-time.After(700 * time.Millisecond): // meets no probe's beat
				for _, c := range change {
					c(p, time.Since(start), target)
				}
			}
			r := p.Results()[web]
			now := fmt.Sprintf("started=%t ready=%t", r.Started, r.Ready)
			if r.Failed != "" {
				now += " failed=" + string(r.Failed)
			}
			if r.Grace != nil {
				now += fmt.Sprintf(" grace=%d", *r.Grace)
			}
			if r.Message != "" {
				now += " (" + r.Message + ")"
			}
			if now != last {
				if when == time.Since(start) {
					told = told[:len(told)-1]
				}
				when = time.Since(start)
				told = append(told, fmt.Sprintf("%v %s\n", when, now))
				last = now
			}
		}
		cancel()
		<-ended
		b.WriteString(strings.Join(told, ""))
		for _, command := range []string{"start", "ready", "live", "hang", "broken"} {
			if runs[command] > 0 {
				fmt.Fprintf(&b, "%s ran %d times\n", command, runs[command])
			}
		}
	})
	return b.String()
}

func always(string, time.Duration) bool { return true }
func never(string, time.Duration) bool  { return false }

// after is healthy from a time on.
func after(d time.Duration) func(string, time.Duration) bool {
	return func(_ string, at time.Duration) bool { return at >= d }
}

func TestStories(t *testing.T) {
	for _, c := range []struct {
		name, container string
		length          time.Duration
		healthy         func(string, time.Duration) bool
		want            string
	}{
		{"without probes", "{}", 5 * time.Second, always, `
0s started=true ready=true`},
		{"ready at once", "readinessProbe: {exec: {command: [ready]}, periodSeconds: 10}", 25 * time.Second, always, `
0s started=true ready=true
ready ran 3 times`},
		{"ready soon after it can be", "readinessProbe: {exec: {command: [ready]}, periodSeconds: 10}", 35 * time.Second, after(600 * time.Millisecond), `
0s started=true ready=false (readiness probe failed: exit code 1: not well)
750ms started=true ready=true
ready ran 6 times`},
		{"never ready: quick tries end", "readinessProbe: {exec: {command: [ready]}, periodSeconds: 10, failureThreshold: 3}", 95 * time.Second, never, `
0s started=true ready=false (readiness probe failed: exit code 1: not well)
ready ran 16 times`},
		{"initial delay is kept", "readinessProbe: {exec: {command: [ready]}, initialDelaySeconds: 7, periodSeconds: 5}", 14 * time.Second, always, `
0s started=true ready=false
7s started=true ready=true
ready ran 2 times`},
		{"two successes in a row, a period apart", "readinessProbe: {exec: {command: [ready]}, periodSeconds: 5, successThreshold: 2}", 20 * time.Second, after(400 * time.Millisecond), `
0s started=true ready=false (readiness probe failed: exit code 1: not well)
5.75s started=true ready=true
`},
		{"liveness fails at its threshold, no sooner", "livenessProbe: {exec: {command: [live]}, periodSeconds: 10, failureThreshold: 3, terminationGracePeriodSeconds: 4}", 60 * time.Second, never, `
0s started=true ready=true
20s started=true ready=true failed=liveness grace=4 (liveness probe failed: exit code 1: not well)
live ran 3 times`},
		{"startup holds the others back", `{startupProbe: {exec: {command: [start]}, periodSeconds: 10, failureThreshold: 5}, livenessProbe: {exec: {command: [live]}, periodSeconds: 10}, readinessProbe: {exec: {command: [ready]}, periodSeconds: 10}}`, 45 * time.Second, func(command string, at time.Duration) bool { return command != "start" || at >= 22*time.Second }, `
0s started=false ready=false (startup probe failed: exit code 1: not well)
30s started=true ready=true
start ran 10 times
ready ran 2 times
live ran 2 times`},
		{"startup never: killed after threshold times period, quick tries do not count", "startupProbe: {exec: {command: [start]}, periodSeconds: 10, failureThreshold: 3}", 60 * time.Second, never, `
0s started=false ready=false (startup probe failed: exit code 1: not well)
20s started=false ready=false failed=startup (startup probe failed: exit code 1: not well)
start ran 9 times`},
		{"a command that hangs has failed", "livenessProbe: {exec: {command: [hang]}, periodSeconds: 10, timeoutSeconds: 2, failureThreshold: 2}", 30 * time.Second, always, `
0s started=true ready=true
12s started=true ready=true failed=liveness (liveness probe failed: the command did not end in time)
hang ran 2 times`},
		{"an attempt that cannot be made says nothing", "livenessProbe: {exec: {command: [broken]}, periodSeconds: 1, failureThreshold: 1}", 10 * time.Second, always, `
0s started=true ready=true
broken ran 11 times`},
		{"unready and ready again", "readinessProbe: {exec: {command: [ready]}, periodSeconds: 1, failureThreshold: 2}", 20 * time.Second, func(_ string, at time.Duration) bool { return at < 4500*time.Millisecond || at > 9500*time.Millisecond }, `
0s started=true ready=true
6s started=true ready=false (readiness probe failed: exit code 1: not well)
10s started=true ready=true
ready ran 21 times`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := story(t, c.container, c.length, c.healthy)
			want := strings.TrimPrefix(c.want, "\n")
			if strings.HasSuffix(want, "\n") { // counts are not part of this story
				got, _, _ = strings.Cut(got, "ready ran")
			} else {
				got = strings.TrimSuffix(got, "\n")
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestNewInstanceStartsOver: after a failed liveness probe a new instance is probed afresh.
func TestNewInstanceStartsOver(t *testing.T) {
	replaced := false
	got := story(t, "livenessProbe: {exec: {command: [live]}, periodSeconds: 1, failureThreshold: 2}", 8*time.Second,
		func(_ string, at time.Duration) bool { return at > 1500*time.Millisecond },
		func(p *Prober, at time.Duration, target Target) {
			if p.Results()[web].Failed != "" && !replaced {
				replaced = true
				target.ID, target.Started = "i2", time.Now()
				p.Set(map[Key]Target{web: target})
			}
		})
	const want = `0s started=true ready=true
1s started=true ready=true failed=liveness (liveness probe failed: exit code 1: not well)
1.7s started=true ready=true
live ran 9 times
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestRestartedAgentKeepsReady: an instance that was known ready stays so until a probe says otherwise.
func TestRestartedAgentKeepsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs []time.Duration
		start := time.Now()
		p := New(Options{Exec: func(context.Context, Key, string, []string) (int, []byte, error) {
			runs = append(runs, time.Since(start))
			return 0, nil, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		p.Set(map[Key]Target{web: {
			ID: "i1", Started: start.Add(-33 * time.Second), Known: &Result{Started: true, Ready: true},
			Container: spec(t, "readinessProbe: {exec: {command: [ready]}, periodSeconds: 10}"),
		}})
		<-p.Events()
		if r := p.Results()[web]; !r.Ready || r.ID != "i1" {
			t.Errorf("got %+v", r)
		}
		time.Sleep(20 * time.Second)
		cancel()
		<-ended
		if got := fmt.Sprint(runs); got != "[7s 17s]" {
			t.Errorf("probed at %s", got)
		}
	})
}

// TestRestartedAgentGoesOnProbing: what was known to be not ready yet is asked at once, whatever the probes are.
func TestRestartedAgentGoesOnProbing(t *testing.T) {
	for _, container := range []string{
		"readinessProbe: {exec: {command: [ready]}, periodSeconds: 10}",
		"{startupProbe: {exec: {command: [start]}, periodSeconds: 10}, readinessProbe: {exec: {command: [ready]}, periodSeconds: 10}}",
		"startupProbe: {exec: {command: [start]}, periodSeconds: 10}",
		"livenessProbe: {exec: {command: [live]}, periodSeconds: 10}",
		"{}",
	} {
		synctest.Test(t, func(t *testing.T) {
			p := New(Options{Exec: func(context.Context, Key, string, []string) (int, []byte, error) { return 0, nil, nil }})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			p.Set(map[Key]Target{web: {ID: "i1", Started: time.Now().Add(-33 * time.Second), Known: &Result{}, Container: spec(t, container)}})
			time.Sleep(time.Second)
			if r := p.Results()[web]; !r.Started || !r.Ready {
				t.Errorf("%s: %+v", container, r)
			}
			cancel()
			<-ended
		})
	}
}

// TestStoppingIsNotKilled: a pod that was told to end is asked for readiness only.
func TestStoppingIsNotKilled(t *testing.T) {
	got := story(t, `{livenessProbe: {exec: {command: [live]}, periodSeconds: 2, failureThreshold: 3}, readinessProbe: {exec: {command: [ready]}, periodSeconds: 2}}`, 20*time.Second,
		func(_ string, at time.Duration) bool { return at < time.Second },
		func(p *Prober, _ time.Duration, target Target) {
			target.Stopping = true
			p.Set(map[Key]Target{web: target})
		})
	if strings.Contains(got, "failed=") || !strings.Contains(got, "live ran 1 times") {
		t.Errorf("got\n%s", got)
	}
}

// TestFault_C3: exec attempts that hang take their own places; network probes and the rest go on.
func TestFault_C3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		under, most := 0, 0
		p := New(Options{ExecAtOnce: 4, Exec: func(ctx context.Context, _ Key, _ string, _ []string) (int, []byte, error) {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			under--
			mu.Unlock()
			return 0, nil, ctx.Err()
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		targets := map[Key]Target{}
		c := spec(t, "livenessProbe: {exec: {command: [x]}, periodSeconds: 1, failureThreshold: 1}")
		for i := range 100 {
			targets[Key{Pod: "p", Container: fmt.Sprint(i)}] = Target{ID: "x", Started: time.Now(), Container: c}
		}
		p.Set(targets)
		time.Sleep(30 * time.Second)
		failed := 0
		for _, r := range p.Results() {
			if r.Failed == Liveness {
				failed++
			}
		}
		if most != 4 || failed != 100 {
			t.Errorf("%d at once, %d of 100 were told apart", most, failed)
		}
		cancel()
		<-ended
	})
}

// TestForgottenWhileAsked: a container that is gone when its answer comes leaves no result.
func TestForgottenWhileAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Exec: func(ctx context.Context, _ Key, _ string, _ []string) (int, []byte, error) {
			<-ctx.Done()
			return 0, nil, ctx.Err()
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx) }()
		p.Set(map[Key]Target{web: {ID: "i1", Started: time.Now(), Container: spec(t, "readinessProbe: {exec: {command: [x]}, timeoutSeconds: 60}")}})
		synctest.Wait()
		p.Set(nil)
		synctest.Wait()
		if n := len(p.Results()); n != 0 {
			t.Errorf("%d results", n)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// BenchmarkBeat is the cost of one round of 1,000 readiness probes that answer at once.
func BenchmarkBeat(b *testing.B) {
	answered := make(chan struct{}, 4096)
	p := New(Options{ExecAtOnce: 64, Exec: func(context.Context, Key, string, []string) (int, []byte, error) {
		answered <- struct{}{}
		return 0, nil, nil
	}})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	c := spec(b, "readinessProbe: {exec: {command: [x]}, periodSeconds: 3600}")
	round := 0
	for b.Loop() {
		round++
		targets := make(map[Key]Target, 1000)
		for i := range 1000 {
			targets[Key{Pod: "p", Container: fmt.Sprint(i)}] = Target{ID: fmt.Sprint(round), Started: time.Now(), Container: c}
		}
		p.Set(targets)
		for range 1000 {
			<-answered
		}
	}
	cancel()
	<-ended
}
