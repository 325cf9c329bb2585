package ledger

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// A node whose state differs from that of most voters halts, the leader as well as another; the others go on.
func TestFault_L7_Diverged(t *testing.T) {
	for _, wrong := range three {
		t.Run(string(wrong), func(t *testing.T) {
			var flip atomic.Bool
			r := threeVoters(t, func(n place.NodeID, o *Options[*toy, string]) {
				o.compareEvery = 20
				o.Machine.Step = func(s *toy, e cluster.Entry, c desired.Content) string {
					why := stepToy(s, e, c)
					if n == wrong && flip.Swap(false) {
						s.Chain[31] ^= 1
					}
					return why
				}
			})
			rest := without(three, wrong)
			for n := range 50 {
				mustAppend(t, r.node(rest[n%2]), ref(fmt.Sprint(n), "", "1"))
			}
			r.agree(three...)
			for _, n := range three {
				if r.node(n).Diverged() {
					t.Fatalf("node %s halted, and nothing differs", n)
				}
			}
			flip.Store(true)
			for n := 50; !r.node(wrong).Diverged(); n++ {
				mustAppend(t, r.node(rest[n%2]), ref(fmt.Sprint(n), "", "1"))
				if n == 500 {
					t.Fatalf("nobody noticed\n%s", r)
				}
			}
			l := r.node(wrong)
			if _, err := l.Append(t.Context(), ref("z", "", "1")); !errors.Is(err, ErrDiverged) || l.Leading() || l.ref("0") != "1" {
				t.Errorf("append: %v, leading %t, state %s", err, l.Leading(), dump(l))
			}
			mustAppend(t, r.node(rest[0]), ref("y", "", "1"))
			mustAppend(t, r.node(rest[1]), ref("z", "", "1"))
			r.agree(rest...)
			for _, n := range rest {
				if err := r.node(n).Err(); err != nil {
					t.Errorf("node %s: %v", n, err)
				}
			}
			r.kill(wrong) // a restart steps the log anew, rightly this time
			r.open(wrong)
			r.agree(three...)
		})
	}
}

func TestSaidIsWhatWasSaid(t *testing.T) {
	want := said{"n1", 3000, [32]byte{1, 2, 31: 3}}
	b := encodeSaid(want)
	if got, ok := decodeSaid(b); !ok || got != want {
		t.Errorf("%+v, %t", got, ok)
	}
	for n := range b {
		if got, ok := decodeSaid(b[:n]); ok {
			t.Errorf("of %d bytes: %+v", n, got)
		}
	}
	l := openToy(t, toyOptions(t.TempDir()))
	if err := l.Submit(t.Context(), "n2", [][]byte{b}); err == nil {
		t.Error("node n2 spoke for n1")
	}
	applied := l.Applied()
	if err := l.Submit(t.Context(), "n1", [][]byte{b}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, ref("a", "", "1"))
	if got := l.Applied(); got != applied+1 {
		t.Errorf("what a node says was numbered: %d entries, want %d", got, applied+1)
	}
}
