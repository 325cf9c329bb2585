package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

// Table is one kind of record of the State, sorted by key. Records are immutable: whoever reads one must not
// change it, a change is a new record. The zero Table is not usable.
type Table[K comparable, V any] struct {
	kind *tableKind[K, V]
	rows tree[K, row[V]]
	was  map[K]row[V] // rows as they were before the running Step, for those it has touched; nil outside
}

type tableKind[K comparable, V any] struct {
	name   string
	key    func(V) K
	text   func(K) string                // the key as Change names it
	follow func(s *State, gone, came *V) // keeps the indexes; either may be nil
}

// row is a record with what is known of it. A version is the index of the entry that made it << 20, plus its
// place among that entry's changes: it is Kubernetes' resourceVersion.
type row[V any] struct {
	val     V
	version uint64
	sum     [sha256.Size]byte // of the table's name and the record in canonical JSON
}

func newTable[K comparable, V any](cmp func(a, b K) int, kind tableKind[K, V]) Table[K, V] {
	return Table[K, V]{kind: &kind, rows: tree[K, row[V]]{cmp: cmp}}
}

// Get returns the record at k.
func (t *Table[K, V]) Get(k K) (V, bool) {
	r, ok := t.rows.get(k)
	return r.val, ok
}

// Version returns the version of the record at k, 0 if there is none.
func (t *Table[K, V]) Version(k K) uint64 {
	r, _ := t.rows.get(k)
	return r.version
}

// Len is the number of records.
func (t *Table[K, V]) Len() int { return t.rows.Len() }

// All walks the records by key.
func (t *Table[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for k, r := range t.rows.all() {
			if !yield(k, r.val) {
				return
			}
		}
	}
}

// Values walks the records by key.
func (t *Table[K, V]) Values() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, r := range t.rows.all() {
			if !yield(r.val) {
				return
			}
		}
	}
}

// set puts a record; its hash and version are settled when the Step ends.
func (t *Table[K, V]) set(s *State, v V) {
	k := t.kind.key(v)
	old, had := t.touch(k)
	var gone *V
	if had {
		gone = &old.val
	}
	t.rows = t.rows.put(k, row[V]{val: v, version: old.version, sum: old.sum})
	if t.kind.follow != nil {
		t.kind.follow(s, gone, &v)
	}
}

// drop removes the record at k, if there is one.
func (t *Table[K, V]) drop(s *State, k K) {
	old, had := t.touch(k)
	if !had {
		return
	}
	t.rows = t.rows.del(k)
	if t.kind.follow != nil {
		t.kind.follow(s, &old.val, nil)
	}
}

func (t *Table[K, V]) touch(k K) (row[V], bool) {
	old, had := t.rows.get(k)
	if _, ok := t.was[k]; !ok {
		t.was[k] = old // the zero row, with version 0, when there was none
	}
	return old, had
}

// anyTable is what State does with every table alike.
type anyTable interface {
	name() string
	begin()
	settle(s *State, out *[]Change) error
	forget()
	encode(write func(version uint64, record []byte) error) error
	decode(s *State, version uint64, record []byte) error
}

func (t *Table[K, V]) name() string { return t.kind.name }
func (t *Table[K, V]) begin()       { t.was = map[K]row[V]{} }
func (t *Table[K, V]) forget()      { t.was = nil }

// settle gives every touched row that differs from what it was its hash and version, and lists it.
func (t *Table[K, V]) settle(s *State, out *[]Change) error {
	keys := make([]K, 0, len(t.was))
	for k := range t.was {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, t.rows.cmp)
	for _, k := range keys {
		was := t.was[k]
		now, ok := t.rows.get(k)
		if !ok {
			if was.version != 0 {
				s.sum.sub(was.weight())
				*out = append(*out, Change{Table: t.kind.name, Key: t.kind.text(k), Deleted: true})
			}
			continue
		}
		record, err := json.Marshal(now.val)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", t.kind.name, t.kind.text(k), err)
		}
		now.sum = t.hash(record)
		if was.version != 0 && was.sum == now.sum {
			if now.version != was.version { // dropped and set again as it was
				now.version = was.version
				t.rows = t.rows.put(k, now)
			}
			continue
		}
		if len(*out) >= maxChanges {
			return errBudget
		}
		now.version = s.index<<20 | uint64(len(*out))
		if now.version == 0 {
			return fmt.Errorf("entry 0 cannot change %s", t.kind.name)
		}
		t.rows = t.rows.put(k, now)
		if was.version != 0 {
			s.sum.sub(was.weight())
		}
		s.sum.add(now.weight())
		*out = append(*out, Change{Table: t.kind.name, Key: t.kind.text(k)})
	}
	return nil
}

func (t *Table[K, V]) hash(record []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(t.kind.name))
	h.Write([]byte{0})
	h.Write(record)
	return [sha256.Size]byte(h.Sum(nil))
}

func (t *Table[K, V]) encode(write func(version uint64, record []byte) error) error {
	for k, r := range t.rows.all() {
		record, err := json.Marshal(r.val)
		if err != nil {
			return fmt.Errorf("encode %s %s: %w", t.kind.name, t.kind.text(k), err)
		}
		if err := write(r.version, record); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table[K, V]) decode(s *State, version uint64, record []byte) error {
	var v V
	if len(record) == 0 || record[0] != '{' || version == 0 {
		return fmt.Errorf("decode %s: a row is no record with its version", t.kind.name)
	}
	if err := json.Unmarshal(record, &v); err != nil {
		return fmt.Errorf("decode %s: %w", t.kind.name, err)
	}
	record, err := json.Marshal(v) // what is hashed is what was understood
	if err != nil {
		return fmt.Errorf("decode %s: %w", t.kind.name, err)
	}
	k := t.kind.key(v)
	if _, ok := t.rows.get(k); ok {
		return fmt.Errorf("decode %s: %s is there twice", t.kind.name, t.kind.text(k))
	}
	r := row[V]{val: v, version: version, sum: t.hash(record)}
	t.rows = t.rows.put(k, r)
	s.sum.add(r.weight())
	if t.kind.follow != nil {
		t.kind.follow(s, nil, &v)
	}
	return nil
}

// weight is what a row adds to the sum of the State.
func (r row[V]) weight() [sha256.Size]byte {
	var b [sha256.Size + 8]byte
	copy(b[:], r.sum[:])
	binary.BigEndian.PutUint64(b[sha256.Size:], r.version)
	return sha256.Sum256(b[:])
}

// sum is a number modulo 2^256, lowest word first. Adding and subtracting the weights of rows gives the same
// sum for the same rows, whatever the order in which they came and went.
type sum [4]uint64

func words(w [sha256.Size]byte) (o [4]uint64) {
	for i := range o {
		o[i] = binary.LittleEndian.Uint64(w[8*i:])
	}
	return o
}

func (s *sum) add(w [sha256.Size]byte) {
	var carry uint64
	for i, o := range words(w) {
		s[i], carry = bits.Add64(s[i], o, carry)
	}
}

func (s *sum) sub(w [sha256.Size]byte) {
	var borrow uint64
	for i, o := range words(w) {
		s[i], borrow = bits.Sub64(s[i], o, borrow)
	}
}
