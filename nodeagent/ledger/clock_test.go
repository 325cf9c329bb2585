package ledger

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
)

// A clock that is set back slows ring time down; it neither goes back nor stands still, and it meets the clock again.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var off time.Duration
		c := clock{now: func() time.Time { return time.Now().Add(off) }}
		start := time.Now().UnixMilli()
		read := func() int64 { return c.read() - start }
		var story []string
		say := func(what string) { story = append(story, fmt.Sprintf("%s: %d s", what, read()/1000)) }

		c.advance(c.read())
		time.Sleep(10 * time.Second)
		say("after 10 s")
		c.advance(c.read())
		off = -time.Hour
		say("set back by an hour")
		time.Sleep(time.Minute)
		say("a minute later")
		time.Sleep(59 * time.Minute)
		c.advance(c.read())
		say("an hour later")
		time.Sleep(time.Hour)
		say("two hours later")
		time.Sleep(time.Hour)
		say("three hours later")
		c.advance(c.read() + 1000_000)
		say("an entry from a leader 1000 s ahead")
		time.Sleep(1000 * time.Second)
		say("1000 s later")
		time.Sleep(1500 * time.Second)
		say("2500 s later")
		want := []string{
			"after 10 s: 10 s", "set back by an hour: 10 s", "a minute later: 40 s", "an hour later: 1810 s",
			"two hours later: 3610 s", "three hours later: 7210 s",
			"an entry from a leader 1000 s ahead: 8210 s", "1000 s later: 8710 s", "2500 s later: 9710 s",
		}
		if got := strings.Join(story, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	})
}

// A clock that jumps ahead, or was ahead all the time, leads ring time nowhere unless the voters' clocks say the same; nor
// does one of which nobody has heard what they say.
func TestFault_U8_ClockAheadOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mine, others time.Duration // ahead of the bubble's
		known := true
		c := clock{now: func() time.Time { return time.Now().Add(mine) }, off: func() (time.Duration, bool) { return mine - others, known }}
		start := time.Now().UnixMilli()
		var story []string
		say := func(what string) {
			story = append(story, fmt.Sprintf("%s: %s", what, time.Duration(c.read()-start)*time.Millisecond))
		}
		c.advance(c.read())
		time.Sleep(10 * time.Second)
		say("after 10 s")
		mine = time.Hour
		say("an hour ahead of the others")
		time.Sleep(10 * time.Second)
		c.advance(c.read())
		say("10 s later")
		mine = 10 * 365 * 24 * time.Hour
		time.Sleep(time.Hour)
		say("ten years ahead, after an hour without an entry")
		mine = 3 * time.Second
		say("3 s ahead")
		known, mine, others = false, 48*time.Hour, 48*time.Hour
		say("all were off for two days, and nobody was heard of yet")
		known = true
		say("they are heard of")
		known = false
		time.Sleep(time.Minute)
		say("they are silent for a minute")
		c.advance(c.read())
		mine = -time.Hour
		say("set back")
		want := []string{
			"after 10 s: 10s", "an hour ahead of the others: 10s", "10 s later: 20s", "ten years ahead, after an hour without an entry: 1h0m20s",
			"3 s ahead: 1h0m23s", "all were off for two days, and nobody was heard of yet: 1h0m20s", "they are heard of: 49h0m20s",
			"they are silent for a minute: 49h1m20s", "set back: 49h1m20s",
		}
		if got := strings.Join(story, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	})
}

// TestClockJumps runs a ledger with a clock that jumps: ring time is what it should be (toy's step panics when it
// goes back), and what waits for a time comes.
func TestClockJumps(t *testing.T) {
	dir := t.TempDir()
	o := toyOptions(dir)
	off := make(chan time.Duration, 1)
	off <- 0
	o.Now = func() time.Time {
		d := <-off
		off <- d
		return time.Now().Add(d)
	}
	set := func(d time.Duration) { <-off; off <- d }
	l := openToy(t, o)
	for i, jump := range []time.Duration{time.Hour, -time.Hour, 10 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour, 0} {
		set(jump)
		mustAppend(t, l, ref("a", l.ref("a"), fmt.Sprint(i)))
	}
	at := l.Time() + 300
	mustAppend(t, l, cluster.Input{Retire: &cluster.Retire{Why: fmt.Sprint(at)}})
	changes, cancel := l.Subscribe()
	defer cancel()
	deadline := time.After(20 * time.Second)
	for l.Time() < at {
		select {
		case <-changes:
		case <-deadline:
			t.Fatalf("no tick: ring time %d, wake %d", l.Time(), at)
		}
	}
	was := l.Time()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openToy(t, toyOptions(dir)) // ring time is ten years ahead of this clock
	mustAppend(t, l, ref("b", "", "1"))
	if now := l.Time(); now < was || now > was+60_000 {
		t.Errorf("ring time was %d, is %d", was, now)
	}
}

// A state that wants a Tick at once, for ever, gets four a second.
func TestTicksAreAtMostFourASecond(t *testing.T) {
	o := toyOptions(t.TempDir())
	o.Machine.Step = func(s *toy, e cluster.Entry, c desired.Content) string {
		why := stepToy(s, e, c)
		s.Next = 1
		return why
	}
	l := openToy(t, o)
	time.Sleep(1600 * time.Millisecond)
	var n int
	l.View(func(s *toy) { n = s.Ticks })
	if n < 2 || n > 7 {
		t.Errorf("%d ticks in 1.6 s", n)
	}
}
