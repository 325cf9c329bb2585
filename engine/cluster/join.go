package cluster

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/place"
)

const (
	// maxTokenLife bounds how long a token may wait to be used, ms.
	maxTokenLife = 30 * 86_400_000
	// maxTokens bounds the tokens that are known; one that has expired makes room.
	maxTokens = 256
)

// token makes a token known.
func (t *tx) token(k *Token) error {
	switch {
	case k.ID == "" || len(k.ID) > 32 || strings.ContainsFunc(k.ID, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }):
		return fmt.Errorf("token %q: the id has 1 to 32 small letters and digits", clip(k.ID, 64))
	case len(k.Hash) != 64 || !isHex(k.Hash):
		return fmt.Errorf("token %s: hash: want 64 hex digits", k.ID)
	case k.Expires <= t.now || k.Expires > t.now+maxTokenLife:
		return fmt.Errorf("token %s: it is to expire at %d: want a time after %d, within 30 days", k.ID, k.Expires, t.now)
	}
	if _, ok := t.s.tokens.Get(k.ID); ok {
		return fmt.Errorf("token %s: there is one of that id", k.ID)
	}
	for old := range t.s.tokens.Values() {
		if old.Expires <= t.now {
			t.s.tokens.drop(&t.s, old.ID)
		}
	}
	if t.s.tokens.Len() >= maxTokens {
		return fmt.Errorf("token %s: %d tokens wait to be used already", k.ID, maxTokens)
	}
	t.s.tokens.set(&t.s, &TokenValue{Token: *k})
	return nil
}

// join makes a machine a node. It gets no pods before it says what it has.
func (t *tx) join(j *Join) error {
	if err := t.mayJoin(j); err != nil {
		return err
	}
	cidr, err := t.nodeCIDR()
	if err != nil {
		return err
	}
	now := &Node{Key: j.Key, Since: t.now, Peer: j.Peer, Gossip: j.Gossip}
	now.Node = place.Node{ID: j.Node, Name: j.Name, Address: j.Address, PodCIDR: cidr}
	if old, ok := t.s.nodes.Get(j.Node); ok { // it did not hear that it has joined
		again := *old
		again.Address, again.Peer, again.Gossip = j.Address, j.Peer, j.Gossip
		now = &again
	}
	t.s.nodes.set(&t.s, now)
	used := &TokenValue{Node: j.Node}
	known, _ := t.s.tokens.Get(j.Token)
	used.Token = known.Token
	t.s.tokens.set(&t.s, used)
	return nil
}

func (t *tx) mayJoin(j *Join) error {
	switch {
	case j.Node == "" || len(j.Node) > 64:
		return errors.New("join: the node's id has 1 to 64 bytes")
	case !isDomain(j.Name):
		return fmt.Errorf("join: name %q: want a DNS name in lower case", clip(j.Name, 64))
	case !j.Address.IsValid() || j.Peer == 0 || j.Gossip == 0:
		return fmt.Errorf("join: node %s has no address and ports", j.Name)
	}
	if key, err := base64.StdEncoding.DecodeString(j.Key); err != nil || len(key) != 32 {
		return fmt.Errorf("join: node %s: its key is no ed25519 public key in base64", j.Name)
	}
	known, ok := t.s.tokens.Get(j.Token)
	switch {
	case !ok:
		return fmt.Errorf("join: node %s: the token is not known; make another with `shoal token create`", j.Name)
	case known.Node != "" && known.Node != j.Node:
		return fmt.Errorf("join: node %s: the token was used by node %s; make another with `shoal token create`", j.Name, known.Node)
	case known.Node == "" && known.Expires <= t.now:
		return fmt.Errorf("join: node %s: the token has expired; make another with `shoal token create`", j.Name)
	}
	old, there := t.s.nodes.Get(j.Node)
	if there && old.Key != j.Key {
		return fmt.Errorf("join: node %s: %s is the id of node %s, whose key is another one", j.Name, j.Node, old.Name)
	}
	if known.Node != "" && !there {
		return fmt.Errorf("join: node %s has left the ring; make another token with `shoal token create`", j.Name)
	}
	if err := t.nameIsFree(j.Name, j.Node); err != nil {
		return fmt.Errorf("join: node %s (%s, %s): %w", j.Name, j.Node, j.Address, err)
	}
	return nil
}
