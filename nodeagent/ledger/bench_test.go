package ledger

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

func quiet(dir string) Options[*toy, string] {
	o := toyOptions(dir)
	o.Machine.Step = stepFast
	return o
}

// BenchmarkAppend is one input after the other, each waited for, beside a bare write and fsync of as many bytes.
func BenchmarkAppend(b *testing.B) {
	l := openToy(b, quiet(b.TempDir()))
	var took []time.Duration
	n := 0
	for b.Loop() {
		n++
		at := time.Now()
		mustAppend(b, l, ref("a", "", fmt.Sprint(n)))
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*9/10].Microseconds()), "p90-µs")
}

// BenchmarkFsync is the floor of BenchmarkAppend.
func BenchmarkFsync(b *testing.B) {
	f, err := allocate(b.TempDir()+"/f", 64<<20, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var took []time.Duration
	buf := make([]byte, 200)
	for i := range buf {
		buf[i] = byte(i)
	}
	for b.Loop() {
		at := time.Now()
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
}

// BenchmarkAppendMany is many inputs at once.
func BenchmarkAppendMany(b *testing.B) {
	for _, many := range []int{8, 64, 256} {
		b.Run(fmt.Sprint(many), func(b *testing.B) {
			l := openToy(b, quiet(b.TempDir()))
			b.ResetTimer()
			var wg sync.WaitGroup
			for g := range many {
				wg.Go(func() {
					for range (b.N + many - 1) / many {
						mustAppend(b, l, ref(fmt.Sprint(g), "", "x"))
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkOpen is a restart with a log of 2,000 entries.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	l := openToy(b, quiet(dir))
	for n := range 2000 {
		mustAppend(b, l, ref("a", "", fmt.Sprint(n)))
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := Open(b.Context(), quiet(dir))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkIdle reports what a ledger that nobody uses costs.
func BenchmarkIdle(b *testing.B) {
	openToy(b, toyOptions(b.TempDir()))
	time.Sleep(time.Second)
	for b.Loop() {
		before, at := cpu(b), time.Now()
		time.Sleep(5 * time.Second)
		b.ReportMetric(float64(cpu(b)-before)/float64(time.Since(at))*100, "%core")
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
