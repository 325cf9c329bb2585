package place

import (
	"math/bits"
	"slices"
)

// bitmap is a set of nodes by their number.
type bitmap []uint64

func (b bitmap) has(i int32) bool { return b[i>>6]&(1<<(i&63)) != 0 }
func (b bitmap) set(i int32)      { b[i>>6] |= 1 << (i & 63) }
func (b bitmap) clear(i int32)    { b[i>>6] &^= 1 << (i & 63) }

func (b bitmap) put(i int32, yes bool) {
	if yes {
		b.set(i)
	} else {
		b.clear(i)
	}
}

func (b bitmap) count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// meets tells whether two sets have a node in common.
func (b bitmap) meets(o bitmap) bool {
	for i, w := range b {
		if w&o[i] != 0 {
			return true
		}
	}
	return false
}

func (b bitmap) keep(o bitmap) {
	for i := range b {
		b[i] &= o[i]
	}
}

func (b bitmap) add(o bitmap) {
	for i := range b {
		b[i] |= o[i]
	}
}

func (b bitmap) take(o bitmap) {
	for i := range b {
		b[i] &^= o[i]
	}
}

// each calls f with every node of the set, in order.
func (b bitmap) each(f func(int32)) {
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			f(int32(i<<6 | bits.TrailingZeros64(w)))
		}
	}
}

// layers counts by node: the j-th bitmap has the nodes with more than j. There is one more than the largest count has
// needed, never fewer; a count is small where it is asked often.
type layers []bitmap

func (l *layers) add(i int32, size int) {
	for j := range *l {
		if !(*l)[j].has(i) {
			(*l)[j].set(i)
			return
		}
	}
	b := make(bitmap, size)
	b.set(i)
	*l = append(*l, b)
}

func (l layers) remove(i int32) {
	for _, layer := range slices.Backward(l) {
		if layer.has(i) {
			layer.clear(i)
			return
		}
	}
}

func (l layers) of(i int32) int32 {
	n := int32(0)
	for int(n) < len(l) && l[n].has(i) {
		n++
	}
	return n
}

// exactly writes to out those nodes of allow that count n, and tells whether there are any. Both begin at the word from.
func (l layers) exactly(n int, out, allow bitmap, from int) bool {
	var any uint64
	switch {
	case n == 0 && len(l) == 0:
		for w, x := range allow {
			out[w] = x
			any |= x
		}
	case n == 0:
		above := l[0][from : from+len(out)]
		for w, x := range allow {
			x &^= above[w]
			out[w] = x
			any |= x
		}
	case n == len(l):
		at := l[n-1][from : from+len(out)]
		for w, x := range allow {
			x &= at[w]
			out[w] = x
			any |= x
		}
	default:
		at, above := l[n-1][from:from+len(out)], l[n][from:from+len(out)]
		for w, x := range allow {
			x = x & at[w] &^ above[w]
			out[w] = x
			any |= x
		}
	}
	return any != 0
}
