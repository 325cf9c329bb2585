package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/peers"
	"github.com/shoal-dev/shoal/nodeagent/ring"
)

// keyNode is a node as far as keys go, by the rules of packages ring and peers.
type keyNode struct {
	gossip      [][]byte
	exchange    string
	authorities [][]byte // DER
	signedBy    string
}

func pinOfDER(der []byte) string {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%064x", c.SerialNumber)
}

func (n *keyNode) state() (s keyState) {
	for _, k := range n.gossip {
		s.Gossip = append(s.Gossip, keyID(k))
	}
	for _, a := range n.authorities {
		s.Authorities, s.DER = append(s.Authorities, pinOfDER(a)), append(s.DER, a)
	}
	s.Exchange, s.SignedBy = n.exchange, n.signedBy
	return s
}

func (n *keyNode) at(pin string) int {
	return slices.IndexFunc(n.authorities, func(der []byte) bool { return pinOfDER(der) == pin })
}

func (n *keyNode) do(o keyOrder) (keyState, error) {
	has := slices.IndexFunc(n.gossip, func(k []byte) bool { return keyID(k) == keyID(o.Key) })
	switch o.Op {
	case keyGive:
		s := n.state()
		s.Given = slices.Clone(n.gossip)
		return s, nil
	case keyInstall:
		if has < 0 {
			n.gossip = [][]byte{n.gossip[0], o.Key}
		}
		n.exchange = keyID(o.Key)
	case keyUse:
		if has < 0 {
			return keyState{}, errors.New("use key: it is not installed")
		}
		n.gossip = slices.Insert(slices.Delete(slices.Clone(n.gossip), has, has+1), 0, o.Key)
	case keyRemove:
		n.gossip, n.exchange = n.gossip[:1:1], ""
	case keyTrust:
		if n.at(pinOfDER(o.DER)) < 0 {
			n.authorities = append(slices.Clone(n.authorities), o.DER)
		}
	case keySign:
		i := n.at(o.Pin)
		if i < 0 {
			return keyState{}, errors.New("sign by: not trusted")
		}
		der := n.authorities[i]
		n.authorities = slices.Insert(slices.Delete(slices.Clone(n.authorities), i, i+1), 0, der)
		n.signedBy = o.Pin
	case keyDrop:
		i := n.at(o.Pin)
		if i == 0 || n.signedBy == o.Pin {
			return keyState{}, errors.New("drop: it signs")
		}
		if i > 0 {
			n.authorities = slices.Delete(slices.Clone(n.authorities), i, i+1)
		}
	}
	return n.state(), nil
}

// apart tells which two nodes do not understand or believe each other.
func keysApart(nodes map[place.NodeID]*keyNode) string {
	for a, from := range nodes {
		for b, to := range nodes {
			if !slices.ContainsFunc(to.gossip, func(k []byte) bool { return keyID(k) == keyID(from.gossip[0]) }) {
				return fmt.Sprintf("%s does not read what %s writes", b, a)
			}
			if to.at(from.signedBy) < 0 {
				return fmt.Sprintf("%s does not believe the certificate of %s", b, a)
			}
		}
	}
	return ""
}

var authoritySerial int64

// anAuthority is a certificate that was made so many minutes after some time.
func anAuthority(t *testing.T, minutes int) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	authoritySerial++
	c := &x509.Certificate{SerialNumber: big.NewInt(authoritySerial), NotBefore: time.Unix(1_800_000_000, 0).Add(time.Duration(minutes) * time.Minute)}
	der, err := x509.CreateCertificate(nil, c, c, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// An exchange may end at any step, with the loss of the node that drives it: all nodes understand each other all the time,
// and the next one that drives it brings the same exchange to its end.
func TestExchangeEndsAnywhere(t *testing.T) {
	for _, what := range []string{rotateKeys, rotateAuthority} {
		for lost, done := 0, false; !done; lost++ {
			first, old := ring.NewKey(), anAuthority(t, 0)
			nodes := map[place.NodeID]*keyNode{}
			for _, id := range []place.NodeID{"n1", "n2", "n3"} {
				nodes[id] = &keyNode{gossip: [][]byte{first}, authorities: [][]byte{old}, signedBy: pinOfDER(old)}
			}
			begun := map[string]bool{} // what exchanges were begun to
			drive := func(self place.NodeID, steps int, at int) error {
				x := &exchange{
					list: func() []ringNode { return []ringNode{{"n1", "one", true}, {"n2", "two", true}, {"n3", "three", true}} },
					call: func(_ context.Context, id place.NodeID, o keyOrder) (keyState, error) {
						if steps--; steps < 0 {
							return keyState{}, errors.New("lost")
						}
						s, err := nodes[id].do(o)
						if o.Op == keyInstall {
							begun[keyID(o.Key)] = true
						}
						if why := keysApart(nodes); why != "" {
							t.Fatalf("%s, lost after %d: after %s on %s %s", what, lost, o.Op, id, why)
						}
						return s, err
					},
					begin: func(context.Context) (a peers.Authority, err error) {
						der := anAuthority(t, at)
						begun[pinOfDER(der)] = true
						nodes[self].authorities = append(slices.Clone(nodes[self].authorities), der)
						a.DER = der
						a.Pin, err = peers.ParsePin(pinOfDER(der))
						return a, err
					},
				}
				if what == rotateKeys {
					_, err := x.keys(t.Context())
					return err
				}
				_, err := x.authority(t.Context())
				return err
			}
			err := drive("n1", lost, 1)
			finished := atEnd(nodes) // but for the answer
			if done = err == nil; !done && len(begun) > 0 {
				err = drive("n2", 1000, 2)
			}
			if err != nil && len(begun) > 0 {
				t.Fatalf("%s, lost after %d: %v", what, lost, err)
			}
			if len(begun) > 1 && !finished {
				t.Errorf("%s, lost after %d: a second exchange was begun beside the first", what, lost)
			}
			for id, n := range nodes {
				if len(begun) == 0 {
					continue // nothing was done yet
				}
				if len(n.gossip) != 1 || len(n.authorities) != 1 || n.exchange != "" ||
					(keyID(n.gossip[0]) == keyID(first)) != (what == rotateAuthority) || (n.at(pinOfDER(old)) == 0) != (what == rotateKeys) {
					t.Errorf("%s, lost after %d: %s has %+v", what, lost, id, n.state())
				}
			}
			if lost > 200 {
				t.Fatal("it has no end")
			}
			if done {
				t.Logf("%s: %d steps", what, lost)
			}
		}
	}
}

// atEnd says whether all nodes have one key and authority.
func atEnd(nodes map[place.NodeID]*keyNode) bool {
	for _, n := range nodes {
		if len(n.gossip) != 1 || len(n.authorities) != 1 {
			return false
		}
	}
	return true
}
