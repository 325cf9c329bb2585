package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
)

func TestOpenBeginsWithGenesis(t *testing.T) {
	l := openToy(t, toyOptions(t.TempDir()))
	if got := l.Applied(); got != 1 {
		t.Errorf("applied %d, want 1: Genesis", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), ref("a", "", "1")); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

func TestReplayGivesTheSameState(t *testing.T) {
	dir := t.TempDir()
	l := openToy(t, toyOptions(dir))
	for n := range 20 {
		mustAppend(t, l, ref("a", strings.Repeat("x", n), strings.Repeat("x", n+1)))
	}
	if o, err := l.Append(t.Context(), ref("a", "stale", "1")); err != nil || o != "stale" {
		t.Fatalf("outcome %q, %v, want stale", o, err)
	}
	want, applied := dump(l), l.Applied()
	for range 3 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openToy(t, toyOptions(dir))
		if got := dump(l); got != want || l.Applied() != applied {
			t.Fatalf("after a restart\n%s entry %d\nbefore\n%s entry %d", got, l.Applied(), want, applied)
		}
	}
}

func TestSnapshotAndReplayGiveTheSameState(t *testing.T) {
	dir := t.TempDir()
	o := toyOptions(dir)
	o.SnapshotEntries, o.SegmentSize = 25, 64<<10
	l := openToy(t, o)
	for n := range 400 {
		mustAppend(t, l, ref(fmt.Sprintf("k%d", n%7), l.ref(fmt.Sprintf("k%d", n%7)), strings.Repeat(fmt.Sprint(n%10), 1000)))
	}
	want := dump(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o = toyOptions(dir)
	o.SegmentSize = 64 << 10
	stepped := 0
	o.Machine.Step = countSteps(&stepped)
	l = openToy(t, o)
	if got := dump(l); got != want {
		t.Errorf("after a restart\n%.200s\nbefore\n%.200s", got, want)
	}
	if stepped > 100 {
		t.Errorf("%d entries were stepped again, want those after the last snapshot only", stepped)
	}
	if first, err := l.disk.FirstIndex(); err != nil || first < 300 {
		t.Errorf("log begins at %d (%v), want it cut behind the older snapshot", first, err)
	}
}

func (l *Ledger[S, O]) ref(name string) (v string) {
	l.View(func(s S) { v = any(s).(*toy).Refs[name] })
	return v
}

func TestConcurrentAppendsKeepTheirOrder(t *testing.T) {
	l := openToy(t, toyOptions(t.TempDir()))
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			for n := range 25 {
				o, err := l.Append(t.Context(), ref(fmt.Sprintf("g%d", g), old(n), fmt.Sprint(n)))
				if err != nil || o != "" {
					t.Errorf("append: %q %v", o, err)
				}
			}
		})
	}
	wg.Wait()
	if got := l.Applied(); got != 501 {
		t.Errorf("applied %d entries, want 501", got)
	}
}

func old(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n - 1)
}

func TestTickComesWhenItIsDueAndOnlyThen(t *testing.T) {
	l := openToy(t, toyOptions(t.TempDir()))
	ticks := func() (n int) {
		l.View(func(s *toy) { n = s.Ticks })
		return n
	}
	time.Sleep(700 * time.Millisecond)
	if n := ticks(); n != 0 {
		t.Fatalf("%d ticks while nothing was due", n)
	}
	at := time.Now().Add(400 * time.Millisecond)
	mustAppend(t, l, cluster.Input{Retire: &cluster.Retire{Why: fmt.Sprint(at.UnixMilli())}})
	deadline := time.After(10 * time.Second)
	changes, cancel := l.Subscribe()
	defer cancel()
	for ticks() == 0 {
		select {
		case <-changes:
		case <-deadline:
			t.Fatal("no tick")
		}
	}
	if now := time.Now(); now.Before(at) {
		t.Errorf("tick came %v early", at.Sub(now))
	}
	time.Sleep(600 * time.Millisecond)
	if n := ticks(); n != 1 {
		t.Errorf("%d ticks, want 1", n)
	}
}

func TestSkippedEntryChangesNothing(t *testing.T) {
	dir := t.TempDir()
	l := openToy(t, toyOptions(dir))
	mustAppend(t, l, ref("a", "", "1"))
	mustAppend(t, l, ref("b", "", "1"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Skip(dir, 2); err != nil {
		t.Fatal(err)
	}
	l = openToy(t, toyOptions(dir))
	if got := l.ref("a") + l.ref("b"); got != "1" {
		t.Errorf("a and b are %q, want a skipped", got)
	}
	if got := fmt.Sprint(l.Rejected()); !strings.Contains(got, "skipped by hand") {
		t.Errorf("rejected: %s", got)
	}
}

func TestFault_L15_EntryTooLarge(t *testing.T) {
	l := openToy(t, toyOptions(t.TempDir()))
	_, err := l.Append(t.Context(), ref("a", "", strings.Repeat("x", 10<<20)))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("an entry of 10 MB: %v", err)
	}
	mustAppend(t, l, ref("a", "", "1"))
}

func TestAppendHonoursItsContext(t *testing.T) {
	l := openToy(t, toyOptions(t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, ref("a", "", "1")); !errors.Is(err, context.Canceled) {
		t.Errorf("append with a context that is done: %v", err)
	}
}

func countSteps(n *int) func(*toy, cluster.Entry, desired.Content) string {
	return func(s *toy, e cluster.Entry, c desired.Content) string {
		*n++
		return stepToy(s, e, c)
	}
}

func TestReplayToAnotherStateIsReported(t *testing.T) {
	dir := t.TempDir()
	fill(t, toyOptions(dir), 5)
	l := openToy(t, toyOptions(dir))
	if l.Diverged() {
		t.Error("the same state is reported to differ")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var log logs
	o := toyOptions(dir)
	o.Log = log.logger()
	o.Machine.Step = func(s *toy, e cluster.Entry, c desired.Content) string {
		why := stepToy(s, e, c)
		s.Chain[0]++ // a bug
		return why
	}
	if l := openToy(t, o); !l.Diverged() || !strings.Contains(log.String(), "differs from what it was") {
		t.Errorf("diverged %t, log %s", l.Diverged(), log.String())
	}
}

func TestCloseLetsGoOfAppends(t *testing.T) {
	o := toyOptions(t.TempDir())
	block := make(chan struct{})
	o.Machine.Step = func(s *toy, e cluster.Entry, c desired.Content) string {
		if e.Input.Push != nil {
			<-block
		}
		return stepToy(s, e, c)
	}
	l := openToy(t, o)
	errs := make(chan error)
	for range 50 {
		go func() {
			_, err := l.Append(context.Background(), ref("a", "", "1"))
			errs <- err
		}()
	}
	time.Sleep(50 * time.Millisecond)
	go func() {
		time.Sleep(50 * time.Millisecond)
		close(block)
	}()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := <-errs; err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}
