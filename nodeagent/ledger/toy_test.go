package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// toy is a small state machine: a Ref sets a name to a value, by compare-and-swap as the true one does; a Tick
// counts; a Retire sets the next wake. It refuses what it saw before.
type toy struct {
	Refs  map[string]string
	Seen  map[string]uint64 // boot -> highest sequence
	Index uint64
	Ticks int
	Next  int64
	Chain [32]byte // hash over all that was accepted, in order
	Times []int64
}

func newToy() *toy { return &toy{Refs: map[string]string{}, Seen: map[string]uint64{}} }

func (s *toy) Wake() int64    { return s.Next }
func (s *toy) Hash() [32]byte { return s.Chain }
func (s *toy) Encode(w io.Writer) error {
	return json.NewEncoder(w).Encode(s)
}

func (s *toy) Blobs() iter.Seq[desired.Digest] {
	return func(yield func(desired.Digest) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.Refs)) {
			if strings.HasPrefix(name, "blob/") && !yield(desired.Digest(s.Refs[name])) {
				return
			}
		}
	}
}

func decodeToy(r io.Reader) (*toy, error) {
	s := newToy()
	return s, json.NewDecoder(r).Decode(s)
}

func stepToy(s *toy, e cluster.Entry, _ desired.Content) string {
	from := e.Input.From
	if from.Seq <= s.Seen[from.Boot] {
		return "seen before"
	}
	s.Seen[from.Boot] = from.Seq
	s.Index = e.Index
	if n := len(s.Times); n > 0 && e.Time < s.Times[n-1] {
		panic("ring time went backwards")
	}
	if s.Times = append(s.Times, e.Time); len(s.Times) > 64 {
		s.Times = s.Times[1:]
	}
	switch in := e.Input; {
	case in.Push != nil:
		if s.Refs[in.Push.Refs[0].Name] != string(in.Push.Refs[0].Old) {
			return "stale"
		}
		s.Refs[in.Push.Refs[0].Name] = string(in.Push.Refs[0].New)
	case in.Tick != nil:
		s.Ticks++
		if s.Next > 0 && s.Next <= e.Time {
			s.Next = 0
		}
	case in.Retire != nil:
		at, err := strconv.ParseInt(in.Retire.Why, 10, 64)
		if err != nil {
			return "no time"
		}
		s.Next = at
	case in.Genesis != nil:
		s.Refs["ring"] = in.Genesis.Ring
	}
	in, _ := json.Marshal(e)
	s.Chain = sha256.Sum256(append(s.Chain[:], in...))
	return ""
}

var toyMachine = Machine[*toy, string]{
	New:    newToy,
	Decode: decodeToy,
	Step:   stepToy,
	Snapshot: func(s *toy) *toy {
		c := *s
		c.Refs, c.Seen, c.Times = maps.Clone(s.Refs), maps.Clone(s.Seen), slices.Clone(s.Times)
		return &c
	},
	Rejected: func(o string) string { return o },
	Stalled: func(o string) string {
		if strings.HasPrefix(o, "stalled") {
			return o
		}
		return ""
	},
	Refuse: func(why string) string { return why },
}

type memContent map[desired.Digest][]byte

func (m memContent) Has(d desired.Digest) bool { return m[d] != nil }
func (m memContent) Get(d desired.Digest) ([]byte, error) {
	if b, ok := m[d]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("no blob %s", d)
}

type toyLedger = Ledger[*toy, string]

var boots struct {
	sync.Mutex
	n int
}

// toyOptions are those of a small ledger in dir, for one run.
func toyOptions(dir string) Options[*toy, string] {
	boots.Lock()
	defer boots.Unlock()
	boots.n++
	return Options[*toy, string]{
		Dir:     dir,
		Machine: toyMachine,
		Node:    "0123456789abcdef",
		Boot:    fmt.Sprintf("boot%d-%d", boots.n, time.Now().UnixNano()),
		Content: memContent{},
		Genesis: &cluster.Genesis{Ring: "ring of " + filepath.Base(dir), Engine: 1},
	}
}

func openToy(t testing.TB, o Options[*toy, string]) *toyLedger {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func ref(name, old, new string) cluster.Input {
	return cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: name, Old: source.ID(old), New: source.ID(new)}}}}
}

func mustAppend(t testing.TB, l *toyLedger, in cluster.Input) {
	t.Helper()
	o, err := l.Append(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if o != "" {
		t.Fatalf("rejected: %s", o)
	}
}

// dump is the state as text.
func dump(l *toyLedger) (text string) {
	l.View(func(s *toy) {
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(s.Refs)) {
			fmt.Fprintf(&b, "%s=%s ", k, s.Refs[k])
		}
		fmt.Fprintf(&b, "hash %x", s.Chain[:6])
		text = b.String()
	})
	return text
}

// logs collects what a ledger logs.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// stepFast takes every Ref, without a hash.
func stepFast(s *toy, e cluster.Entry, c desired.Content) string {
	if e.Input.Push == nil {
		return stepToy(s, e, c)
	}
	s.Index = e.Index
	return ""
}
