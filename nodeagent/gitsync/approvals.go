package gitsync

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// maxApprovals bounds the approvals that are followed. A host may have more, of commits that are not here.
const maxApprovals = 4096

const (
	alone = 64 // approvals that are asked for one by one, once a pack with all of them did not come
	tries = 3  // how often a tag is asked for that does not come
)

// isApproval says whether a ref of a host is the name of an approval of a commit that is here.
func (m *Mirror) isApproval(name string) bool {
	rest, ok := strings.CutPrefix(name, trust.ApprovalRefs)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "/")
	return len(parts) == 3 && m.Has(source.ID(parts[1]))
}

// approvals brings the tags that approve commits up to the host's: what somebody withdrew there is gone here. They come apart
// from the branches and after them, so that a tag that cannot be taken holds no commit back. They are small: a tag whose commit
// is not here is not asked for. The caller holds fetching.
func (m *Mirror) approvals(ctx context.Context, a *advert) []RefChange {
	var moves []bare.Move
	have := map[string]bare.Hash{}
	for name, h := range m.repo.Refs() {
		if strings.HasPrefix(name, trust.ApprovalRefs) {
			have[name] = h
			if a.refs[name].IsZero() {
				moves = append(moves, bare.Move{Name: name, Old: h})
			}
		}
	}
	room := maxApprovals - len(have) + len(moves)
	left := 0
	var want []bare.Hash
	for _, name := range slices.Sorted(maps.Keys(a.refs)) {
		tip := a.refs[name]
		if !m.isApproval(name) || have[name] == tip || m.refused[tip] >= tries {
			continue
		}
		if have[name].IsZero() {
			if room == 0 {
				left++
				continue
			}
			room--
		}
		moves = append(moves, bare.Move{Name: name, Old: have[name], New: tip})
		if !m.repo.Has(tip) {
			want = append(want, tip)
		}
	}
	if left > 0 {
		m.opt.Log.WarnContext(ctx, "the host has more approvals than are followed: delete old ones there", "followed", maxApprovals, "left", left)
	}
	if len(moves) == 0 {
		return nil
	}
	m.takeTags(ctx, want)
	moves = slices.DeleteFunc(moves, func(mv bare.Move) bool {
		if mv.New.IsZero() {
			return false
		}
		if _, err := m.repo.ReadKind(mv.New, bare.Tag); err != nil {
			if !errors.Is(err, ErrMissing) { // it is here, and no annotated tag
				m.refuse(mv.New, tries)
			}
			m.opt.Log.WarnContext(ctx, "an approval is passed over", "ref", mv.Name, "err", err)
			return true
		}
		return false
	})
	if err := m.repo.UpdateRefs(moves); err != nil {
		m.opt.Log.WarnContext(ctx, "approvals are not taken over, will retry", "err", err)
		return nil
	}
	changes := make([]RefChange, len(moves))
	for i, mv := range moves {
		changes[i].Ref = mv.Name
		if !mv.Old.IsZero() {
			changes[i].Old = source.ID(mv.Old.String())
		}
		if !mv.New.IsZero() {
			changes[i].New = source.ID(mv.New.String())
		}
	}
	return changes
}

// takeTags fetches tags; if that does not work for all together, each by itself.
func (m *Mirror) takeTags(ctx context.Context, want []bare.Hash) {
	if len(want) == 0 {
		return
	}
	take := func(want []bare.Hash) error {
		r, err := m.dial()
		if err != nil {
			return err
		}
		defer r.Close()
		a, err := advertised(ctx, r)
		if err != nil {
			return err
		}
		return m.take(ctx, r, a, bare.Ask{Want: want, Have: m.haves(), Shallow: m.repo.Shallow()})
	}
	if err := take(want); err == nil || ctx.Err() != nil {
		return
	} else if len(want) == 1 {
		m.refuse(want[0], 1)
		return
	}
	for _, h := range want[:min(len(want), alone)] {
		if take([]bare.Hash{h}) != nil && ctx.Err() == nil {
			m.refuse(h, 1)
		}
	}
}

// refuse counts how often a tag was of no use. Until the mirror is opened again it is not fetched with each poll.
func (m *Mirror) refuse(h bare.Hash, times int) {
	if m.refused == nil || len(m.refused) >= 4*maxApprovals {
		m.refused = map[bare.Hash]int{}
	}
	m.refused[h] += times
}
