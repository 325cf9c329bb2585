package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// A node that starts while no other is there applies all it knew to be committed, members included.
func TestRestartWithoutAMajority(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot %t", snapshot), func(t *testing.T) {
			r := threeVoters(t, nil)
			mustAppend(t, r.node("n1"), ref("a", "", "1"))
			if snapshot {
				for _, n := range three {
					r.await("a snapshot", func() bool { return r.node(n).Snapshot() == nil }) // none while members change
				}
			}
			mustAppend(t, r.node("n2"), ref("a", "1", "2"))
			r.agree(three...)
			want, applied := dump(r.node("n3")), r.node("n3").Applied()
			for _, n := range three {
				r.kill(n)
			}
			for range 2 {
				began := time.Now()
				l := r.open("n3")
				r.await("what was committed", func() bool { return l.Applied() == applied })
				if dump(l) != want || members(l) != "n1* n2* n3*" {
					t.Errorf("%s, members %s; want %s", dump(l), members(l), want)
				}
				t.Logf("after %v", time.Since(began))
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				if _, err := l.Append(ctx, ref("a", "2", "3")); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("append without a majority: %v", err)
				}
				cancel()
				r.kill("n3")
			}
			for _, n := range three {
				r.open(n)
			}
			mustAppend(t, r.node("n3"), ref("b", "", "1"))
			r.agree(three...)
		})
	}
}

// What was queued before raft handed it over is left out then, and no snapshot is taken before raft is as far.
func TestFeedTakesEachEntryOnce(t *testing.T) {
	entries := func(from, to uint64) (logs []*raft.Log) {
		for i := from; i <= to; i++ {
			logs = append(logs, &raft.Log{Index: i})
		}
		return logs
	}
	f := feed{taken: 7, ahead: 6} // entry 7 is raft's own
	if err := f.level(); err == nil {
		t.Error("level before raft handed anything over")
	}
	if got := f.take(entries(3, 5)); len(got) != 0 || f.level() == nil {
		t.Errorf("took %d entries again, level %v", len(got), f.level())
	}
	if got := f.take(entries(6, 9)); len(got) != 2 || got[0].Index != 8 || f.level() != nil {
		t.Errorf("took %d entries, level %v", len(got), f.level())
	}
	f.restored(100)
	if got := f.take(entries(101, 102)); len(got) != 2 || f.level() != nil {
		t.Errorf("took %d entries behind a snapshot, level %v", len(got), f.level())
	}
}

// After a power loss the page with the commit index may be older than the log, which has it too.
func TestCommitIndexIsInTheLogToo(t *testing.T) {
	r := threeVoters(t, nil)
	for n := range 10 {
		mustAppend(t, r.node("n1"), ref(fmt.Sprint(n), "", "1"))
	}
	r.agree(three...)
	applied := r.node("n3").Applied()
	for _, n := range three {
		r.kill(n)
	}
	page := filepath.Join(r.dir, "n3", "committed")
	for _, b := range [][]byte{make([]byte, 8), []byte("garbage!")} {
		write(t, page, b)
		l := r.open("n3")
		r.await("what the log knows", func() bool { return l.Applied() >= applied-4 }) // it may lag, by as much as was under way
		r.kill("n3")
	}
}

// fetching gives every node a way to the blobs of the others, which breaks while broken says so.
func fetching(r **testRing, broken func(node place.NodeID) bool, edit func(*Options[*toy, string])) func(place.NodeID, *Options[*toy, string]) {
	return func(n place.NodeID, o *Options[*toy, string]) {
		o.Fetch = func(_ context.Context, from place.NodeID, blobs []desired.Digest) error {
			if broken(n) {
				return errors.New("connection reset")
			}
			(*r).mu.Lock()
			theirs, mine := (*r).nodes[from].content, (*r).nodes[n].content
			(*r).mu.Unlock()
			for _, d := range blobs {
				b, err := theirs.Get(d)
				if err != nil {
					return err
				}
				mine.put(d, b)
			}
			return nil
		}
		edit(o)
	}
}

func digest(n int) desired.Digest { return desired.Digest(fmt.Sprintf("%064x", n)) }

// TestFault_L10 brings a node that is far behind to the others' state by a snapshot, while it crashes twice before it
// has the blobs. Until it has them its state stays what it was.
func TestFault_L10(t *testing.T) {
	var r *testRing
	var mu sync.Mutex
	broken := true
	r = threeVoters(t, fetching(&r, func(n place.NodeID) bool {
		mu.Lock()
		defer mu.Unlock()
		return broken && n == "n3"
	}, func(o *Options[*toy, string]) { o.SnapshotEntries, o.SegmentSize = 40, 64<<10 }))
	mustAppend(t, r.node("n1"), ref("a", "", "old"))
	r.agree(three...)
	before := dump(r.node("n3"))
	r.cut("n3", true)
	r.leader()
	for n := range 5 {
		for _, has := range []place.NodeID{"n1", "n2"} {
			r.nodes[has].content.put(digest(n), []byte("blob"))
		}
		mustAppend(t, r.node("n1"), ref(fmt.Sprintf("blob/%d", n), "", string(digest(n))))
	}
	for n := range 200 { // two snapshots, and the log cut behind the older one
		mustAppend(t, r.node("n2"), ref(fmt.Sprint(n), "", strings.Repeat("1", 2000)))
	}
	last, err := r.node("n3").disk.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	r.await("the log to be cut", func() bool {
		var l raft.Log
		return r.node("n1").disk.read(last+1, &l) != nil && r.node("n2").disk.read(last+1, &l) != nil
	})

	r.cut("n3", false)
	r.await("a snapshot to wait for its blobs", func() bool { return r.node("n3").Stalled() != "" })
	if got := dump(r.node("n3")); got != before {
		t.Errorf("without the blobs the state is %s, want %s", got, before)
	}
	for range 2 {
		r.kill("n3")
		l := r.open("n3")
		if l.ref("blob/0") != string(digest(0)) {
			t.Errorf("after the crash the snapshot is not the state: %s", dump(l))
		}
		time.Sleep(20 * time.Millisecond)
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	r.agree(three...)
	r.await("the blobs", func() bool { return r.nodes["n3"].content.Has(digest(4)) })
	mustAppend(t, r.node("n3"), ref("z", "", "1"))
	r.agree(three...)
}

// A node that gets a snapshot in place of its own entry tells its Append so, and not what Step says of a repetition.
func TestPassedOver(t *testing.T) {
	var r *testRing
	var cut sync.Once
	r = threeVoters(t, func(n place.NodeID, o *Options[*toy, string]) {
		o.SnapshotEntries, o.SegmentSize = 40, 64<<10
		o.Forward = func(ctx context.Context, leader place.NodeID, raw [][]byte) error {
			if n == "n3" {
				cut.Do(func() { r.cut("n3", true) }) // it neither hears of the commit nor gets the answer
			}
			return r.node(leader).Submit(ctx, n, raw)
		}
	})
	for r.leader() != "n1" {
		if err := r.node(r.leader()).StepDown(t.Context()); err != nil {
			t.Log(err)
		}
	}
	r.agree(three...)
	l, err := r.node("n3"), make(chan error)
	go func() {
		_, e := l.Append(t.Context(), ref("mine", "", "1"))
		err <- e
	}()
	r.await("the input to be committed", func() bool { return r.node("n1").ref("mine") == "1" })
	last, _ := l.disk.LastIndex()
	for n := range 200 {
		mustAppend(t, r.node("n2"), ref(fmt.Sprint(n), "", strings.Repeat("1", 2000)))
	}
	r.await("the log to be cut", func() bool {
		var l raft.Log
		return r.node("n1").disk.read(last+1, &l) != nil && r.node("n2").disk.read(last+1, &l) != nil
	})
	r.cut("n3", false)
	if e := <-err; !errors.Is(e, ErrPassedOver) {
		t.Errorf("append: %v", e)
	}
	if l.ref("mine") != "1" {
		t.Errorf("the state is %.100s", dump(l))
	}
	r.agree(three...) // until then another snapshot may pass it over
	mustAppend(t, l, ref("z", "", "1"))
	r.agree(three...)
}

// An entry that lacks blobs on one node has them fetched, from who submitted it, and is tried again at once.
func TestMissingBlobsAreFetched(t *testing.T) {
	var r *testRing
	r = threeVoters(t, fetching(&r, func(place.NodeID) bool { return false }, func(o *Options[*toy, string]) {
		o.Machine.Step = func(s *toy, e cluster.Entry, c desired.Content) string {
			if in := e.Input.Push; in != nil && in.Refs[0].Name == "needs" {
				for n := range 3 { // one is known to be missing after the one before came
					if _, err := c.Get(digest(n)); err != nil {
						return "stalled: " + err.Error()
					}
				}
			}
			return stepToy(s, e, c)
		}
	}))
	for n := range 3 {
		r.nodes["n2"].content.put(digest(n), []byte("blob"))
	}
	began := time.Now()
	mustAppend(t, r.node("n2"), ref("needs", "", "1"))
	r.agree(three...)
	if took := time.Since(began); took > stallPause {
		t.Errorf("took %v", took)
	}
}
