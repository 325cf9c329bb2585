package ledger

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/hashicorp/raft-wal/types"

	"github.com/shoal-dev/shoal/engine/cluster"
)

func FuzzDecodeEntry(f *testing.F) {
	body, err := encodeInput(ref("refs/heads/main", "", "1"))
	if err != nil {
		f.Fatal(err)
	}
	good := encodeEntry(header{time: 1700000000000, from: cluster.From{Node: "0123456789abcdef", Boot: "b", Seq: 300}}, body)
	f.Add(good)
	f.Add(good[:20])
	f.Add([]byte{entryFormat, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte{entryFormat, 0, 0, 0, 0, 'n', 'u', 'l', 'l'})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, in, err := decodeEntry(b)
		if err != nil {
			return
		}
		body, err := encodeInput(in)
		if err != nil {
			return // larger than it came
		}
		h2, in2, err := decodeEntry(encodeEntry(h, body))
		if err != nil || h2 != h {
			t.Fatalf("decoded %+v, again %+v, %v", h, h2, err)
		}
		x, _ := json.Marshal(in)
		y, _ := json.Marshal(in2)
		if !bytes.Equal(x, y) {
			t.Fatalf("decoded %s, again %s", x, y)
		}
	})
}

func FuzzReadSnapshot(f *testing.F) {
	s := newToy()
	s.Refs["blob/a"] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	var good bytes.Buffer
	if err := (&snapshot{state: s, entries: [][]byte{[]byte("one"), nil}}).write(&good); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte(`{"format":1,"entries":1000000,"blobs":0}` + "\n\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		front, rest, err := readFront(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(front.entries) != front.head.Entries || len(front.blobs) != front.head.Blobs {
			t.Fatalf("%d entries, %d blobs, header %+v", len(front.entries), len(front.blobs), front.head)
		}
		_, _ = decodeToy(rest)
	})
}

func FuzzScanTail(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(make([]byte, segmentHead), 1, 0, 0, 0, 3, 0, 0, 0, 'a', 'b', 'c', 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4))
	f.Add(append(make([]byte, segmentHead), 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := scanTail(b)
		if s.good > len(b) || s.batch > s.good || s.index > s.good || s.good%8 != 0 || s.entries > len(b)/8 {
			t.Fatalf("%+v of %d bytes", s, len(b))
		}
		if clean := scanTail(b[:s.good]); clean.torn || clean.entries != s.entries {
			t.Fatalf("after the cut %+v, before %+v", clean, s)
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	good, err := encodeMeta(7, metaRecord{Segments: types.PersistentState{NextSegmentID: 2, Segments: []types.SegmentInfo{{ID: 1, BaseIndex: 1}}}, Stable: map[string][]byte{"CurrentTerm": {3}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:10])
	f.Fuzz(func(t *testing.T, b []byte) {
		turn, rec, ok := decodeMeta(b)
		if !ok {
			return
		}
		if b, err := encodeMeta(turn, rec); err == nil {
			if _, _, ok := decodeMeta(b); !ok {
				t.Fatal("what was read cannot be written")
			}
		}
	})
}

// FuzzSplitBatch takes apart what raft's log may hold, and what one node sends another.
func FuzzSplitBatch(f *testing.F) {
	one := encodeEntry(header{time: 1, from: cluster.From{Node: "n1", Boot: "b", Seq: 1}}, []byte("{}"))
	f.Add(one)
	f.Add(encodeBatch([][]byte{one, one, {}}))
	f.Add([]byte{batchFormat})
	f.Add([]byte{batchFormat, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add(encodeSaid(said{node: "n1", entry: 1000}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := decodeSaid(b); ok {
			if again, ok := decodeSaid(encodeSaid(s)); !ok || again != s {
				t.Fatalf("said %+v, again %+v", s, again)
			}
		}
		raw, err := splitBatch(b)
		if err != nil {
			return
		}
		again, err := splitBatch(encodeBatch(raw))
		if len(raw) == 1 && len(raw[0]) > 0 && raw[0][0] == batchFormat {
			return // a batch of one batch is never written
		}
		if err != nil || len(again) != len(raw) {
			t.Fatalf("%d entries, again %d, %v", len(raw), len(again), err)
		}
		for i := range raw {
			if !bytes.Equal(raw[i], again[i]) {
				t.Fatalf("entry %d: %x, again %x", i, raw[i], again[i])
			}
		}
	})
}
