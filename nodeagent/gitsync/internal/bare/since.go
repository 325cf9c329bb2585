package bare

import (
	"context"
	"fmt"
)

// Span is what one commit has that another has not.
type Span struct {
	Commits []Hash // each after its parents; the last is the tip
	Known   []Hash // parents of these that are the other commit or its ancestors
	// Cut says that the other commit's history is not here to its end: some of Commits may be its ancestors all the same.
	Cut bool
}

// maxSpanWalk bounds the commits that are read to find a Span: dates that lie have it read more than it needs.
const maxSpanWalk = 500_000

// Since finds what tip reaches and last does not. It is an error if that is more than max commits.
func Since(ctx context.Context, r Reader, last, tip Hash, max int) (Span, error) {
	var s Span
	w := newWalk(r)
	if !last.IsZero() {
		if err := w.push(last, had); err != nil {
			return s, err
		}
	}
	if err := w.push(tip, wanted); err != nil {
		return s, err
	}
	// Once only ancestors of last are left, those go on that are newer than what was found: a child whose clock was behind its
	// parent's may stand before a commit that both reach.
	oldest, found := w.nodes[tip].time, 0
	for i := 0; w.Len() > 0 && (w.live() || w.queue[0].time >= oldest); i++ {
		if i%256 == 0 {
			if err := canceled(ctx); err != nil {
				return s, err
			}
		}
		if i == maxSpanWalk {
			return s, &LimitError{"the history between two commits", fmt.Sprintf("takes more than %d commits to find", maxSpanWalk)}
		}
		n := w.pop()
		c := w.color[n.id]
		if c == wanted {
			oldest = min(oldest, n.time)
			if found++; found > 2*max {
				break
			}
		}
		s.Cut = s.Cut || c&had != 0 && r.IsShallow(n.id)
		for _, p := range n.parents {
			if err := w.push(p, c); err != nil {
				return s, err
			}
		}
	}
	s.order(w, tip)
	if len(s.Commits) > max || found > 2*max {
		return Span{}, &LimitError{"the history between two commits", fmt.Sprintf("is more than %d commits long", max)}
	}
	return s, nil
}

// order lists the commits of a walk that tip alone reaches.
func (s *Span) order(w *walk, tip Hash) {
	type step struct {
		n    *node
		next int // parent
	}
	known, begun := map[Hash]bool{}, map[Hash]bool{}
	var stack []step
	enter := func(h Hash) {
		switch {
		case w.color[h] == wanted && !begun[h]:
			begun[h] = true
			stack = append(stack, step{n: w.nodes[h]})
		case w.color[h]&had != 0 && !known[h]:
			known[h] = true
			s.Known = append(s.Known, h)
		}
	}
	if w.color[tip] != wanted {
		return
	}
	for enter(tip); len(stack) > 0; {
		top := &stack[len(stack)-1]
		if top.next < len(top.n.parents) {
			p := top.n.parents[top.next]
			top.next++
			enter(p)
			continue
		}
		s.Commits = append(s.Commits, top.n.id)
		stack = stack[:len(stack)-1]
	}
}
