package bare

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// graph is a history in memory.
type graph struct {
	raw     map[Hash][]byte
	shallow map[Hash]bool
	ids     []Hash
	parents [][]int
}

func (g *graph) Read(h Hash) (Kind, []byte, error) {
	if raw, ok := g.raw[h]; ok {
		return Commit, raw, nil
	}
	return 0, nil, fmt.Errorf("%s: %w", h, ErrMissing)
}

func (g *graph) IsShallow(h Hash) bool { return g.shallow[h] }

func (g *graph) add(when int, parents ...int) {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", strings.Repeat("0", 40))
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", g.ids[p])
	}
	fmt.Fprintf(&b, "author A <a> %d +0000\ncommitter A <a> %d +0000\n\n%d\n", when, when, len(g.ids))
	h := hashOf(Commit, []byte(b.String()))
	g.raw[h] = []byte(b.String())
	g.ids, g.parents = append(g.ids, h), append(g.parents, parents)
}

func (g *graph) ancestors(i int) map[Hash]bool {
	out := map[Hash]bool{}
	var walk func(int)
	walk = func(i int) {
		if !out[g.ids[i]] {
			out[g.ids[i]] = true
			for _, p := range g.parents[i] {
				walk(p)
			}
		}
	}
	walk(i)
	return out
}

// TestSince compares with what is found by plain reading, on random histories. Where dates are in order it finds exactly
// that; where they lie it may find ancestors too, and never leaves one out that is none.
func TestSince(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g := &graph{raw: map[Hash][]byte{}, shallow: map[Hash]bool{}}
		lie := seed%4 == 3
		for i := range 3 + rng.IntN(30) {
			when := 1000 + 10*i
			if lie {
				when = rng.IntN(2000)
			}
			var parents []int
			for range min(i, rng.IntN(3)) {
				if p := i - 1 - rng.IntN(min(i, 5)); !slices.Contains(parents, p) {
					parents = append(parents, p)
				}
			}
			g.add(when, parents...)
		}
		tip, last := len(g.ids)-1, rng.IntN(len(g.ids))
		s, err := Since(t.Context(), g, g.ids[last], g.ids[tip], 1000)
		if err != nil {
			t.Fatal(err)
		}
		mine, theirs := g.ancestors(tip), g.ancestors(last)
		place := map[Hash]int{}
		for i, h := range s.Commits {
			place[h] = i
			if !mine[h] || theirs[h] && !lie {
				t.Fatalf("seed %d: commit %s is not between %d and %d", seed, h, last, tip)
			}
		}
		for i, h := range g.ids {
			at, listed := place[h]
			if mine[h] && !theirs[h] && !listed {
				t.Fatalf("seed %d: commit %d is left out", seed, i)
			}
			if !listed {
				continue
			}
			for _, p := range g.parents[i] {
				if before, in := place[g.ids[p]]; in && before > at {
					t.Fatalf("seed %d: commit %d stands before its parent %d", seed, i, p)
				} else if !in && (!theirs[g.ids[p]] || !slices.Contains(s.Known, g.ids[p])) {
					t.Fatalf("seed %d: parent %d of %d is not known", seed, p, i)
				}
			}
		}
		for _, h := range s.Known {
			if !theirs[h] {
				t.Fatalf("seed %d: %s is no ancestor", seed, h)
			}
		}
	}
}

// TestSinceEnds sees the bound on length, and the end of a history that is not here whole.
func TestSinceEnds(t *testing.T) {
	g := &graph{raw: map[Hash][]byte{}, shallow: map[Hash]bool{}}
	g.add(1)
	for i := range 20 {
		g.add(2+i, i)
	}
	if _, err := Since(t.Context(), g, g.ids[0], g.ids[20], 10); err == nil || err.Error() != "the history between two commits is more than 10 commits long" {
		t.Errorf("error %v", err)
	}
	if s, err := Since(t.Context(), g, g.ids[10], g.ids[20], 10); err != nil || len(s.Commits) != 10 || s.Cut || len(s.Known) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := Since(t.Context(), g, g.ids[20], g.ids[20], 10); err != nil || len(s.Commits) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := Since(t.Context(), g, g.ids[20], g.ids[3], 10); err != nil || len(s.Commits) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	g.shallow[g.ids[10]] = true
	g.add(0, 4, 10) // merges what lies behind the end of the history of 10
	s, err := Since(t.Context(), g, g.ids[10], g.ids[21], 10)
	if err != nil || !s.Cut || len(s.Commits) != 6 {
		t.Errorf("%+v, %v", s, err)
	}
}
