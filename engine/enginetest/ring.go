package enginetest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// Epoch is ring time when a test's ring begins: 2026-01-01 00:00:00 UTC, ms.
const Epoch int64 = 1_767_225_600_000

// Ring is a ring with its log, stepped by hand.
type Ring struct {
	T       testing.TB
	State   *cluster.State
	Content Store
	Log     []cluster.Entry
	Now     int64 // ring time of the next entry
	commits int
}

// NewRing begins a ring without nodes.
func NewRing(t testing.TB) *Ring {
	r := &Ring{T: t, State: cluster.NewState(), Content: Store{}, Now: Epoch}
	r.Must(cluster.Input{Genesis: Genesis()})
	return r
}

// RingOf begins a ring of so many nodes that runs an engine version.
func RingOf(t testing.TB, engine, nodes int) *Ring {
	r := &Ring{T: t, State: cluster.NewState(), Content: Store{}, Now: Epoch}
	genesis := Genesis()
	genesis.Engine = engine
	r.Must(cluster.Input{Genesis: genesis})
	r.Up(nodes)
	return r
}

// Genesis is that of every test's ring.
func Genesis() *cluster.Genesis {
	return &cluster.Genesis{
		Ring: "0123456789abcdef0123456789abcdef", PodCIDR: netip.MustParsePrefix("10.42.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"), Domain: "cluster.local", Engine: cluster.EngineVersion,
	}
}

// Node is a machine with 4 cores, 8 GiB and room for 110 pods.
func Node(n int) *cluster.NodeUp {
	return &cluster.NodeUp{
		ID: place.NodeID(fmt.Sprintf("%016x", n)), Name: fmt.Sprintf("n%d", n), Key: "a2V5", Arch: "amd64", Engine: cluster.EngineVersion,
		Address:  netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}),
		Capacity: place.Resources{MilliCPU: 4000, Memory: 8 << 30, Ephemeral: 100 << 30, Pods: 110},
	}
}

// Step appends an input and steps it, by way of its JSON as the ledger does.
func (r *Ring) Step(in cluster.Input) cluster.Outcome {
	r.T.Helper()
	e := Reread(r.T, cluster.Entry{Index: uint64(len(r.Log)) + 1, Time: r.Now, Input: in})
	r.Log = append(r.Log, e)
	return cluster.Step(r.State, e, r.Content)
}

// Reread is the entry as its JSON decodes.
func Reread(t testing.TB, e cluster.Entry) cluster.Entry {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var out cluster.Entry
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Must steps an input that is to be taken.
func (r *Ring) Must(in cluster.Input) cluster.Outcome {
	r.T.Helper()
	out := r.Step(in)
	if out.Rejected != "" {
		r.T.Fatalf("%s: rejected: %s", in, out.Rejected)
	}
	return out
}

// Up adds n nodes.
func (r *Ring) Up(n int) {
	r.T.Helper()
	for i := range n {
		r.Must(cluster.Input{NodeUp: Node(i + 1)})
	}
}

// Activation is the input that makes the objects of a YAML text those of an environment.
func (r *Ring) Activation(environment, text string) cluster.Input {
	r.commits++
	var previous desired.Digest
	if env, ok := r.State.Environments().Get(environment); ok {
		previous = env.D
	}
	d, err := r.Content.Manifest(environment, text)
	if err != nil {
		r.T.Helper()
		r.T.Fatal(err)
	}
	return cluster.Input{Activate: &cluster.Activate{
		Environment: environment, Namespace: environment, Ref: "refs/heads/main", Previous: previous,
		Commit: source.ID(fmt.Sprintf("%040x", r.commits)), Tree: source.ID(d[:40]), D: d,
	}}
}

// Commit activates the objects of a YAML text.
func (r *Ring) Commit(environment, text string) cluster.Outcome {
	r.T.Helper()
	return r.Must(r.Activation(environment, text))
}

// Advance lets ring time pass, with a Tick whenever one is due.
func (r *Ring) Advance(seconds int64) {
	r.T.Helper()
	end := r.Now + seconds*1000
	for range 100_000 {
		wake := r.State.Wake()
		if wake == 0 || wake > end {
			r.Now = end
			return
		}
		r.Now = max(r.Now, wake)
		r.Must(cluster.Input{Tick: &cluster.Tick{}})
	}
	r.T.Fatal("more than 100,000 ticks")
}

// Report is a node's report that a pod is in a phase.
func Report(p *control.Pod, phase corev1.PodPhase, ready bool) cluster.Input {
	s := corev1.PodStatus{Phase: phase}
	if ready {
		s.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return cluster.Input{From: cluster.From{Node: p.Node}, Phase: &cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Status: s}}
}

// Gone is a node's report that nothing is left of a pod.
func Gone(p *control.Pod) cluster.Input {
	return cluster.Input{From: cluster.From{Node: p.Node}, Phase: &cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Removed: true}}
}

// Settle plays a node on which all goes well at once: pods that are to run become ready, pods that are to stop
// are gone, until nothing changes.
func (r *Ring) Settle() {
	r.T.Helper()
	for range 1000 {
		moved := false
		for _, p := range r.Pods() {
			switch {
			case p.Node == "":
			case p.Deleting != 0:
				r.Must(Gone(p))
				moved = true
			case p.Ready == 0 && p.Finished == 0:
				r.Must(Report(p, corev1.PodRunning, true))
				moved = true
			}
		}
		if !moved {
			return
		}
	}
	r.T.Fatal("the ring does not settle")
}

// Pods are all pods by name.
func (r *Ring) Pods() []*control.Pod {
	pods := slices.Collect(r.State.Pods().Values())
	slices.SortFunc(pods, func(a, b *control.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return pods
}
