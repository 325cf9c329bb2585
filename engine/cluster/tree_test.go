package cluster

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTree holds a tree to a map through random changes: content, order, balance, and that a kept tree does not
// change.
func TestTree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tr := tree[int, int]{cmp: cmp.Compare[int]}
	model := map[int]int{}
	kept, keptModel := tr, map[int]int{}
	for i := range 20_000 {
		k := rng.IntN(500)
		if i < 3000 {
			k = i // rising keys are the hard case for balance
		}
		if rng.IntN(3) == 0 {
			tr = tr.del(k)
			delete(model, k)
		} else {
			tr = tr.put(k, i)
			model[k] = i
		}
		if i%1000 == 0 {
			sameAs(tr, model, t)
			sameAs(kept, keptModel, t)
			kept, keptModel = tr, maps.Clone(model)
			if d := depth(tr.root); d > 3+3*bitlen(tr.Len()) {
				t.Fatalf("%d keys are %d deep", tr.Len(), d)
			}
		}
	}
	lo := 250
	var got []int
	for k := range tr.from(lo) {
		got = append(got, k)
	}
	want := slices.DeleteFunc(slices.Sorted(maps.Keys(model)), func(k int) bool { return k < lo })
	if !slices.Equal(got, want) {
		t.Errorf("from %d: %v, want %v", lo, got, want)
	}
}

func sameAs(tr tree[int, int], model map[int]int, t *testing.T) {
	t.Helper()
	var keys []int
	for k, v := range tr.all() {
		keys = append(keys, k)
		if model[k] != v {
			t.Fatalf("%d: %d, want %d", k, v, model[k])
		}
	}
	if !slices.Equal(keys, slices.Sorted(maps.Keys(model))) || tr.Len() != len(model) {
		t.Fatalf("%d keys, want %d", len(keys), len(model))
	}
}

func depth(b *branch[int, int]) int {
	if b == nil {
		return 0
	}
	return 1 + max(depth(b.left), depth(b.right))
}

func bitlen(n int) int {
	d := 0
	for ; n > 0; n /= 2 {
		d++
	}
	return d
}
