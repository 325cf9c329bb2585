package cluster

import "iter"

// tree is a persistent ordered map: put and del give a new tree that shares all that did not change, so that
// a copy of a State is a copy of some pointers, a savepoint is an assignment, and a reader may keep an old
// State while the next one is made. It is balanced by weight (Adams; the constants are those of Hirai and
// Yamamoto): the deepest path has at most about 2.4 log2(n) branches whatever the order of the keys. Its shape
// depends on history, the order in which it is walked does not.
type tree[K, V any] struct {
	root *branch[K, V]
	cmp  func(a, b K) int
}

type branch[K, V any] struct {
	key         K
	val         V
	size        int
	left, right *branch[K, V]
}

const (
	treeDelta = 3 // one side may weigh this much more than the other
	treeRatio = 2 // below it a single rotation mends, above it a double one
)

func (b *branch[K, V]) len() int {
	if b == nil {
		return 0
	}
	return b.size
}

// Len is the number of keys.
func (t tree[K, V]) Len() int { return t.root.len() }

// get returns the value at k.
func (t tree[K, V]) get(k K) (V, bool) {
	for b := t.root; b != nil; {
		switch c := t.cmp(k, b.key); {
		case c < 0:
			b = b.left
		case c > 0:
			b = b.right
		default:
			return b.val, true
		}
	}
	var zero V
	return zero, false
}

// put returns the tree with v at k.
func (t tree[K, V]) put(k K, v V) tree[K, V] {
	t.root = t.putAt(t.root, k, v)
	return t
}

// del returns the tree without k.
func (t tree[K, V]) del(k K) tree[K, V] {
	if _, ok := t.get(k); ok {
		t.root = t.delAt(t.root, k)
	}
	return t
}

func (t tree[K, V]) putAt(b *branch[K, V], k K, v V) *branch[K, V] {
	if b == nil {
		return &branch[K, V]{key: k, val: v, size: 1}
	}
	switch c := t.cmp(k, b.key); {
	case c < 0:
		return balance(b.key, b.val, t.putAt(b.left, k, v), b.right)
	case c > 0:
		return balance(b.key, b.val, b.left, t.putAt(b.right, k, v))
	default:
		return &branch[K, V]{key: k, val: v, size: b.size, left: b.left, right: b.right}
	}
}

func (t tree[K, V]) delAt(b *branch[K, V], k K) *branch[K, V] {
	switch c := t.cmp(k, b.key); {
	case c < 0:
		return balance(b.key, b.val, t.delAt(b.left, k), b.right)
	case c > 0:
		return balance(b.key, b.val, b.left, t.delAt(b.right, k))
	case b.left == nil:
		return b.right
	case b.right == nil:
		return b.left
	case b.left.size > b.right.size:
		last, rest := takeLast(b.left)
		return balance(last.key, last.val, rest, b.right)
	default:
		first, rest := takeFirst(b.right)
		return balance(first.key, first.val, b.left, rest)
	}
}

func takeFirst[K, V any](b *branch[K, V]) (first, rest *branch[K, V]) {
	if b.left == nil {
		return b, b.right
	}
	first, left := takeFirst(b.left)
	return first, balance(b.key, b.val, left, b.right)
}

func takeLast[K, V any](b *branch[K, V]) (last, rest *branch[K, V]) {
	if b.right == nil {
		return b, b.left
	}
	last, right := takeLast(b.right)
	return last, balance(b.key, b.val, b.left, right)
}

func join[K, V any](k K, v V, l, r *branch[K, V]) *branch[K, V] {
	return &branch[K, V]{key: k, val: v, size: l.len() + r.len() + 1, left: l, right: r}
}

func balance[K, V any](k K, v V, l, r *branch[K, V]) *branch[K, V] {
	nl, nr := l.len(), r.len()
	switch {
	case nl+nr <= 1:
		return join(k, v, l, r)
	case nr > treeDelta*nl:
		if r.left.len() < treeRatio*r.right.len() {
			return join(r.key, r.val, join(k, v, l, r.left), r.right)
		}
		m := r.left
		return join(m.key, m.val, join(k, v, l, m.left), join(r.key, r.val, m.right, r.right))
	case nl > treeDelta*nr:
		if l.right.len() < treeRatio*l.left.len() {
			return join(l.key, l.val, l.left, join(k, v, l.right, r))
		}
		m := l.right
		return join(m.key, m.val, join(l.key, l.val, l.left, m.left), join(k, v, m.right, r))
	default:
		return join(k, v, l, r)
	}
}

// all walks the tree in the order of its keys.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { walk(t.root, yield) }
}

func walk[K, V any](b *branch[K, V], yield func(K, V) bool) bool {
	return b == nil || walk(b.left, yield) && yield(b.key, b.val) && walk(b.right, yield)
}

// from walks the keys that are not below lo.
func (t tree[K, V]) from(lo K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.walkFrom(t.root, lo, yield) }
}

func (t tree[K, V]) walkFrom(b *branch[K, V], lo K, yield func(K, V) bool) bool {
	if b == nil {
		return true
	}
	if t.cmp(b.key, lo) < 0 {
		return t.walkFrom(b.right, lo, yield)
	}
	return t.walkFrom(b.left, lo, yield) && yield(b.key, b.val) && walk(b.right, yield)
}

// index is a sorted set of pairs: what is looked up, and the key of a row it leads to. It follows from the
// rows alone, so it is neither encoded nor hashed.
type index[I, K any] struct {
	pairs tree[pair[I, K], struct{}]
	cmp   func(a, b I) int
}

type pair[I, K any] struct {
	at  I
	key K
}

func newIndex[I, K any](cmpI func(a, b I) int, cmpK func(a, b K) int) index[I, K] {
	return index[I, K]{cmp: cmpI, pairs: tree[pair[I, K], struct{}]{cmp: func(a, b pair[I, K]) int {
		if c := cmpI(a.at, b.at); c != 0 {
			return c
		}
		return cmpK(a.key, b.key)
	}}}
}

func (x *index[I, K]) add(at I, key K)    { x.pairs = x.pairs.put(pair[I, K]{at, key}, struct{}{}) }
func (x *index[I, K]) remove(at I, key K) { x.pairs = x.pairs.del(pair[I, K]{at, key}) }

// at walks the keys at one place, in order. The zero K must sort first.
func (x *index[I, K]) at(at I) iter.Seq[K] {
	return func(yield func(K) bool) {
		for p := range x.pairs.from(pair[I, K]{at: at}) {
			if x.cmp(p.at, at) != 0 || !yield(p.key) {
				return
			}
		}
	}
}

// has tells whether anything is at one place.
func (x *index[I, K]) has(at I) bool {
	for range x.at(at) {
		return true
	}
	return false
}

// first returns the lowest pair.
func (x *index[I, K]) first() (pair[I, K], bool) {
	for p := range x.pairs.all() {
		return p, true
	}
	return pair[I, K]{}, false
}
