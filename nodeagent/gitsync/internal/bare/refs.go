package bare

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/shoal-dev/shoal/engine/source"
)

// MaxRefs bounds the refs of a repository, pins included.
const MaxRefs = 20_000

// ErrMoved is wrapped by errors about a ref that is not where the caller thought.
var ErrMoved = errors.New("the ref moved meanwhile")

// Move takes a ref from Old to New by compare-and-swap; the zero Hash is "not there".
type Move struct {
	Name     string
	Old, New Hash
	Force    bool // whatever the old value is
}

// refs is what packed-refs and shallow say.
type refs struct {
	mu      sync.RWMutex // guards the fields; held over the write to disk, so that moves queue
	names   map[string]Hash
	shallow map[Hash]bool
}

func (s *refs) load(dir string) error {
	s.names, s.shallow = map[string]Hash{}, map[Hash]bool{}
	b, err := os.ReadFile(filepath.Join(dir, "packed-refs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		id, name, _ := strings.Cut(line, " ")
		if !source.ID(id).Valid() || source.CheckRefName(name) != nil {
			return fmt.Errorf("packed-refs: %w: line %.80q is not \"<id> <name>\"", ErrCorrupt, line)
		}
		s.names[name] = mustHash(id)
	}
	b, err = os.ReadFile(filepath.Join(dir, "shallow"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for id := range strings.FieldsSeq(string(b)) {
		if !source.ID(id).Valid() {
			return fmt.Errorf("shallow: %w: %.80q is no id", ErrCorrupt, id)
		}
		s.shallow[mustHash(id)] = true
	}
	return nil
}

func mustHash(id string) (h Hash) {
	if _, err := hex.Decode(h[:], []byte(id)); err != nil {
		panic(err) // the caller has checked it
	}
	return h
}

// Ref returns what a name stands for, and whether it is there.
func (r *Repo) Ref(name string) (Hash, bool) {
	r.refs.mu.RLock()
	defer r.refs.mu.RUnlock()
	h, ok := r.refs.names[name]
	return h, ok
}

// Refs is a copy of all refs.
func (r *Repo) Refs() map[string]Hash {
	r.refs.mu.RLock()
	defer r.refs.mu.RUnlock()
	return maps.Clone(r.refs.names)
}

// UpdateRefs makes all moves or none. It returns after they are safe on disk. An error that wraps ErrMoved
// names the ref that was not where it should be.
func (r *Repo) UpdateRefs(moves []Move) error {
	r.refs.mu.Lock()
	defer r.refs.mu.Unlock()
	next := maps.Clone(r.refs.names)
	for _, m := range moves {
		if err := source.CheckRefName(m.Name); err != nil {
			return err
		}
		now := r.refs.names[m.Name]
		if now == m.New {
			continue // somebody was faster
		}
		if now != m.Old && !m.Force {
			return fmt.Errorf("%s: %w: it is at %s, expected %s", m.Name, ErrMoved, shortHash(now), shortHash(m.Old))
		}
		if m.New.IsZero() {
			delete(next, m.Name)
			continue
		}
		if !r.Has(m.New) {
			return fmt.Errorf("%s: %s: %w", m.Name, m.New, ErrMissing)
		}
		next[m.Name] = m.New
	}
	if len(next) > MaxRefs {
		return tooBig("the repository", MaxRefs, "refs")
	}
	if maps.Equal(next, r.refs.names) {
		return nil
	}
	var b bytes.Buffer
	b.WriteString("# pack-refs with: sorted \n")
	for _, name := range slices.Sorted(maps.Keys(next)) {
		fmt.Fprintf(&b, "%s %s\n", next[name], name)
	}
	if err := r.replace("packed-refs", b.Bytes()); err != nil {
		return fmt.Errorf("write refs: %w", err)
	}
	r.refs.names = next
	return nil
}

func shortHash(h Hash) string {
	if h.IsZero() {
		return "nothing"
	}
	return h.String()[:12]
}

// IsShallow says whether history ends at a commit although it names parents.
func (r *Repo) IsShallow(h Hash) bool {
	r.refs.mu.RLock()
	defer r.refs.mu.RUnlock()
	return r.refs.shallow[h]
}

// Shallow lists the commits where history ends.
func (r *Repo) Shallow() []Hash {
	r.refs.mu.RLock()
	defer r.refs.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(r.refs.shallow), func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
}

// SetShallow adds and takes away commits where history ends. It comes before the pack is published: a commit
// that is marked and whole is harmless.
func (r *Repo) SetShallow(add, remove []Hash) error {
	r.refs.mu.Lock()
	defer r.refs.mu.Unlock()
	next := maps.Clone(r.refs.shallow)
	for _, h := range add {
		next[h] = true
	}
	for _, h := range remove {
		delete(next, h)
	}
	if maps.Equal(next, r.refs.shallow) {
		return nil
	}
	var b bytes.Buffer
	for _, h := range slices.SortedFunc(maps.Keys(next), func(a, b Hash) int { return bytes.Compare(a[:], b[:]) }) {
		fmt.Fprintf(&b, "%s\n", h)
	}
	if err := r.replace("shallow", b.Bytes()); err != nil {
		return fmt.Errorf("write shallow: %w", err)
	}
	r.refs.shallow = next
	return nil
}
