package cluster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
)

const fieldsFile = "../../testdata/ledger/fields.txt"

func readFields(t *testing.T) enginetest.Fields {
	t.Helper()
	b, err := os.ReadFile(fieldsFile)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := enginetest.ReadFields(b)
	if err != nil {
		t.Fatalf("%s: %v", fieldsFile, err)
	}
	return listed
}

// A field that is new, or of another type, also of Kubernetes' own types, is listed with the engine version that brings it: older
// binaries drop it, so that it must not count before the ring runs that version.
func TestFault_U2_FieldsAreOfAVersion(t *testing.T) {
	listed, all := readFields(t), cluster.AllFields()
	for _, path := range slices.Sorted(maps.Keys(all)) {
		switch known, ok := listed[path]; {
		case !ok:
			t.Errorf("%s has no line for %s %s %d: write it there, and have it count from that engine version on (asOf)", fieldsFile, path, all[path], cluster.EngineVersion)
		case known.Type != all[path]:
			t.Errorf("%s was %s and is %s: older binaries cannot read it; give it another name", path, known.Type, all[path])
		case known.Since > cluster.EngineVersion:
			t.Errorf("%s is of version %d, this is %d", path, known.Since, cluster.EngineVersion)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(listed)) {
		if _, ok := all[path]; !ok {
			t.Errorf("%s is gone: entries of older binaries have it", path)
		}
	}
}

// An input that has all that there is, in a ring of an older engine version, is to this binary what it is to one of that version.
func TestFault_U2_InputsOfANewerBinary(t *testing.T) {
	listed := readFields(t)
	for kind := range cluster.Inputs() {
		kind = enginetest.Reread(t, cluster.Entry{Input: kind}).Input
		for version := 5; version <= cluster.EngineVersion; version++ {
			older, err := listed.Older(cluster.Entry{Input: kind}, version)
			if err != nil {
				t.Fatal(err)
			}
			known, early := cluster.AsOf(kind, version)
			want, _ := json.Marshal(older.Input)
			if got, _ := json.Marshal(known); string(got) != string(want) {
				t.Errorf("%s at version %d: %.500s\nan older binary has: %.500s", kind, version, got, want)
			}
			if gone := older.Input.String() == "nothing"; gone != (early != "") {
				t.Errorf("%s at version %d: nothing is left: %v; what is said of it: %q", kind, version, gone, early)
			}
		}
	}
}

// A ring whose members are of two versions is asked for something that only the newer know: all come to one State, who asks is
// told why nothing came of it, and once all are upgraded it works.
func TestFault_U2_AskedForTooEarly(t *testing.T) {
	listed := readFields(t)
	for _, c := range []struct {
		in    cluster.Input
		since int
		says  string
	}{
		{cluster.Input{Taint: &cluster.Taint{ID: enginetest.Node(2).ID, Taint: place.Taint{Key: "a", Effect: "NoSchedule"}}}, cluster.TaintsSince, "taints want"},
		{cluster.Input{Rebalance: &cluster.Rebalance{}}, cluster.RebalanceSince, "rebalance wants"},
		{cluster.Input{From: cluster.From{Node: enginetest.Node(2).ID}, Pressure: &cluster.Pressure{Disk: "room"}}, cluster.PressureSince, "pressure wants"},
		{cluster.Input{Clock: &cluster.Clock{ID: enginetest.Node(2).ID, Ahead: 90_000}}, cluster.ClockSince, "clock wants"},
		{cluster.Input{NodeDown: &cluster.NodeDown{ID: enginetest.Node(2).ID, More: []place.NodeID{enginetest.Node(3).ID}}}, cluster.TogetherSince, ""},
		{cluster.Input{NodeUp: withTunnel(2)}, cluster.TunnelSince, ""},
	} {
		newer, older := enginetest.RingOf(t, c.since-1, 3), enginetest.RingOf(t, c.since-1, 3)
		before := newer.State.Snapshot()
		out := newer.Step(c.in)
		as, err := listed.Older(cluster.Entry{Input: c.in}, c.since-1)
		if err != nil {
			t.Fatal(err)
		}
		older.Step(as.Input)
		if newer.State.Hash() != older.State.Hash() {
			t.Errorf("%s in a ring of version %d: a binary that knows it comes to another State than one that does not", c.in, c.since-1)
		}
		if err := listed.CheckRecords(newer.State); err != nil {
			t.Error(err)
		}
		want := ""
		if c.says != "" {
			want = fmt.Sprintf("%s engine version %d, the ring runs %d: every node must be upgraded first", c.says, c.since, c.since-1)
			if n, _ := newer.State.Nodes().Get(enginetest.Node(2).ID); !reflect.DeepEqual(n, must(before.Nodes().Get(n.ID))) {
				t.Errorf("%s: the node has changed", c.in)
			}
		}
		if out.Rejected != want {
			t.Errorf("%s in a ring of version %d: %q, want %q", c.in, c.since-1, out.Rejected, want)
		}
		newer.Must(cluster.Input{SetEngine: &cluster.SetEngine{Version: c.since}})
		newer.Must(c.in)
		if newer.State.Hash() == older.State.Hash() {
			t.Errorf("%s: nothing came of it in a ring of version %d either", c.in, c.since)
		}
	}
}

func must[V any](v V, _ bool) V { return v }

func withTunnel(n int) *cluster.NodeUp {
	up := enginetest.Node(n)
	up.Tunnel = cluster.Tunnel{Key: "6OFHGa5bokQmXRsYXz0Pxyx9EgYfAUAgG8/1jMHo+To=", Port: 51820}
	return up
}

// The State of a ring that runs an engine version that this binary does not know is refused, whatever else in it is not known
// here.
func TestFault_U3_SnapshotOfANewerBinary(t *testing.T) {
	r := enginetest.RingOf(t, cluster.EngineVersion, 2)
	var b bytes.Buffer
	if err := r.State.Encode(&b); err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(b.String(), fmt.Sprintf(`"engineNow":%d`, cluster.EngineVersion), fmt.Sprintf(`"engineNow":%d`, cluster.EngineVersion+1), 1)
	head, rows, _ := strings.Cut(newer, "\n")
	ofNewer := fmt.Sprintf("the ring runs engine version %d, this binary knows %d", cluster.EngineVersion+1, cluster.EngineVersion)
	for name, c := range map[string]struct{ text, want string }{
		"a newer version":               {newer, ofNewer},
		"with a table of its own":       {head + "\n" + `{"t":"ahead","v":1,"r":{}}` + "\n" + rows, ofNewer},
		"with a record of another kind": {strings.Replace(newer, `"podCIDR":"`, `"podCIDR":1,"was":"`, 1), ofNewer},
	} {
		_, err := cluster.DecodeState(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
