package cluster_test

import (
	"encoding/json"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// FuzzStep steps inputs as strangers may send them, with bytes of theirs for content: whatever comes, Step does not
// panic, invariants hold, and a State that took it can be written and read.
func FuzzStep(f *testing.F) {
	r, _ := snapshot(f)
	add := func(in cluster.Input) {
		b, err := json.Marshal(in)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte("shoal manifest 1 dev\n"), int64(1000))
	}
	for _, e := range r.Log {
		add(e.Input)
	}
	add(enginetest.Report(r.Pods()[0], corev1.PodFailed, false))
	add(enginetest.Gone(r.Pods()[0]))
	add(cluster.Input{Clock: &cluster.Clock{ID: enginetest.Node(1).ID, Ahead: -7}})
	add(cluster.Input{From: cluster.From{Node: enginetest.Node(1).ID, Boot: "b", Seq: 7}, Pressure: &cluster.Pressure{Disk: "full"}})
	add(cluster.Input{Rebalance: &cluster.Rebalance{}})
	add(cluster.Input{SetEngine: &cluster.SetEngine{Version: 7}})
	add(cluster.Input{Retire: &cluster.Retire{Environment: "dev"}})
	add(tainting(1, "bad:NoExecute"))
	f.Fuzz(func(t *testing.T, input, blob []byte, ahead int64) {
		var in cluster.Input
		if json.Unmarshal(input, &in) != nil {
			return
		}
		s := r.State.Snapshot()
		content := enginetest.Store{}
		maps.Copy(content, r.Content)
		d := content.Put(blob)
		if in.Activate != nil && in.Activate.D == "" {
			in.Activate.D = d
		}
		out := cluster.Step(s, cluster.Entry{Index: s.Index() + 1, Time: s.Time() + ahead%(1<<45), Input: in}, content)
		if out.Stalled != "" && s.Hash() != r.State.Hash() {
			t.Fatalf("stalled (%s), and something changed", out.Stalled)
		}
		cluster.Step(s, cluster.Entry{Index: s.Index() + 1, Time: s.Time(), Input: cluster.Input{Tick: &cluster.Tick{}}}, content)
		if err := enginetest.Invariants(s); err != nil {
			t.Fatal(err)
		}
		if err := enginetest.Reload(s); err != nil {
			t.Fatal(err)
		}
	})
}
