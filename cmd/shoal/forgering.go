package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// A ring that follows a forge: a node that cannot read it takes from the others what they have read, so that a commit
// that one node knows reaches all.

// forgeAgain is how often a node that cannot read the forge asks the others, beside when they tell of news.
const forgeAgain = 10 * time.Second

// forgeSight is what a node has seen of the forge.
type forgeSight struct {
	Seen time.Time    `json:"seen"` // when it, or the node it took this from, read the forge last; zero: never
	Refs []source.Ref `json:"refs"`
}

// sight keeps when the forge was seen last.
type sight struct {
	mu      sync.Mutex // guards what follows
	seen    time.Time
	failing bool
	ask     chan struct{} // the others should be asked
}

// fetched notes how a fetch went.
func (s *sight) fetched(u gitsync.Update) {
	_, gone := errors.AsType[*gitsync.GoneError](u.Err)
	s.mu.Lock()
	s.failing = u.Err != nil && !gone
	if !s.failing {
		s.seen = u.Good
	}
	s.mu.Unlock()
	s.nudge()
}

func (s *sight) nudge() {
	select {
	case s.ask <- struct{}{}:
	default:
	}
}

func (s *sight) now() (seen time.Time, failing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen, s.failing
}

// took notes that what was seen then was taken from another node, unless this one has read the forge since.
func (s *sight) took(seen time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen.After(s.seen) {
		s.seen = seen
	}
}

// forgeAsked says what this node has seen of the forge.
func (m *machine) forgeAsked(context.Context, place.NodeID, struct{}) (forgeSight, error) {
	mirror := m.peering.mirror.Load()
	if mirror == nil || m.opt.repository == "" {
		return forgeSight{}, errNotYet
	}
	seen, _ := m.sight.now()
	return forgeSight{Seen: seen, Refs: mirror.Refs()}, nil
}

// followForge asks the others as long as this node cannot read the forge, until ctx ends.
func (m *machine) followForge(ctx context.Context) error {
	if m.opt.repository == "" {
		return nil
	}
	again := time.NewTicker(forgeAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.sight.ask:
		case <-again.C:
		}
		if _, failing := m.sight.now(); !failing {
			continue
		}
		if err := m.takeSight(ctx); err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "what other nodes have seen of the forge not taken over, will retry", "err", err)
		}
	}
}

// takeSight takes over what the node has that saw the forge last, if that is later than what this node has.
func (m *machine) takeSight(ctx context.Context) error {
	stand := m.mirror.Refs()
	seen, _ := m.sight.now()
	var best forgeSight
	var from place.NodeID
	alive := m.alive()
	for _, n := range m.wanted() {
		if n == m.dir.Node.ID || !alive[n] {
			continue
		}
		var s forgeSight
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := m.peers.Call(asking, n, pathForge, struct{}{}, &s)
		cancel()
		if err == nil && s.Seen.After(seen) && s.Seen.After(best.Seen) {
			best, from = s, n
		}
	}
	if from == "" {
		return nil
	}
	refs := merged(stand, best.Refs)
	if slices.Equal(refs, stand) {
		m.sight.took(best.Seen)
		return nil
	}
	var ids []source.ID
	for _, r := range best.Refs {
		ids = append(ids, r.ID)
	}
	if err := m.mirror.TakeFrom(ctx, m.peers.Client(from), gitAt(from), ids); err != nil {
		return err
	}
	switch err := m.mirror.Adopt(refs, stand); {
	case errors.Is(err, gitsync.ErrMoved): // the forge was read meanwhile
		return nil
	case err != nil:
		return fmt.Errorf("from node %s: %w", from, err)
	}
	m.sight.took(best.Seen)
	m.log.InfoContext(ctx, "the forge cannot be read: its commits were taken from another node", "node", from)
	m.looks.nudge()
	return nil
}

// merged is what stands with what another node has: nothing is taken away because another node lacks it.
func merged(stand, theirs []source.Ref) []source.Ref {
	out := slices.Clone(stand)
	for _, r := range theirs {
		if i, found := slices.BinarySearchFunc(out, r.Name, func(o source.Ref, name string) int {
			return strings.Compare(o.Name, name)
		}); found {
			out[i] = r
		} else {
			out = slices.Insert(out, i, r)
		}
	}
	return out
}
