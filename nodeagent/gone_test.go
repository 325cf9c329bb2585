package nodeagent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/wire"
)

// remembering is a kernel that remembers a connection to each address it is told, answered and not.
type remembering struct {
	ring      *enginetest.Ring
	addresses []netip.Addr
	reads     int
	fails     error
	forgotten []string
}

func (r *remembering) View(f func(*cluster.State)) { f(r.ring.State) }

func (r *remembering) remembered(pods netip.Prefix) (map[wire.Flow]bool, error) {
	r.reads++
	out := map[wire.Flow]bool{}
	for _, a := range r.addresses {
		if pods.Contains(a) {
			out[wire.Flow{Pod: a}], out[wire.Flow{Pod: a, Answered: true}] = true, true
		}
	}
	return out, r.fails
}

func (r *remembering) forget(flows map[wire.Flow]bool) (uint, error) {
	for f := range flows {
		r.forgotten = append(r.forgotten, fmt.Sprint(f.Pod, f.Answered))
	}
	return uint(len(flows)), nil
}

func (r *remembering) expect(t *testing.T, w *GoneWatch, what string, reads int, want ...string) {
	t.Helper()
	r.reads, r.forgotten = 0, nil
	w.look(t.Context())
	slices.Sort(r.forgotten)
	slices.Sort(want)
	if !slices.Equal(r.forgotten, want) || r.reads != reads {
		t.Errorf("%s: forgotten %q after %d reads; want %q after %d", what, r.forgotten, r.reads, want, reads)
	}
}

// What leads to pods that are gone is forgotten, and of those on a machine that nobody reaches what they have not answered. The kernel is
// asked when pods come or go, and again where that failed.
func TestConnectionsToPodsThatAreGone(t *testing.T) {
	ring := enginetest.NewRing(t)
	ring.Up(2)
	k := &remembering{ring: ring}
	w := NewGoneWatch(GoneWatchOptions{Ledger: k, Remembered: k.remembered, Forget: k.forget, Log: slog.New(slog.DiscardHandler)})
	k.expect(t, w, "no pods", 0)

	ring.Commit("dev", strings.Replace(deployment("web"), "spec:\n", "spec:\n  replicas: 2\n", 1))
	ring.Settle()
	first, second := ring.Pods()[0], ring.Pods()[1]
	if first.Node == second.Node {
		t.Fatal("both pods are on one node")
	}
	if second.Node != enginetest.Node(2).ID {
		first, second = second, first
	}
	gone, foreign := netip.MustParseAddr("10.42.9.9"), netip.MustParseAddr("192.0.2.77")
	k.addresses = []netip.Addr{first.IP, second.IP, gone, foreign}
	k.fails = errors.New("no memory")
	k.expect(t, w, "the kernel does not answer", 1)
	k.fails = nil
	k.expect(t, w, "one is gone", 1, fmt.Sprint(gone, false), fmt.Sprint(gone, true))
	k.addresses = []netip.Addr{first.IP, second.IP}
	k.expect(t, w, "nothing has changed", 0)

	ring.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: second.Node}})
	if p, ok := ring.State.Pods().Get(second.ID); !ok || p.Lost == 0 {
		t.Fatalf("the pod of a machine that is lost: %v, %v", p, ok)
	}
	k.expect(t, w, "nobody reaches one", 1, fmt.Sprint(second.IP, false))

	ring.Commit("dev", deployment("other"))
	ring.Settle()
	if _, there := ring.State.Pods().Get(second.ID); there {
		t.Fatal("the pod that was taken away is still there")
	}
	k.expect(t, w, "both are taken away", 1, fmt.Sprint(first.IP, false), fmt.Sprint(first.IP, true), fmt.Sprint(second.IP, false), fmt.Sprint(second.IP, true))
}
