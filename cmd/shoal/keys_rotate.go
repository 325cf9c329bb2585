package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/peers"
	"github.com/shoal-dev/shoal/nodeagent/ring"
)

// An exchange of keys goes over all nodes several times, each step done by all before the next one begins. The leader drives
// it, and keeps nothing of it: how far it is, is read off the nodes, so whoever leads next goes on with it when it is asked
// to again. Every node that is up must do each step, or it would be cut off; one that is down is passed over, and takes the
// keys over when it returns.

const (
	rotateKeys      = "keys"      // the gossip's
	rotateAuthority = "authority" // the ring's
	// rotateWithin bounds an exchange.
	rotateWithin = time.Minute
)

// exchange is one that goes on.
type exchange struct {
	list  func() []ringNode
	call  func(ctx context.Context, id place.NodeID, o keyOrder) (keyState, error)
	begin func(ctx context.Context) (peers.Authority, error) // makes an authority on this node

	up   []place.NodeID // as of the step before
	away []string       // names
	name map[place.NodeID]string
}

// ringNode is a node of the ring.
type ringNode struct {
	id   place.NodeID
	name string
	up   bool
}

// newExchange has this node drive one.
func (m *machine) newExchange() *exchange {
	return &exchange{
		list: func() (all []ringNode) {
			m.ledger.View(func(s *cluster.State) {
				for n := range s.Nodes().Values() {
					all = append(all, ringNode{n.ID, n.Name, n.Up && !n.Down})
				}
			})
			return all
		},
		call: func(ctx context.Context, id place.NodeID, o keyOrder) (s keyState, err error) {
			if id == m.dir.Node.ID {
				return m.keysAsked(ctx, id, o)
			}
			return s, m.peers.Call(ctx, id, pathKeys, o, &s)
		},
		begin: func(context.Context) (peers.Authority, error) { return m.peers.NewAuthority() },
	}
}

// rotate exchanges keys, by the node that leads.
func (m *machine) rotate(ctx context.Context, what string) (out api.Rotation, err error) {
	ctx, cancel := context.WithTimeout(ctx, rotateWithin)
	defer cancel()
	leader, known := m.ledger.Leader()
	switch {
	case !known:
		return out, nodeagent.ErrNotLeading
	case leader != m.dir.Node.ID:
		return out, m.peers.Call(ctx, leader, pathRotate, what, &out)
	}
	return m.rotateAsked(ctx, leader, what)
}

// rotateAsked drives an exchange; there is one at a time.
func (m *machine) rotateAsked(ctx context.Context, _ place.NodeID, what string) (api.Rotation, error) {
	if !m.rotating.TryLock() {
		return api.Rotation{}, errors.New("keys are being exchanged already")
	}
	defer m.rotating.Unlock()
	ctx, cancel := context.WithTimeout(ctx, rotateWithin)
	defer cancel()
	if _, _, err := m.ledger.Verify(ctx); err != nil { // not by one that led before the others went on without it
		return api.Rotation{}, err
	}
	switch what {
	case rotateKeys:
		return m.newExchange().keys(ctx)
	case rotateAuthority:
		if err := m.fetchAuthority(ctx); err != nil {
			return api.Rotation{}, err
		}
		return m.newExchange().authority(ctx)
	}
	return api.Rotation{}, fmt.Errorf("%q: expected %s or %s", what, rotateKeys, rotateAuthority)
}

// fetchAuthority has this node hold the key of the authority. A holder may come back; but the only node of what is left of a
// ring makes a new one without.
func (m *machine) fetchAuthority(ctx context.Context) error {
	if m.peers.HoldsKey() {
		return nil
	}
	err := m.peers.FetchKeys(ctx)
	for _, n := range m.newExchange().list() {
		if n.up && n.id != m.dir.Node.ID {
			return err
		}
	}
	return nil
}

// all has every node that is up do a step.
func (x *exchange) all(ctx context.Context, order func(place.NodeID, keyState) *keyOrder) (map[place.NodeID]keyState, error) {
	x.up, x.away, x.name = nil, nil, map[place.NodeID]string{}
	for _, n := range x.list() {
		x.name[n.id] = n.name
		if n.up {
			x.up = append(x.up, n.id)
		} else {
			x.away = append(x.away, n.name)
		}
	}
	states := map[place.NodeID]keyState{}
	for _, id := range x.up {
		s, err := x.ask(ctx, id, keyOrder{})
		if err != nil {
			return nil, err
		}
		if o := order(id, s); o != nil {
			if s, err = x.ask(ctx, id, *o); err != nil {
				return nil, err
			}
		}
		states[id] = s
	}
	return states, nil
}

func (x *exchange) ask(ctx context.Context, id place.NodeID, o keyOrder) (s keyState, err error) {
	if s, err = x.call(ctx, id, o); err != nil {
		return s, fmt.Errorf("%s: %w: nothing is cut off; say it again to go on", x.name[id], err)
	}
	return s, nil
}

func look(place.NodeID, keyState) *keyOrder { return nil }

// each has all steps done, one after the other.
func (x *exchange) each(ctx context.Context, steps []func(place.NodeID, keyState) *keyOrder) error {
	for _, step := range steps {
		if _, err := x.all(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// other is what the nodes have that is not what an exchange leads to; "" if they have nothing else.
func (x *exchange) other(to string, of func(place.NodeID) []string) (was string) {
	for _, id := range x.up {
		for _, have := range of(id) {
			if have != to {
				was = have
			}
		}
	}
	return was
}

// keys exchanges the key of the gossip.
func (x *exchange) keys(ctx context.Context) (api.Rotation, error) {
	states, err := x.all(ctx, look)
	if err != nil {
		return api.Rotation{}, err
	}
	next, err := x.nextKey(ctx, states)
	if err != nil {
		return api.Rotation{}, err
	}
	to := keyID(next)
	was := x.other(to, func(id place.NodeID) []string { return states[id].Gossip })
	steps := []func(place.NodeID, keyState) *keyOrder{
		func(_ place.NodeID, s keyState) *keyOrder {
			if slices.Contains(s.Gossip, to) && s.Exchange == to {
				return nil
			}
			return &keyOrder{Op: keyInstall, Key: next}
		},
		func(_ place.NodeID, s keyState) *keyOrder {
			if len(s.Gossip) > 0 && s.Gossip[0] == to {
				return nil
			}
			return &keyOrder{Op: keyUse, Key: next}
		},
		func(place.NodeID, keyState) *keyOrder { return &keyOrder{Op: keyRemove} },
	}
	if err := x.each(ctx, steps); err != nil {
		return api.Rotation{}, err
	}
	return x.done(rotateKeys, was, to), nil
}

// nextKey is the key that an exchange leads to that was begun before, or a new one.
func (x *exchange) nextKey(ctx context.Context, states map[place.NodeID]keyState) ([]byte, error) {
	var begun []string
	for _, id := range x.up {
		s := states[id]
		if s.Exchange != "" && slices.Contains(s.Gossip, s.Exchange) {
			begun = append(begun, s.Exchange)
		}
	}
	if len(begun) == 0 {
		return ring.NewKey(), nil
	}
	to := slices.Min(begun) // of two that were begun one is as good as the other
	for _, id := range x.up {
		if first := states[id].Gossip[0]; slices.Contains(begun, first) && first == states[id].Exchange {
			to = first // unless something is written by one already
		}
	}
	for _, id := range x.up {
		if !slices.Contains(states[id].Gossip, to) {
			continue
		}
		s, err := x.ask(ctx, id, keyOrder{Op: keyGive})
		if err != nil {
			return nil, err
		}
		for _, key := range s.Given {
			if keyID(key) == to {
				return key, nil
			}
		}
	}
	return nil, errors.New("the key that was begun with is gone: say it again")
}

// authority exchanges the ring's authority.
func (x *exchange) authority(ctx context.Context) (api.Rotation, error) {
	states, err := x.all(ctx, look)
	if err != nil {
		return api.Rotation{}, err
	}
	next, err := x.nextAuthority(ctx, states)
	if err != nil {
		return api.Rotation{}, err
	}
	to := next.Pin.String()
	was := x.other(to, func(id place.NodeID) []string { return states[id].Authorities })
	steps := []func(place.NodeID, keyState) *keyOrder{
		func(_ place.NodeID, s keyState) *keyOrder {
			if slices.Contains(s.Authorities, to) {
				return nil
			}
			return &keyOrder{Op: keyTrust, DER: next.DER}
		},
		func(place.NodeID, keyState) *keyOrder { return &keyOrder{Op: keyFetch, Pin: to} },
		func(_ place.NodeID, s keyState) *keyOrder {
			if s.Authorities[0] == to && s.SignedBy == to {
				return nil
			}
			return &keyOrder{Op: keySign, Pin: to}
		},
	}
	if err := x.each(ctx, steps); err != nil {
		return api.Rotation{}, err
	}
	if err := x.awaitSigned(ctx, to); err != nil {
		return api.Rotation{}, err
	}
	for { // one other at a time, should there be several
		states, err := x.all(ctx, func(_ place.NodeID, s keyState) *keyOrder {
			for _, have := range s.Authorities {
				if have != to {
					return &keyOrder{Op: keyDrop, Pin: have}
				}
			}
			return nil
		})
		if err != nil {
			return api.Rotation{}, err
		}
		if !slices.ContainsFunc(x.up, func(id place.NodeID) bool { return len(states[id].Authorities) > 1 }) {
			return x.done(rotateAuthority, shortPin(was), shortPin(to)), nil
		}
	}
}

// nextAuthority is the one that an exchange leads to that was begun before, which is the youngest of several, or a new one.
func (x *exchange) nextAuthority(ctx context.Context, states map[place.NodeID]keyState) (next peers.Authority, err error) {
	known := map[string][]byte{}
	for _, s := range states {
		for i, pin := range s.Authorities {
			known[pin] = s.DER[i]
		}
	}
	if len(known) < 2 {
		return x.begin(ctx)
	}
	var youngest *x509.Certificate
	for _, der := range known {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return next, err
		}
		if youngest == nil || cmpAge(c, youngest) > 0 {
			youngest = c
		}
	}
	for pin, der := range known {
		if bytes.Equal(der, youngest.Raw) {
			next.DER = der
			next.Pin, err = peers.ParsePin(pin)
		}
	}
	return next, err
}

// cmpAge is above 0 if a was made after b.
func cmpAge(a, b *x509.Certificate) int {
	if c := a.NotBefore.Compare(b.NotBefore); c != 0 {
		return c
	}
	return bytes.Compare(a.Raw, b.Raw)
}

// awaitSigned waits until each node that is up has a certificate of the new authority.
func (x *exchange) awaitSigned(ctx context.Context, to string) error {
	for {
		states, err := x.all(ctx, look)
		if err != nil {
			return err
		}
		var not []string
		for _, id := range x.up {
			if states[id].SignedBy != to {
				not = append(not, x.name[id])
			}
		}
		if len(not) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%v have no certificate of the new authority yet; both are trusted: say it again to go on", not)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (x *exchange) done(what, was, is string) api.Rotation {
	r := api.Rotation{What: what, From: was, To: is, Away: x.away}
	for _, id := range x.up {
		r.Nodes = append(r.Nodes, x.name[id])
	}
	slices.Sort(r.Nodes)
	slices.Sort(r.Away)
	return r
}

// shortPin is enough of a pin for people.
func shortPin(pin string) string { return pin[:min(len(pin), 12)] }
