package peers

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// answerJoin is the ring's side of a join. The joiner has seen our certificate; we know nothing of it yet.
func (p *Peers) answerJoin(conn *tls.Conn, w *wire) {
	defer conn.Close()
	var remote netip.AddrPort
	if a, ok := w.RemoteAddr().(*net.TCPAddr); ok {
		remote = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	conn.SetDeadline(time.Now().Add(shakeTime)) //nolint:errcheck // an open connection takes one
	b, err := readFrame(conn, maxAsk)
	if err != nil {
		return
	}
	p.wires.shaken(w, "")
	var r joinReply
	select {
	case p.joins <- struct{}{}:
		defer func() { <-p.joins }()
		conn.SetDeadline(time.Now().Add(joinTime)) //nolint:errcheck // as above
		ctx, cancel := context.WithTimeout(p.ctx, joinTime-shakeTime)
		defer cancel()
		r.Reply, err = p.admit(ctx, conn.ConnectionState(), b, remote)
	default:
		err = errors.New("too many nodes join at once: try again")
	}
	if err != nil {
		_, refused := errors.AsType[*RefusedError](err)
		r = joinReply{Error: err.Error(), Refused: refused}
		p.opt.Log.Warn("join refused", "from", remote, "err", err)
	}
	writeFrame(conn, nil, r) //nolint:errcheck // the joiner asks again then
}

// admit checks what a joiner sent, has its token used up, and gives it what it needs.
func (p *Peers) admit(ctx context.Context, s tls.ConnectionState, b []byte, remote netip.AddrPort) (Reply, error) {
	m, err := readJoin(b)
	if err != nil {
		return Reply{}, &RefusedError{Text: "the request is malformed: " + err.Error()}
	}
	what, err := bound(s, b[ed25519.SignatureSize:])
	if err != nil {
		return Reply{}, err
	}
	if !ed25519.Verify(m.Key, what, b[:ed25519.SignatureSize]) {
		return Reply{}, &RefusedError{Text: "the request is not signed by the node's key for this connection"}
	}
	if m.Ring != p.Ring() {
		return Reply{}, &RefusedError{Text: fmt.Sprintf("this is ring %s, the token is of ring %s: make a token here (`shoal token create`)", p.Ring(), m.Ring)}
	}
	r := JoinRequest{
		Node: m.Node, Name: m.Name, Key: m.Key, Peer: reached(m.Peer, remote), Gossip: reached(m.Gossip, remote),
		TokenID: m.Token, Hash: hashOf(m.Token, m.Secret), Remote: remote, Engine: m.Engine,
	}
	if err := p.opt.Admit(ctx, r); err != nil {
		return Reply{}, err
	}
	cert, authorities, err := p.issue(ctx, r.Key)
	if err != nil {
		return Reply{}, fmt.Errorf("the node was admitted, but %w: ask again with the same token", err)
	}
	p.opt.Log.Info("node admitted", "node", r.Node, "name", r.Name, "from", remote)
	return Reply{Ring: p.Ring(), Authorities: authorities, Certificate: cert, Keys: p.opt.Keyring(), Members: p.opt.Members()}, nil
}

// reached fills in the address a request came from where a node says none.
func reached(said, remote netip.AddrPort) netip.AddrPort {
	if said.Addr().IsValid() && !said.Addr().IsUnspecified() {
		return said
	}
	return netip.AddrPortFrom(remote.Addr(), said.Port())
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// readJoin reads what a stranger sent: a signature, and the message it is of.
func readJoin(b []byte) (joinMessage, error) {
	if len(b) < ed25519.SignatureSize || len(b) > maxAsk {
		return joinMessage{}, fmt.Errorf("%d bytes, expected %d to %d", len(b), ed25519.SignatureSize, maxAsk)
	}
	var m joinMessage
	d := json.NewDecoder(bytes.NewReader(b[ed25519.SignatureSize:]))
	if err := d.Decode(&m); err != nil {
		return joinMessage{}, fmt.Errorf("no JSON: %w", err)
	}
	switch {
	case checkRing(m.Ring) != nil:
		return joinMessage{}, checkRing(m.Ring)
	case len(m.Key) != ed25519.PublicKeySize:
		return joinMessage{}, fmt.Errorf("key of %d bytes, expected %d", len(m.Key), ed25519.PublicKeySize)
	case m.Node != NodeOf(m.Key):
		return joinMessage{}, fmt.Errorf("node %q is not that of its key, %s", place.NodeID(clip(string(m.Node))), NodeOf(m.Key))
	case !nameForm.MatchString(m.Name):
		return joinMessage{}, fmt.Errorf("name %q: expected a DNS label, 1 to 63 of a-z, 0-9 and -", clip(m.Name))
	case len(m.Token) != 2*tokenIDSize || !isHex(m.Token):
		return joinMessage{}, fmt.Errorf("token id: expected %d hex digits", 2*tokenIDSize)
	case len(m.Secret) != len(Token{}.secret):
		return joinMessage{}, fmt.Errorf("secret of %d bytes, expected %d", len(m.Secret), len(Token{}.secret))
	}
	return m, nil
}

// clip shortens what a stranger wrote before it is shown.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
