package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/internal/durable"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/peers"
	"github.com/shoal-dev/shoal/nodeagent/ring"
)

// What stands here a node does to its own keys: the gossip's, and those of the ring's authorities. The leader has all nodes
// do it, one step after the other (keys_rotate.go).

// keyOrder is one step of an exchange.
type keyOrder struct {
	Op  string `json:"op"`            // as below; "": say how it is
	Key []byte `json:"key,omitempty"` // of the gossip
	DER []byte `json:"der,omitempty"` // an authority's certificate
	Pin string `json:"pin,omitempty"` // an authority
}

const (
	keyInstall = "install" // read messages by a further gossip key
	keyUse     = "use"     // write by it
	keyRemove  = "remove"  // forget the other
	keyGive    = "give"    // hand the gossip keys to a node that missed an exchange
	keyTrust   = "trust"   // believe a further authority
	keyFetch   = "fetch"   // get the keys of the authorities, if this node votes
	keySign    = "sign"    // have certificates signed by it
	keyDrop    = "drop"    // believe the other no longer
)

// keyState is how the keys of a node are. Gossip keys are told by their ids.
type keyState struct {
	api.Keys
	DER   [][]byte `json:"der,omitempty"`   // of the authorities
	Given [][]byte `json:"given,omitempty"` // gossip keys, where they were asked for
}

// exchangeFile in the ring's directory holds the id of the gossip key that an exchange leads to, while it is under way.
const exchangeFile = "exchange"

// keyID names a gossip key without telling it.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("shoal gossip key "), key...))
	return hex.EncodeToString(sum[:4])
}

// ownKeys says how the keys of this node are.
func (m *machine) ownKeys() (s keyState) {
	r := m.peering.ring.Load()
	if r == nil {
		return s
	}
	for _, key := range r.Keys() {
		s.Gossip = append(s.Gossip, keyID(key))
	}
	if b, err := os.ReadFile(m.exchangePath()); err == nil {
		s.Exchange = string(b)
	}
	for _, a := range m.peers.Authorities() {
		s.Authorities = append(s.Authorities, a.Pin.String())
		s.DER = append(s.DER, a.DER)
	}
	s.SignedBy = m.peers.SignedBy().String()
	return s
}

func (m *machine) exchangePath() string { return m.dir.Path("ring", exchangeFile) }

// keysAsked does one step of an exchange here, and says how it is then. Each step may be repeated.
func (m *machine) keysAsked(ctx context.Context, _ place.NodeID, o keyOrder) (keyState, error) {
	r := m.peering.ring.Load()
	if r == nil {
		return keyState{}, errNotYet
	}
	if o.Op == keyGive {
		s := m.ownKeys()
		s.Given = r.Keys()
		return s, nil
	}
	if err := m.changeKeys(ctx, r, o); err != nil {
		return keyState{}, err
	}
	return m.ownKeys(), nil
}

func (m *machine) changeKeys(ctx context.Context, r *ring.Ring, o keyOrder) error {
	switch o.Op {
	case "":
		return nil
	case keyInstall:
		if err := m.forgetOtherExchange(r, o.Key); err != nil {
			return err
		}
		if err := durable.WriteFile(m.exchangePath(), []byte(keyID(o.Key))); err != nil {
			return err
		}
		return r.InstallKey(o.Key)
	case keyUse:
		return r.UseKey(o.Key)
	case keyRemove:
		for _, key := range r.Keys()[1:] {
			if err := r.RemoveKey(key); err != nil {
				return err
			}
		}
		if err := os.Remove(m.exchangePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	case keyTrust:
		return m.peers.Trust(o.DER)
	case keyFetch:
		if !m.votes(m.dir.Node.ID) {
			return nil
		}
		if m.holds(o.Pin) {
			return nil
		}
		if err := m.peers.FetchKeys(ctx); !m.holds(o.Pin) { // that of the one that goes may be lost
			return err
		}
		return nil
	case keySign, keyDrop:
		pin, err := peers.ParsePin(o.Pin)
		if err != nil {
			return err
		}
		if o.Op == keySign {
			return m.peers.SignBy(pin)
		}
		return m.peers.Drop(pin)
	}
	return fmt.Errorf("%q is no step of an exchange of keys", o.Op)
}

// forgetOtherExchange makes room for a key where another exchange has left one that nothing is written by yet.
func (m *machine) forgetOtherExchange(r *ring.Ring, key []byte) error {
	for _, have := range r.Keys() {
		if keyID(have) == keyID(key) {
			return nil
		}
	}
	for _, have := range r.Keys()[1:] {
		if err := r.RemoveKey(have); err != nil {
			return err
		}
	}
	return nil
}

// A node that misses others in the gossip compares its keys with the leader's: at once, and every keysSoon until the leader
// has answered; then after twice that, doubled up to keysLate as long as somebody is missed.
const (
	keysSoon = time.Second
	keysLate = 30 * time.Second
)

// followKeys has this node come back that was away while keys were exchanged. Without the gossip's it hears nobody, or only
// those who were away with it; and of the authorities it has learnt the new one, and trusts the old one still. Who leads
// has those that hold; it is found by the ledger, which needs no gossip.
func (m *machine) followKeys(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	var next <-chan time.Time
	pause := keysSoon
	for {
		if m.missesSome() || len(m.peers.Authorities()) > 1 || len(m.ring.Keys()) > 1 {
			compared, err := m.adoptKeys(ctx)
			switch {
			case err != nil:
				m.log.InfoContext(ctx, "keys not compared with the leader's, will retry", "err", err)
			case compared:
				pause = min(2*pause, keysLate)
			}
			next = time.After(pause)
		} else {
			next, pause = nil, keysSoon
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-next:
				waiting = false
			case <-changes:
				waiting = next != nil // a look is due anyway
			}
		}
	}
}

// missesSome says whether a node of the ring is not there, as far as the gossip goes.
func (m *machine) missesSome() bool {
	wanted := m.wanted()
	if len(wanted) < 2 {
		return false
	}
	alive := m.alive()
	for _, id := range wanted {
		if !alive[id] {
			return true
		}
	}
	return false
}

// adoptKeys takes the leader's gossip keys, if they are others, and drops authorities that it trusts no longer. It says whether there
// is a leader to compare them with.
func (m *machine) adoptKeys(ctx context.Context) (compared bool, err error) {
	leader, known := m.ledger.Leader()
	switch {
	case !known:
		return false, nil
	case leader == m.dir.Node.ID:
		return true, nil
	}
	var s keyState
	if err := m.peers.Call(ctx, leader, pathKeys, keyOrder{Op: keyGive}, &s); err != nil {
		return false, err
	}
	if len(s.Given) == 0 {
		return false, errors.New("the leader gave no keys")
	}
	if err := m.dropAuthorities(s.Authorities); err != nil {
		return false, err
	}
	have := m.ring.Keys()
	same := len(have) == len(s.Given)
	for i := range have {
		same = same && keyID(have[i]) == keyID(s.Given[i])
	}
	if same {
		return true, nil
	}
	if err := m.ring.SetKeys(s.Given); err != nil {
		return false, err
	}
	m.log.InfoContext(ctx, "gossip keys were exchanged while this node was away, and taken over", "from", leader)
	if len(s.Given) == 1 {
		if err := os.Remove(m.exchangePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	m.ring.Seek()
	return true, nil
}

// dropAuthorities believes those alone that the leader believes, once this node's certificate is of one of them.
func (m *machine) dropAuthorities(leaders []string) error {
	if len(leaders) == 0 || !slices.Contains(leaders, m.peers.SignedBy().String()) {
		return nil
	}
	for _, a := range m.peers.Authorities() {
		if slices.Contains(leaders, a.Pin.String()) {
			continue
		}
		if a.Signs { // of two, the one that signs is not dropped
			pin, err := peers.ParsePin(leaders[0])
			if err != nil {
				return err
			}
			if err := m.peers.SignBy(pin); err != nil {
				return err
			}
		}
		if err := m.peers.Drop(a.Pin); err != nil {
			return err
		}
	}
	return nil
}

// holds says whether the key of an authority is on this node.
func (m *machine) holds(pin string) bool {
	return slices.ContainsFunc(m.peers.Authorities(), func(a peers.Authority) bool { return a.Held && a.Pin.String() == pin })
}
