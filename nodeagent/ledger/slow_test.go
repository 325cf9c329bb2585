package ledger

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// TestFault_L6 makes the leader's disk slow, from 20 ms to 5 s a sync: what others append is acknowledged all the time with
// hardly more delay than an election takes, and a leader that is too slow leads no more.
func TestFault_L6(t *testing.T) {
	r := threeVoters(t, often)
	slow := map[place.NodeID]*atomic.Int64{}
	for _, n := range three {
		delay := &atomic.Int64{}
		slow[n] = delay
		d := r.node(n).disk
		d.mu.Lock()
		d.files.sync = func(f *os.File) error {
			time.Sleep(time.Duration(delay.Load()))
			return f.Sync()
		}
		d.mu.Unlock()
	}
	c := r.clients(2, three...)
	c.progress()
	for _, test := range []struct {
		sync  time.Duration
		leads bool // all the same
	}{
		{20 * time.Millisecond, true},
		{400 * time.Millisecond, false},
		{5 * time.Second, false},
	} {
		victim := r.leader()
		slow[victim].Store(int64(test.sync))
		begun, longest := time.Now(), time.Duration(0)
		var handed time.Duration
		for end := begun.Add(7 * time.Second); time.Now().Before(end); {
			longest = max(longest, c.progress())
			if leader, known := r.node(without(three, victim)[0]).Leader(); handed == 0 && known && leader != victim {
				handed = time.Since(begun)
			}
			if test.leads && time.Since(begun) > 2*time.Second {
				break
			}
		}
		t.Logf("%s a sync: at most %s without an acknowledgement; %s led no more after %s", test.sync, longest.Round(time.Millisecond), victim, handed.Round(time.Millisecond))
		if test.leads != (handed == 0) {
			t.Errorf("%s a sync: handed over after %s", test.sync, handed)
		}
		if longest > 4*time.Second { // 2.5 s, on a machine with nothing else to do
			t.Errorf("%s a sync: nothing was acknowledged for %s", test.sync, longest)
		}
		if test.sync > stuckAfter {
			if _, leads := r.node(victim).Leadership(); leads {
				if _, _, err := r.node(victim).Verify(t.Context()); err == nil {
					t.Error("a leader whose disk hangs proves that it leads")
				}
			}
		}
		slow[victim].Store(0)
		r.await("it to follow again", func() bool { return !r.node(victim).disk.pace.stuck() })
	}
	c.end(three...)
}

// A leader that handed over because of its disk keeps the lead for a while if it is elected again; one write that took long,
// and writes of long ago, are no reason.
func TestPace(t *testing.T) {
	var p pace
	write := func(ago, long time.Duration) {
		p.last[p.next] = took{time.Now().Add(-ago), long}
		p.next = (p.next + 1) % paceOf
	}
	var said []string
	say := func() {
		word := "well"
		if long, slow := p.slow(); slow {
			word = long.String()
		}
		said = append(said, word)
	}
	say()
	for range 4 {
		write(time.Second, 300*time.Millisecond)
	}
	say() // too few
	write(time.Second, time.Millisecond)
	say()
	for range 3 {
		write(time.Second, time.Millisecond)
	}
	say()
	for range 5 {
		write(2*time.Minute, time.Second)
	}
	say()
	if got, want := strings.Join(said, " "), "well well 300ms well well"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if p.stuck() {
		t.Error("no write is under way")
	}
	end := p.begin()
	p.mu.Lock()
	p.begun = p.begun.Add(-2 * stuckAfter)
	p.mu.Unlock()
	if !p.stuck() {
		t.Error("it hangs")
	}
	end()
	if p.stuck() {
		t.Error("it is over")
	}
}
