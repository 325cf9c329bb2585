package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

func TestAgreement(t *testing.T) {
	commit, older := source.ID(strings.Repeat("c", 40)), source.ID(strings.Repeat("d", 40))
	vote := func(d string, held ...string) Vote {
		return Vote{Environment: "dev", Commit: commit, D: desired.Digest(strings.Repeat(d, 64)), Held: held}
	}
	for _, c := range []struct {
		name   string
		voters int
		votes  map[place.NodeID]Vote // of the others, each a second after the one before, by name
		want   string
	}{
		{"alone", 1, nil, "0s agreed"},
		{"nobody else", 3, nil, "20s 1 of 3 voters have rendered it alike: context deadline exceeded"},
		{"one more is enough", 3, map[place.NodeID]Vote{"b": vote("a")}, "1s agreed"},
		{"of two both", 2, map[place.NodeID]Vote{"b": vote("a")}, "1s agreed"},
		{"who does not vote does not count", 3, map[place.NodeID]Vote{"z": vote("a")}, "20s 1 of 3 voters have rendered it alike: context deadline exceeded"},
		{"of another commit", 3, map[place.NodeID]Vote{"b": {Environment: "dev", Commit: older, D: vote("a").D}}, "20s 1 of 3 voters have rendered it alike: context deadline exceeded"},
		{"one differs, and one agrees", 3, map[place.NodeID]Vote{"b": vote("b"), "c": vote("a")}, "2s agreed"},
		{"the leader is the one that differs", 3, map[place.NodeID]Vote{"b": vote("b"), "c": vote("b")}, "2s the voters' renders of it differ: aaaaaaaaaaaa on 1 of them, bbbbbbbbbbbb on node b, bbbbbbbbbbbb on node c"},
		{"another app is held back", 2, map[place.NodeID]Vote{"b": vote("a", "web")}, "1s the voters' renders of it differ: aaaaaaaaaaaa on 1 of them, aaaaaaaaaaaa on node b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				box, begun := NewVotes(), time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), agreeFor)
				defer cancel()
				waiting, end := context.WithCancel(context.Background())
				defer end()
				for i, n := range []place.NodeID{"b", "c", "z"} {
					if v, ok := c.votes[n]; ok {
						go func() {
							time.Sleep(time.Duration(min(i+1, 2)) * time.Second)
							d, err := box.await(waiting, n, v)
							if v.Commit == commit && (err != nil || !d.Activated) {
								t.Errorf("%s is told %+v, %v", n, d, err)
							}
						}()
					}
				}
				box.note("a", vote("a"))
				err := box.agree(ctx, vote("a"), func() []place.NodeID { return []place.NodeID{"a", "b", "c"}[:c.voters] })
				if err == nil {
					err = errors.New("agreed")
				}
				if got := fmt.Sprintf("%s %v", time.Since(begun).Round(500*time.Millisecond), err); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				box.decide("dev", commit, Decision{Activated: true})
				synctest.Wait()
			})
		})
	}
}
