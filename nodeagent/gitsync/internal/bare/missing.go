package bare

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// Ask is what a client wants and has.
type Ask struct {
	Want, Have []Hash
	Shallow    []Hash // where the client's own history ends
	Depth      int    // commits of history wanted; 0 is all that the client lacks
}

// Answer is what to send for an Ask.
type Answer struct {
	Objects   []Hash // those the client lacks, and maybe a few that it has
	Shallow   []Hash // where its history ends from now on
	Unshallow []Hash // where it ended and now goes on
	reader    Reader
}

// Missing finds what a client lacks. It walks commits from the newest back until everything left is known to be
// had, and compares the trees of new commits with those of their parents, so its cost is that of the change.
// What the client claims to have and r does not know is passed over.
func Missing(ctx context.Context, r Reader, ask Ask) (*Answer, error) {
	m := missing{Reader: r, ctx: ctx, cut: map[Hash]bool{}, sent: map[Hash]bool{}, answer: &Answer{reader: r}}
	for _, h := range ask.Shallow {
		m.cut[h] = true
	}
	var tips []Hash
	for _, h := range ask.Want {
		tip, tags, err := Peel(r, h)
		if err != nil {
			return nil, fmt.Errorf("want %s: %w", h, err)
		}
		tips = append(tips, tip)
		for _, t := range tags {
			m.send(t)
		}
	}
	if ask.Depth > 0 {
		return m.answer, m.shallow(tips, ask)
	}
	return m.answer, m.full(tips, ask.Have)
}

type missing struct {
	Reader
	ctx    context.Context
	cut    map[Hash]bool // the client's shallow commits
	sent   map[Hash]bool
	answer *Answer
}

func (m *missing) send(h Hash) bool {
	if m.sent[h] {
		return false
	}
	m.sent[h] = true
	m.answer.Objects = append(m.answer.Objects, h)
	return true
}

// full sends all history that is not had.
func (m *missing) full(tips, have []Hash) error {
	w := newWalk(m)
	for _, h := range have {
		if tip, _, err := Peel(m.Reader, h); err == nil {
			if err := w.push(tip, had); err != nil {
				return err
			}
		}
	}
	for _, h := range tips {
		if err := w.push(h, wanted); err != nil {
			return err
		}
	}
	var fresh []*node
	for i := 0; w.live(); i++ {
		if i%256 == 0 {
			if err := canceled(m.ctx); err != nil {
				return err
			}
		}
		n := w.pop()
		c := w.color[n.id]
		if c == wanted {
			fresh = append(fresh, n)
		}
		parents := n.parents
		if c&had != 0 && m.cut[n.id] {
			parents = nil // the client has this commit and not what is behind it
		}
		for _, p := range parents {
			if err := w.push(p, c); err != nil {
				return err
			}
		}
	}
	for _, n := range slices.Backward(fresh) { // oldest first, so that each tree is compared with one that was sent

		if w.color[n.id]&had != 0 || !m.send(n.id) {
			continue
		}
		var base Hash
		if len(n.parents) > 0 {
			base = w.nodes[n.parents[0]].tree
		}
		if err := m.tree(n.tree, base); err != nil {
			return err
		}
	}
	return nil
}

// live says whether something in the queue may still lead to a commit that has to be sent.
func (w *walk) live() bool {
	for _, n := range w.queue {
		if w.color[n.id] == wanted {
			return true
		}
	}
	return false
}

// shallow sends the last ask.Depth commits of each tip.
func (m *missing) shallow(tips []Hash, ask Ask) error {
	level := tips
	seen := map[Hash]bool{}
	kept := map[Hash]bool{}
	for _, h := range ask.Have {
		kept[h] = true
	}
	for depth := 1; len(level) > 0; depth++ {
		var next []Hash
		for _, h := range level {
			if seen[h] {
				continue
			}
			seen[h] = true
			if err := canceled(m.ctx); err != nil {
				return err
			}
			n, err := readNode(m.Reader, h)
			if err != nil {
				return err
			}
			if !kept[h] || m.cut[h] {
				m.send(h)
				if err := m.tree(n.tree, Hash{}); err != nil {
					return err
				}
			}
			switch {
			case depth == ask.Depth && (len(n.parents) > 0 || m.IsShallow(h)):
				m.answer.Shallow = append(m.answer.Shallow, h)
			case m.IsShallow(h):
				m.answer.Shallow = append(m.answer.Shallow, h)
			default:
				if m.cut[h] {
					m.answer.Unshallow = append(m.answer.Unshallow, h)
				}
				next = append(next, n.parents...)
			}
		}
		if depth == ask.Depth {
			break
		}
		level = next
	}
	return nil
}

// tree sends what is in the tree h and not at the same place in base.
func (m *missing) tree(h, base Hash) error {
	if h == base || m.sent[h] {
		return nil
	}
	items, err := m.items(h)
	if err != nil {
		return err
	}
	old := map[string]treeItem{}
	if !base.IsZero() {
		list, err := m.items(base)
		if err != nil {
			return err
		}
		for _, it := range list {
			old[it.name] = it
		}
	}
	for _, it := range items {
		before := old[it.name]
		switch {
		case it.id == before.id || it.module:
		case it.dir:
			if !before.dir {
				before.id = Hash{}
			}
			if err := m.tree(it.id, before.id); err != nil {
				return err
			}
		default:
			m.send(it.id)
		}
	}
	m.send(h)
	return nil
}

type treeItem struct {
	name        string
	id          Hash
	dir, module bool
}

func (m *missing) items(h Hash) ([]treeItem, error) {
	k, raw, err := m.Read(h)
	if err != nil {
		return nil, err
	}
	if k != Tree {
		return nil, fmt.Errorf("%s is a %s, expected a tree", h, k)
	}
	return treeItems(raw)
}

// WriteTo writes the answer's objects as a pack.
func (a *Answer) WriteTo(ctx context.Context, w io.Writer) error {
	p, err := NewPackWriter(w, len(a.Objects))
	if err != nil {
		return err
	}
	for _, h := range a.Objects {
		if err := canceled(ctx); err != nil {
			return err
		}
		k, raw, err := a.reader.Read(h)
		if err != nil {
			return err
		}
		if err := p.Add(k, raw); err != nil {
			return err
		}
	}
	return p.Close()
}
