package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// What the ring puts onto a branch while its forge is away counts at once: the commit is on a majority of the voters, and the ledger says that the
// branch stands there. It is pushed when the forge is back. If somebody has moved the branch there meanwhile, its environment is held
// until that one goes on from what the ring has made.

const (
	pushAgain   = 3 * time.Second
	maxUnpushed = 100 // commits on one branch
)

// keepForLater notes a commit that could not be pushed. It gives back an error if the forge has said no, or if it is to blame on us.
func (m *machine) keepForLater(ctx context.Context, ref string, old, id source.ID, failed error) error {
	if _, refused := errors.AsType[*gitsync.RefusedError](failed); refused || errors.Is(failed, gitsync.ErrMoved) || m.opt.repository == "" {
		return failed
	}
	if err := m.mirror.Pin(ctx, unpushedPins, id); err != nil {
		return errors.Join(failed, err)
	}
	if err := m.held(ctx, []source.RefUpdate{{Name: ref, Old: old, New: id}}); err != nil {
		return errors.Join(failed, err)
	}
	before, there := m.unpushedRef(ref)
	if there && before != old { // unless the forge has that one, and more, somebody else has made a commit meanwhile
		if has, err := m.mirror.IsAncestor(ctx, before, old); err != nil || !has {
			return errors.Join(gitsync.ErrMoved, err)
		}
	}
	out, err := m.ledger.Append(ctx, cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: ref, Old: before, New: id}}}})
	if err == nil && out.Rejected != "" {
		err = errors.New(out.Rejected)
	}
	if err != nil {
		return errors.Join(failed, err)
	}
	m.log.WarnContext(ctx, "forge not reached: what the ring has made counts, and is pushed later", "ref", ref, "commit", id.Short(), "err", failed)
	return nil
}

// unpushedPins keeps commits that the forge does not have yet.
const unpushedPins = nodeagent.OwnPins + "unpushed"

// unpushedRef is where a branch stands that the forge has not heard of.
func (m *machine) unpushedRef(ref string) (id source.ID, ok bool) {
	if m.opt.repository == "" {
		return "", false
	}
	m.ledger.View(func(s *cluster.State) {
		if r, there := s.Refs().Get(ref); there {
			id, ok = r.ID, true
		}
	})
	return id, ok
}

// unpushed is where a branch stands that the forge has not heard of, "" if it has. It is an error if the forge's branch went another way.
func (m *machine) unpushed(ref string) (source.ID, error) {
	ours, ok := m.unpushedRef(ref)
	if !ok {
		return "", nil
	}
	theirs, err := m.mirror.Head(ref)
	if errors.Is(err, gitsync.ErrNoRef) || !m.mirror.Has(ours) {
		return ours, nil
	}
	if err != nil {
		return "", err
	}
	relation, err := m.mirror.Relation(context.Background(), theirs, ours)
	switch {
	case err != nil:
		return "", err
	case relation == source.Same || relation == source.Forward:
		return ours, nil
	case relation == source.Backward: // the forge has it, and more
		return "", nil
	}
	return "", &crossedError{ref, ours, theirs}
}

// crossedError says that the ring and somebody else have both moved a branch while the forge was away.
type crossedError struct {
	ref          string
	ours, theirs source.ID
}

func (e *crossedError) Error() string {
	name := strings.TrimPrefix(e.ref, "refs/heads/")
	return fmt.Sprintf("%s: the ring made %s while the forge was away, and the forge's branch was moved to %s meanwhile: what runs goes on, and nothing more comes in. "+
		"What the ring made is on the forge as %s; `git fetch && git push --force-with-lease=%s:%s origin origin/%[4]s:%[5]s` lets it stand, and what else was pushed there can follow with `shoal hotfix`",
		name, e.ours.Short(), e.theirs.Short(), strings.TrimPrefix(beside(e.ref, e.ours), "refs/heads/"), name, e.theirs)
}

// beside is the branch of the forge for what the ring has made of another, which was moved meanwhile.
func beside(ref string, ours source.ID) string {
	return "refs/heads/shoal/unpushed/" + strings.TrimPrefix(ref, "refs/heads/") + "-" + ours.Short()
}

// unpushedWarnings say what of the ring's the forge has not heard of.
func (m *machine) unpushedWarnings() (warnings []string) {
	if m.opt.repository == "" {
		return nil
	}
	var refs []string
	m.ledger.View(func(s *cluster.State) {
		for r := range s.Refs().Values() {
			refs = append(refs, r.Name)
		}
	})
	for _, ref := range refs {
		switch ours, err := m.unpushed(ref); {
		case err != nil:
			warnings = append(warnings, err.Error())
		case ours != "":
			warnings = append(warnings, fmt.Sprintf("the forge does not have %s of %s yet, which the ring has made: it counts, and is pushed when the forge is back", ours.Short(), strings.TrimPrefix(ref, "refs/heads/")))
		}
	}
	return warnings
}

// followUnpushed has this node look when another has made a commit that the forge does not have, or the forge has it: no poll tells of that.
func (m *machine) followUnpushed(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	var known []source.Ref
	for {
		if now := m.agreedRefs(); !slices.Equal(now, known) {
			known = now
			m.looks.nudge()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		}
	}
}

// pushLater pushes, on the leader, what the forge has not heard of.
func (m *machine) pushLater(ctx context.Context) error {
	if m.opt.repository == "" {
		return nil
	}
	tick := time.NewTicker(pushAgain)
	defer tick.Stop()
	besides := map[string]source.ID{} // what stands on branches of its own, by branch
	said := ""
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if !m.ledger.Leading() {
			continue
		}
		var refs []source.Ref
		m.ledger.View(func(s *cluster.State) {
			for r := range s.Refs().Values() {
				refs = append(refs, source.Ref{Name: r.Name, ID: r.ID})
			}
		})
		for _, r := range refs {
			if err := m.pushNow(ctx, r, besides); err != nil && ctx.Err() == nil && said != err.Error() {
				said = err.Error()
				m.log.WarnContext(ctx, "not pushed to the forge yet, will be tried again", "ref", r.Name, "err", err)
			}
		}
	}
}

// pushNow brings the forge's branch to where the ring has it, commit by commit, and then lets the forge's word count again.
func (m *machine) pushNow(ctx context.Context, r source.Ref, besides map[string]source.ID) error {
	if _, err := m.mirror.Fetch(ctx); err != nil {
		return err
	}
	theirs, err := m.mirror.Head(r.Name)
	if err != nil && !errors.Is(err, gitsync.ErrNoRef) {
		return err
	}
	if theirs != "" {
		if has, err := m.mirror.IsAncestor(ctx, r.ID, theirs); err == nil && has {
			return m.pushedAll(ctx, r)
		}
	}
	if _, err := m.unpushed(r.Name); err != nil {
		return errors.Join(err, m.pushBeside(ctx, r, besides))
	}
	chain, err := m.unpushedSince(ctx, r, theirs)
	if err != nil {
		return err
	}
	for _, id := range slices.Backward(chain) {
		if err := m.mirror.PushCommit(ctx, r.Name, theirs, id); err != nil {
			return err
		}
		theirs = id
	}
	if _, err := m.mirror.Fetch(ctx); err != nil {
		return err
	}
	return m.pushedAll(ctx, r)
}

// pushBeside puts what the ring has made onto a branch of its own, where people can have it, unless it is there.
func (m *machine) pushBeside(ctx context.Context, r source.Ref, besides map[string]source.ID) error {
	if besides[r.Name] == r.ID {
		return nil
	}
	chain, err := m.unpushedSince(ctx, r, "")
	if err != nil {
		return err
	}
	before := source.ID("")
	for _, id := range slices.Backward(chain) {
		if err := m.mirror.PushCommit(ctx, beside(r.Name, r.ID), before, id); err != nil && !errors.Is(err, gitsync.ErrMoved) { // else an earlier try came so far
			return err
		}
		before = id
	}
	besides[r.Name] = r.ID
	return nil
}

// unpushedSince are the commits from where the ring has a branch back to where the forge has it, newest first. A branch that the forge
// does not have begins where one begins that it has.
func (m *machine) unpushedSince(ctx context.Context, r source.Ref, theirs source.ID) (chain []source.ID, err error) {
	for id := r.ID; id != theirs && (theirs != "" || !m.onForge(ctx, id)); {
		if len(chain) == maxUnpushed {
			return nil, fmt.Errorf("%s: the forge's %s is not among the %d commits before %s", r.Name, theirs.Short(), maxUnpushed, r.ID.Short())
		}
		chain = append(chain, id)
		c, err := m.mirror.Commit(ctx, id)
		if err != nil {
			return nil, err
		}
		if len(c.Parents) == 0 {
			return nil, fmt.Errorf("%s: was moved on the forge to %s, which %s does not go on from", r.Name, theirs.Short(), r.ID.Short())
		}
		id = c.Parents[0]
	}
	return chain, nil
}

// onForge tells whether a branch of the forge has a commit.
func (m *machine) onForge(ctx context.Context, id source.ID) bool {
	for _, r := range m.mirror.Refs() {
		if has, err := m.mirror.IsAncestor(ctx, id, r.ID); err == nil && has {
			return true
		}
	}
	return false
}

// pushedAll lets the forge's word count again.
func (m *machine) pushedAll(ctx context.Context, r source.Ref) error {
	out, err := m.ledger.Append(ctx, cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: r.Name, Old: r.ID}}}})
	if err == nil && out.Rejected != "" {
		err = errors.New(out.Rejected)
	}
	for _, id := range m.mirror.Pins(unpushedPins) {
		err = errors.Join(err, m.mirror.Unpin(ctx, unpushedPins, id))
	}
	if err == nil {
		m.log.InfoContext(ctx, "pushed to the forge", "ref", r.Name, "commit", r.ID.Short())
	}
	return err
}
