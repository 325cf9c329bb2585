package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// Joining says who wants to join.
type Joining struct {
	Dir    string             // required: as Options.Dir
	Key    ed25519.PrivateKey // required
	Name   string             // required: of people, a DNS label
	Peer   netip.AddrPort     // where this node will be reached; 0.0.0.0 means where the request comes from
	Gossip netip.AddrPort
	Engine int              // the newest engine version that its binary knows
	Now    func() time.Time // default time.Now
}

// Reply is what a node needs to take part; all but Keys is kept in the directory for Open.
type Reply struct {
	Ring        string
	Authorities [][]byte // DER, the one that signs first
	Certificate []byte   // DER
	Keys        [][]byte // gossip, the one to encrypt with first
	Members     []Member
}

// joinMessage is what a joiner sends, once it knows that it speaks with the ring of its token. It is preceded by a
// signature of the node's key over joinLabel, a value that both ends derive from this TLS connection and no other,
// and the message: so the key is proven, and a message that was recorded is worth nothing elsewhere.
type joinMessage struct {
	Ring   string         `json:"ring"`
	Node   place.NodeID   `json:"node"`
	Name   string         `json:"name"`
	Key    []byte         `json:"key"`
	Peer   netip.AddrPort `json:"peer"`
	Gossip netip.AddrPort `json:"gossip"`
	Token  string         `json:"token"`
	Secret []byte         `json:"secret"`
	Engine int            `json:"engine,omitempty"`
}

type joinReply struct {
	Error   string `json:"error,omitempty"`
	Refused bool   `json:"refused,omitempty"` // asking again changes nothing
	Reply   Reply  `json:"reply,omitzero"`
}

const joinLabel = "EXPORTER-shoal-join-1"

// bound is what the signature of a join message covers.
func bound(s tls.ConnectionState, body []byte) ([]byte, error) {
	channel, err := s.ExportKeyingMaterial(joinLabel, nil, 32)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(joinLabel), channel...), body...), nil
}

// Join asks the nodes at addrs ("host:port") to take this machine into their ring, one after the other, and keeps what
// Open needs. A *RefusedError is final; any other error tells what each address said and may pass. The same machine
// may ask again with the same token, should the answer get lost, and with another one if it cannot come back otherwise:
// see JoinedBy.
//
// The token's secret is sent only to a node that proved to be of the token's ring.
func Join(ctx context.Context, addrs []string, t Token, j Joining) (Reply, error) {
	if j.Now == nil {
		j.Now = time.Now
	}
	if j.Dir == "" || len(j.Key) != ed25519.PrivateKeySize || j.Name == "" || len(addrs) == 0 {
		return Reply{}, errors.New("join: Dir, Key, Name and an address are required")
	}
	if of, err := Membership(j.Dir); err != nil {
		return Reply{}, fmt.Errorf("join: %w", err)
	} else if of != "" && of != t.Ring {
		return Reply{}, &RefusedError{Text: fmt.Sprintf("join: this node belongs to ring %s, the token is of ring %s: `shoal leave` the one first", of, t.Ring)}
	}
	var errs []error
	for _, addr := range addrs {
		r, err := j.at(ctx, addr, t)
		if err == nil {
			return r, j.keep(r, t)
		}
		if _, ok := errors.AsType[*RefusedError](err); ok {
			return Reply{}, fmt.Errorf("join: %w", err)
		}
		errs = append(errs, fmt.Errorf("join by %s: %w", addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	return Reply{}, errors.Join(errs...)
}

// joinTime bounds one attempt: the ledger of the other side may have to elect a leader meanwhile.
const joinTime = 30 * time.Second

func (j Joining) at(ctx context.Context, addr string, t Token) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	d := net.Dialer{Timeout: shakeTime}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return Reply{}, err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	conn := tls.Client(raw, base(protoJoin, func(s tls.ConnectionState) error { return pinned(s.PeerCertificates, t, j.Now()) }))
	if err := conn.HandshakeContext(ctx); err != nil {
		return Reply{}, err
	}
	if err := j.send(conn, t); err != nil {
		return Reply{}, err
	}
	b, err := readFrame(conn, maxReply)
	if err != nil {
		return Reply{}, fmt.Errorf("read answer: %w", err)
	}
	var r joinReply
	if err := json.Unmarshal(b, &r); err != nil {
		return Reply{}, fmt.Errorf("read answer: %w", err)
	}
	switch {
	case r.Refused:
		return Reply{}, &RefusedError{Text: r.Error}
	case r.Error != "":
		return Reply{}, errors.New(r.Error)
	}
	return r.Reply, nil
}

// pinned checks that a server belongs to the ring of the token: its certificate is signed by the authority the token
// pins, and in date. A node that left long ago still has its old certificate.
func pinned(chain []*x509.Certificate, t Token, now time.Time) error {
	if len(chain) == 0 {
		return errNoCertificate
	}
	node, err := nodeIn(chain[0], t.Ring)
	if err != nil {
		return fmt.Errorf("%w; the token is of ring %s: nothing was sent", err, t.Ring)
	}
	for _, c := range chain[1:] {
		if pinOf(c) != t.Pin {
			continue
		}
		a, err := parseAuthority(c.Raw, t.Ring)
		if err == nil {
			err = chain[0].CheckSignatureFrom(a.cert)
		}
		if err != nil {
			return fmt.Errorf("it does not prove to be of ring %s: %w; nothing was sent", t.Ring, err)
		}
		return inDate(chain[0], node, now)
	}
	return fmt.Errorf("it does not prove to be of ring %s: it shows no authority with the pin %s of the token; nothing was sent. "+
		"If the ring's authority was exchanged since, make a new token (`shoal token create`); else another machine answers at this address", t.Ring, t.Pin.Short())
}

// send proves the node's key on this connection and asks.
func (j Joining) send(conn *tls.Conn, t Token) error {
	public := j.Key.Public().(ed25519.PublicKey)
	body, err := json.Marshal(joinMessage{
		Ring: t.Ring, Node: NodeOf(public), Name: j.Name, Key: public, Peer: j.Peer, Gossip: j.Gossip,
		Token: t.ID, Secret: t.secret[:], Engine: j.Engine,
	})
	if err != nil {
		return err
	}
	what, err := bound(conn.ConnectionState(), body)
	if err != nil {
		return fmt.Errorf("bind request to its connection: %w", err)
	}
	proof, err := j.Key.Sign(rand.Reader, what, &ed25519.Options{})
	if err != nil {
		return fmt.Errorf("sign request: %w", err)
	}
	if err := writeBytes(conn, proof, body); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("send request: %w", err)
	}
	return nil
}

// keep checks an answer and stores it.
func (j Joining) keep(r Reply, t Token) error {
	m := membership{trust: &trust{ring: r.Ring}, members: r.Members, joined: t.ID}
	for _, der := range r.Authorities {
		a, err := parseAuthority(der, r.Ring)
		if err != nil {
			return fmt.Errorf("join: answer: %w", err)
		}
		m.trust.trusted = append(m.trust.trusted, a)
	}
	var err error
	m.cert, err = ownCertificate(r.Certificate, r.Ring, NodeOf(j.Key.Public().(ed25519.PublicKey)), m.trust.trusted)
	if err != nil {
		return fmt.Errorf("join: answer: %w", err)
	}
	if err := m.save(j.Dir); err != nil {
		return fmt.Errorf("join: keep membership: %w", err)
	}
	return nil
}
