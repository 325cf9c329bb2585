package containers

import (
	"os"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/containers/containerstest"
)

// BenchmarkStart is a new pod of one container, image here: from nothing to the started process.
func BenchmarkStart(b *testing.B) {
	n := newNode(b)
	var sandbox, start, total times
	for b.Loop() {
		p := n.podOf("sleep", "1000")
		t0 := time.Now()
		n.sandbox(p)
		t1 := time.Now()
		if err := n.Start(ctx(b), n.launch(p, 0)); err != nil {
			b.Fatal(err)
		}
		sandbox.add(t1.Sub(t0))
		start.add(time.Since(t1))
		total.add(time.Since(t0))
		b.StopTimer()
		if err := n.RemoveSandbox(ctx(b), p.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	sandbox.report(b, "sandbox-ms")
	start.report(b, "start-ms")
	total.report(b, "pod-ms")
}

// BenchmarkRestart is a killed container of a pod that stays: from the kill to its exit seen, and to the next
// instance's process started.
func BenchmarkRestart(b *testing.B) {
	n := newNode(b)
	p := n.run(n.podOf("sleep", "1000"))
	attempt := 0
	var seen, again times
	for b.Loop() {
		for len(n.Events()) > 0 {
			<-n.Events()
		}
		t0 := time.Now()
		if err := killMain(n.Runtime, p.ID); err != nil {
			b.Fatal(err)
		}
		for {
			<-n.Events()
			if c := n.see(p, "main"); c.State == "exited" {
				break
			}
		}
		seen.add(time.Since(t0))
		attempt++
		if err := n.Start(ctx(b), n.launch(p, attempt)); err != nil {
			b.Fatal(err)
		}
		again.add(time.Since(t0))
		b.StopTimer()
		if err := n.Remove(ctx(b), p.ID, "main", attempt-1); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	seen.report(b, "exit-seen-ms")
	again.report(b, "restart-ms")
}

// BenchmarkList is what the agent does on every event, with 100 pods.
func BenchmarkList(b *testing.B) {
	n := newNode(b)
	for range 100 {
		n.fakePod()
	}
	for b.Loop() {
		have, err := n.List(ctx(b))
		if err != nil || len(have) != 100 {
			b.Fatal(len(have), err)
		}
	}
}

// times collects durations.
type times []time.Duration

func (ts *times) add(d time.Duration) { *ts = append(*ts, d) }

func (ts times) report(b *testing.B, unit string) {
	if len(ts) == 0 {
		return
	}
	sorted := append(times(nil), ts...)
	sortTimes(sorted)
	b.ReportMetric(float64(sorted[len(sorted)/2].Microseconds())/1000, unit)
}

// BenchmarkFloor is what the bare containerd client takes for one container, without a pod around it.
func BenchmarkFloor(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	f := containerstest.OpenFloor(b)
	var start times
	for b.Loop() {
		took, remove, err := f.Start(ctx(b))
		if err != nil {
			b.Fatal(err)
		}
		start.add(took)
		b.StopTimer()
		if err := remove(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	start.report(b, "start-ms")
}
