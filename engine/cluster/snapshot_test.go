package cluster_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

// snapshot is a ring with some of everything, encoded.
func snapshot(t testing.TB) (*enginetest.Ring, []byte) {
	t.Helper()
	r := enginetest.NewRing(t)
	r.Up(2)
	r.Commit("dev", all(web(3, "v1"), nodePort("web", 30001), cronJob("* * * * *", ""), job("", "a")))
	r.Settle()
	r.Advance(120)
	r.Commit("dev", all(web(3, "v2"), nodePort("web", 30001), cronJob("* * * * *", "")))
	var b bytes.Buffer
	if err := r.State.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return r, b.Bytes()
}

// TestSnapshotGoesOn shows that a State from a snapshot goes on as the one it was made of.
func TestSnapshotGoesOn(t *testing.T) {
	r, b := snapshot(t)
	again, err := cluster.DecodeState(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	kept := r.State.Snapshot()
	hash, begin := kept.Hash(), len(r.Log)
	r.Settle()
	r.Advance(600)
	r.Commit("dev", web(1, "v3"))
	r.Settle()
	for _, e := range r.Log[begin:] {
		cluster.Step(again, e, r.Content)
	}
	if again.Hash() != r.State.Hash() {
		t.Error("a State from a snapshot comes to another hash")
	}
	if kept.Hash() != hash || kept.Pods().Len() == r.State.Pods().Len() {
		t.Error("a kept State has changed")
	}
	if err := enginetest.Reload(kept); err != nil {
		t.Error(err)
	}
}

// TestBlobs shows that a State names the bytes it needs, and no more once they are not needed.
func TestBlobs(t *testing.T) {
	r, _ := snapshot(t)
	r.Settle()
	part := enginetest.Store{}
	for d := range r.State.Blobs() {
		part[d] = r.Content[d]
	}
	before := len(part)
	r.Content = part // whatever a rule reads is in there
	r.Advance(600)
	r.Settle()
	r.Must(cluster.Input{Retire: &cluster.Retire{Environment: "dev"}})
	r.Settle()
	for _, p := range r.Pods() {
		r.Must(enginetest.Gone(p))
	}
	var left []desired.Digest
	for d := range r.State.Blobs() {
		left = append(left, d)
	}
	if before == 0 || len(left) != 0 {
		t.Errorf("%d digests at first, %d after all is gone", before, len(left))
	}
}

// TestDamagedSnapshot shows that no damage to a snapshot goes unseen, and that the State stays as it was.
func TestDamagedSnapshot(t *testing.T) {
	_, b := snapshot(t)
	lines := strings.SplitAfter(string(b), "\n")
	damaged := map[string]string{
		"empty":           "",
		"another format":  strings.Replace(string(b), `"shoalState":1`, `"shoalState":9`, 1),
		"another time":    strings.Replace(string(b), `"time":17`, `"time":18`, 1),
		"a row is gone":   strings.Join(append(append([]string{}, lines[:5]...), lines[6:]...), ""),
		"a row is double": strings.Join(append(append([]string{}, lines[:5]...), lines[4:]...), ""),
		"cut short":       strings.Join(lines[:len(lines)/2], ""),
		"unknown table":   string(b) + `{"t":"secrets","v":1,"r":{}}` + "\n",
		"no JSON":         string(b) + "{\n",
	}
	for i := 1; i < len(b); i += 997 {
		flipped := bytes.Clone(b)
		flipped[i] ^= 4
		damaged["bit at "+string(rune('0'+i%10))+" of "+strings.Repeat(".", i/997)] = string(flipped)
	}
	s := cluster.NewState()
	empty := s.Hash()
	for name, text := range damaged {
		if err := s.Decode(strings.NewReader(text)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
		if s.Hash() != empty || s.Pods().Len() != 0 {
			t.Fatalf("%s: the State has changed", name)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	_, b := snapshot(f)
	f.Add(b)
	f.Add([]byte(`{"shoalState":1,"index":0,"time":0,"hash":""}`))
	f.Add([]byte(`{"shoalState":1}` + "\n" + `{"t":"pods","v":1,"r":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := cluster.DecodeState(bytes.NewReader(b))
		if err == nil && enginetest.Reload(s) != nil {
			t.Fatal("what was decoded does not reload")
		}
	})
}
