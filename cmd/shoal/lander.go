package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/checks"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// promoting is what the leader does for environments by itself.
func (m *machine) promoting() *nodeagent.Promoting {
	asker := checks.New(netip.AddrPortFrom(wire.DNSAddress(m.ringFacts.ServiceCIDR), 53))
	return nodeagent.NewPromoting(nodeagent.PromotingOptions{
		Node: m.node, Leading: m.ledger.Leading, Log: m.log,
		Ask: func(ctx context.Context, c promote.Check) (bool, string) {
			a := asker.Ask(ctx, c)
			return a.OK, a.Text
		},
	})
}

// landerPart puts commits of the ring onto branches, for the deployer.
type landerPart struct{ m *machine }

func (l landerPart) Land(ctx context.Context, ref string, old source.ID, raw []byte) (source.ID, error) {
	id, err := l.m.mirror.Land(ctx, ref, old, raw)
	if err != nil && id != "" {
		err = l.m.keepForLater(ctx, source.FullRefName(ref), old, id, err)
	}
	if err != nil && l.moved(ctx, ref, old, err) {
		err = fmt.Errorf("%w (%w)", nodeagent.ErrMoved, err)
	}
	l.m.ownPush.Store(0) // nobody is at the other end to be shown what becomes of it
	l.m.looks.nudge()
	return id, err
}

// moved tells whether a commit did not get onto a branch because that is elsewhere, after a look at the forge.
func (l landerPart) moved(ctx context.Context, ref string, old source.ID, err error) bool {
	ref = source.FullRefName(ref)
	if l.m.opt.repository != "" {
		if errors.Is(err, gitsync.ErrMoved) {
			_, _ = l.m.mirror.Fetch(ctx) // what cannot be read now is read by the next look
			return true
		}
		_, refused := errors.AsType[*gitsync.RefusedError](err)
		if !refused { // it may be that somebody was quicker by less than the forge takes for a push
			return false
		}
		if _, err := l.m.mirror.Fetch(ctx); err != nil {
			return false
		}
		now, err := l.m.mirror.Head(ref)
		return err == nil && now != old
	}
	if errors.Is(err, gitsync.ErrMoved) {
		return true
	}
	var now source.ID
	l.m.ledger.View(func(s *cluster.State) {
		if r, ok := s.Refs().Get(ref); ok {
			now = r.ID
		}
	})
	return now != old
}

func (l landerPart) Refresh(ctx context.Context) error {
	_, err := l.m.mirror.Fetch(ctx)
	return err
}

func (l landerPart) Expand(ctx context.Context, name string) (source.ID, error) {
	return l.m.mirror.Expand(ctx, name)
}

// signAsRing puts the ring's signature into a commit.
func (m *machine) signAsRing(raw []byte) ([]byte, error) {
	key, err := m.ringSigner()
	if err != nil {
		return nil, err
	}
	return trust.SignCommit(raw, key)
}
