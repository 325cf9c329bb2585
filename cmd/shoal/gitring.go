package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/githost"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// The built-in Git server of a ring: any node may take a push. Its refs are entries of the ledger, appended once a
// majority of the voters has the objects on disk, so what was acknowledged outlives the node that took it. Every node
// makes its own mirror's refs those of the ledger, and fetches the objects that it lacks from the others.

// holdPatience bounds how long a push waits for a majority to have its objects.
const holdPatience = 30 * time.Second

// ownPushTime bounds how long this node leaves what it was pushed to who shows the push what becomes of it.
const ownPushTime = 2 * time.Second

// agreeRefs has the ring take a push.
func (m *machine) agreeRefs(ctx context.Context, updates []source.RefUpdate) error {
	if err := m.held(ctx, updates); err != nil {
		return err
	}
	m.ownPush.Store(time.Now().Add(ownPushTime).UnixMilli())
	push := &cluster.Push{}
	for _, u := range updates {
		push.Refs = append(push.Refs, cluster.Ref{Name: u.Name, Old: u.Old, New: u.New})
	}
	out, err := m.ledger.Append(ctx, cluster.Input{Push: push})
	if err != nil {
		return fmt.Errorf("the ring has not taken it: %w", err)
	}
	if out.Rejected != "" {
		return fmt.Errorf("the ring refused it: %s", out.Rejected)
	}
	return nil
}

// held returns once a majority of the voters has the objects of updates, which are on this node's disk.
func (m *machine) held(ctx context.Context, updates []source.RefUpdate) error {
	var ids []source.ID
	for _, u := range updates {
		if u.New != "" {
			ids = append(ids, u.New)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return m.onMajority(ctx, holdPatience, func(ctx context.Context, n place.NodeID) error { return m.peers.Call(ctx, n, pathTake, ids, nil) })
}

// onMajority has other voters do what this node has done, and returns once a majority has, or after so long at most. The
// others go on when it returns.
func (m *machine) onMajority(ctx context.Context, patience time.Duration, do func(ctx context.Context, n place.NodeID) error) error {
	voters := ringPart{m}.Voters()
	others := slices.DeleteFunc(slices.Clone(voters), func(n place.NodeID) bool { return n == m.dir.Node.ID })
	need := len(voters)/2 + 1 - (len(voters) - len(others))
	if need <= 0 {
		return nil
	}
	working, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	done := make(chan error, len(others))
	var group sync.WaitGroup
	for _, n := range others {
		group.Go(func() { done <- do(working, n) })
	}
	go func() { group.Wait(); cancel() }()
	var errs []error
	for range others {
		select {
		case err := <-done:
			if err == nil {
				need--
			} else {
				errs = append(errs, err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if need == 0 {
			return nil
		}
	}
	return fmt.Errorf("a majority of the ring's voters must have it before it counts: %w", errors.Join(errs...))
}

// takeAsked fetches commits from the node that asks.
func (m *machine) takeAsked(ctx context.Context, from place.NodeID, ids []source.ID) (struct{}, error) {
	mirror := m.peering.mirror.Load()
	if mirror == nil {
		return struct{}{}, errNotYet
	}
	return struct{}{}, mirror.TakeFrom(ctx, m.peers.Client(from), gitAt(from), ids)
}

// gitAt is where a node's mirror is read by other nodes.
func gitAt(node place.NodeID) string { return "https://" + string(node) + githost.Path }

// gitAsked serves this node's mirror to another node.
func (m *machine) gitAsked(w http.ResponseWriter, r *http.Request) {
	if server := m.peering.git.Load(); server != nil {
		server.ServeHTTP(w, r)
		return
	}
	http.Error(w, errNotYet.Error(), http.StatusServiceUnavailable)
}

// followRefs makes the mirror's refs those of the ledger, until ctx ends.
func (m *machine) followRefs(ctx context.Context) error {
	if m.opt.repository != "" { // they are the forge's
		return m.followUnpushed(ctx)
	}
	if err := m.caughtUp(ctx); err != nil {
		return err
	}
	if err := m.tellRefs(ctx); err != nil {
		return err
	}
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		case <-m.pushShown:
		case <-again.C:
		}
		if wait := time.Until(time.UnixMilli(m.ownPush.Load())); wait > 0 {
			again.Reset(wait)
			continue
		}
		switch err := m.adopt(ctx); {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, gitsync.ErrMoved): // by a push to this node
			again.Reset(10 * time.Millisecond)
		default:
			m.log.WarnContext(ctx, "refs of the ring not taken over, will retry", "err", err)
			m.yield(ctx, err)
			again.Reset(time.Second)
		}
	}
}

// caughtUp waits until this node has applied all that the ring had agreed on when it started. What was pushed here before
// may be ahead of what it has applied so far, and must not be taken back.
func (m *machine) caughtUp(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	for !m.hasCaughtUp(ctx) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		case <-time.After(500 * time.Millisecond): // the leader may have had no answer yet
		}
	}
	return nil
}

// hasCaughtUp asks the leader how far the ledger has come. One that leads has applied all that was agreed on before.
func (m *machine) hasCaughtUp(ctx context.Context) bool {
	if _, leads := m.ledger.Leadership(); leads {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	index, err := m.renewLease(ctx)
	return err == nil && m.ledger.Applied() >= index
}

// tellRefs puts refs into the ledger that were pushed before the ledger kept them.
func (m *machine) tellRefs(ctx context.Context) error {
	known, alone := 0, false
	m.ledger.View(func(s *cluster.State) { known, alone = s.Refs().Len(), s.Nodes().Len() == 1 })
	if known > 0 || !alone {
		return nil
	}
	push := &cluster.Push{}
	for _, r := range m.mirror.Refs() {
		push.Refs = append(push.Refs, cluster.Ref{Name: r.Name, New: r.ID})
	}
	if len(push.Refs) == 0 {
		return nil
	}
	out, err := m.ledger.Append(ctx, cluster.Input{Push: push})
	if err == nil && out.Rejected != "" {
		err = errors.New(out.Rejected)
	}
	return err
}

// adopt takes over what the ledger says, and fetches what is missing for it.
func (m *machine) adopt(ctx context.Context) error {
	if refs := m.agreedRefs(); slices.Equal(refs, m.adopted) { // no entry has moved one since
		return nil
	}
	stand := m.mirror.Refs() // first: what the ledger says after it is at least as new
	refs := m.agreedRefs()
	var lacking []source.ID
	for _, r := range refs {
		if !m.mirror.Has(r.ID) {
			lacking = append(lacking, r.ID)
		}
	}
	if err := m.takeFromAny(ctx, m.others(), lacking); err != nil {
		return err
	}
	if err := m.mirror.Adopt(refs, stand); err != nil {
		return err
	}
	m.adopted = refs
	m.looks.nudge()
	return nil
}

// others are the nodes that may be asked for commits.
func (m *machine) others() (nodes []place.NodeID) {
	m.ledger.View(func(s *cluster.State) {
		for n := range s.Nodes().Values() {
			if n.ID != m.dir.Node.ID && !n.Down {
				nodes = append(nodes, n.ID)
			}
		}
	})
	return nodes
}

// bring fetches a commit from another node that has it.
func (m *machine) bring(ctx context.Context, commit source.ID) error {
	return m.takeFromAny(ctx, m.others(), []source.ID{commit})
}

// agreedRefs are those of the ledger.
func (m *machine) agreedRefs() (refs []source.Ref) {
	m.ledger.View(func(s *cluster.State) {
		for r := range s.Refs().Values() {
			refs = append(refs, source.Ref{Name: r.Name, ID: r.ID})
		}
	})
	return refs
}

// takeFromAny fetches commits from the first node that has them.
func (m *machine) takeFromAny(ctx context.Context, nodes []place.NodeID, ids []source.ID) error {
	if len(ids) == 0 {
		return nil
	}
	errs := []error{fmt.Errorf("%d commits are not on this node", len(ids))}
	for _, n := range nodes {
		err := m.mirror.TakeFrom(ctx, m.peers.Client(n), gitAt(n), ids)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
