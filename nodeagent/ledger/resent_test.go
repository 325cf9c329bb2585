package ledger

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

// unheard is a transport over which the answers to entries get lost, as long as it is told so.
type unheard struct {
	voting
	lost func(to raft.ServerAddress) bool
}

func (u unheard) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	var answer raft.AppendEntriesResponse
	err := u.voting.AppendEntries(id, to, args, &answer)
	if len(args.Entries) > 0 && u.lost(to) {
		return errors.New("connection reset")
	}
	*resp = answer
	return err
}

// One by one, so that an answer is lost with each.
func (u unheard) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// TestFault_L6_AnswersLost has a node take entries without the leader hearing of it, until it has deleted what the leader
// takes it to lack. It follows all the same as soon as its answers arrive.
func TestFault_L6_AnswersLost(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool
	r := threeVoters(t, func(n place.NodeID, o *Options[*toy, string]) {
		o.SnapshotEntries = 40
		if n == "n3" { // only this one's log has more than one file: what was deleted from the last one can be read all the same
			o.SegmentSize = 64 << 10
		}
		o.Transport = unheard{o.Transport.(voting), func(to raft.ServerAddress) bool { return lost.Load() && to == "n3" }}
	})
	for n := range 50 {
		mustAppend(t, r.node("n1"), ref(fmt.Sprint("before", n), "", "x"))
	}
	behind, err := r.node("n3").disk.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	lost.Store(true)
	large := strings.Repeat("-", 1000) // so that they fill several files
	for n := range 400 {
		mustAppend(t, r.node(r.leader()), ref(fmt.Sprint("lost", n, large), "", "x"))
	}
	r.await("n3 to have deleted what it has", func() bool {
		var l raft.Log
		return errors.Is(r.node("n3").disk.GetLog(behind+50, &l), raft.ErrLogNotFound)
	})
	lost.Store(false)
	mustAppend(t, r.node(r.leader()), ref("after", "", "x"))
	r.agree(three...)
}

func TestWithoutDeleted(t *testing.T) {
	entries := func(from, to uint64) (all []*raft.Log) {
		for i := from; i <= to; i++ {
			all = append(all, &raft.Log{Index: i, Term: 7})
		}
		return all
	}
	for _, test := range []struct {
		name            string
		before          uint64
		entries         []*raft.Log
		committed       uint64
		first, given    uint64
		wantBefore      uint64
		wantFrom, wantN uint64
		wantCommitted   uint64
	}{
		{"a heartbeat", 0, nil, 0, 50, 60, 0, 0, 0, 0},
		{"nothing was deleted", 0, entries(1, 9), 9, 1, 5, 0, 1, 9, 9},
		{"no log yet", 0, entries(1, 9), 9, 0, 0, 0, 1, 9, 9},
		{"the entry before is there", 50, entries(51, 70), 69, 50, 60, 50, 51, 20, 69},
		{"the entry before was deleted", 49, entries(50, 70), 69, 50, 60, 0, 50, 21, 69},
		{"some were deleted", 40, entries(41, 70), 90, 50, 60, 0, 50, 21, 70},
		{"all were deleted", 20, entries(21, 40), 90, 50, 60, 0, 0, 0, 60},
		{"from the beginning", 0, entries(1, 55), 90, 50, 60, 0, 50, 6, 60},
		{"the log is empty", 40, entries(41, 70), 65, 0, 60, 0, 61, 10, 65},
		{"the log is empty and the snapshot is before", 60, entries(61, 70), 65, 0, 60, 0, 61, 10, 65},
		{"beyond what is here", 80, entries(81, 90), 85, 50, 60, 80, 81, 10, 85},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &raft.AppendEntriesRequest{Term: 7, PrevLogEntry: test.before, PrevLogTerm: 6, Entries: test.entries, LeaderCommitIndex: test.committed}
			was := *a
			got := withoutDeleted(a, test.first, test.given)
			if a.PrevLogEntry != was.PrevLogEntry || len(a.Entries) != len(was.Entries) || a.LeaderCommitIndex != was.LeaderCommitIndex {
				t.Error("the request itself was changed, which the leader holds")
			}
			var from uint64
			if len(got.Entries) > 0 {
				from = got.Entries[0].Index
			}
			if got.PrevLogEntry != test.wantBefore || from != test.wantFrom || uint64(len(got.Entries)) != test.wantN || got.LeaderCommitIndex != test.wantCommitted || got.Term != 7 {
				t.Errorf("before %d, %d entries from %d, committed %d", got.PrevLogEntry, len(got.Entries), from, got.LeaderCommitIndex)
			}
			if (got.PrevLogEntry == 0) != (got.PrevLogTerm == 0) && got != a {
				t.Errorf("term %d of entry %d", got.PrevLogTerm, got.PrevLogEntry)
			}
		})
	}
}
