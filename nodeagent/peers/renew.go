package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// renewMessage asks for a fresh certificate of the key by which the asker has proven itself, or for the time alone.
type renewMessage struct {
	Time bool `json:"time,omitempty"`
}

type renewReply struct {
	Error       string    `json:"error,omitempty"`
	Time        time.Time `json:"time"` // of the clock of who answers
	Certificate []byte    `json:"certificate,omitempty"`
	Authorities [][]byte  `json:"authorities,omitempty"` // the one that signs first
}

const (
	retryFirst = time.Second // after a renewal that did not work; doubled up to
	retryMost  = time.Minute
	lookAgain  = time.Hour // a clock that is set meanwhile is noticed within
)

// keepFresh renews this node's certificate at two thirds of its life, once another authority signs, and when its dates
// do not fit the clock. It sleeps otherwise.
func (p *Peers) keepFresh() {
	wait, earliest := retryFirst, time.Time{}
	for {
		if p.unsure.Swap(false) {
			p.compareClocks(p.ctx)
		}
		pause := p.dueIn()
		if pause <= 0 {
			pause = time.Until(earliest)
		}
		if pause <= 0 {
			err := p.renew(p.ctx)
			if p.ctx.Err() != nil {
				return
			}
			pause = p.dueIn()
			switch {
			case err != nil:
				p.opt.Log.Warn("certificate not renewed, will retry", "err", err, "end", p.cert.Load().Leaf.NotAfter)
				fallthrough
			case pause <= 0: // the authority that should sign does not yet
				earliest = time.Now().Add(wait)
				pause, wait = wait, min(2*wait, retryMost)
			default:
				wait, earliest = retryFirst, time.Time{}
			}
		}
		t := time.NewTimer(min(pause, lookAgain))
		select {
		case <-p.ctx.Done():
			t.Stop()
			return
		case <-p.look:
			t.Stop()
		case <-t.C:
		}
	}
}

// wake makes keepFresh look again.
func (p *Peers) wake() {
	select {
	case p.look <- struct{}{}:
	default:
	}
}

// dueIn is when the certificate is to be renewed; 0 or less is now.
func (p *Peers) dueIn() time.Duration {
	c, t, now := p.cert.Load().Leaf, p.trust.Load(), p.now()
	if p.stale.Load() || c.CheckSignatureFrom(t.signer().cert) != nil || !plausible(c, now) {
		return 0
	}
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3).Sub(now)
}

// plausible says whether a certificate's dates fit the clock.
func plausible(c *x509.Certificate, now time.Time) bool {
	return !c.NotBefore.After(now.Add(skew)) && !now.After(c.NotAfter)
}

// renew gets a fresh certificate: from this node itself if it has the authority's key, else from one that does. A holder
// whose own certificate does not fit its clock asks the others first, for the clock may be what is wrong; so does one that
// sees certificates of an authority it does not know.
func (p *Peers) renew(ctx context.Context) error {
	holds := p.trust.Load().signer().key != nil
	if holds && !p.stale.Load() && plausible(p.cert.Load().Leaf, p.now()) {
		return p.renewSelf()
	}
	if holds { // nobody waits for those that are down, if this node can help itself
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*shakeTime)
		defer cancel()
	}
	var errs []error
	compared := false
	for _, node := range p.others() {
		c, authorities, err := p.renewAt(ctx, node)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if apart(c.NotBefore, p.now()) > skew && !compared {
			p.compareClocks(ctx)
			compared = true
		}
		if d := apart(c.NotBefore, p.now()); d > skew {
			errs = append(errs, fmt.Errorf("the clocks of this node and of node %s are %s apart: set the one that is wrong", node, d.Round(time.Second)))
			continue
		}
		return p.install(c, authorities)
	}
	if holds {
		if !compared {
			p.compareClocks(p.ctx)
		}
		return p.renewSelf()
	}
	if len(errs) == 0 {
		errs = append(errs, errors.New("no other node is known"))
	}
	return fmt.Errorf("renew certificate: %w", errors.Join(errs...))
}

func (p *Peers) renewSelf() error {
	c, err := p.trust.Load().signer().sign(p.Ring(), p.opt.Key.Public().(ed25519.PublicKey), p.now())
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	return p.install(c, nil)
}

// renewAt asks one node, and checks what it gives.
func (p *Peers) renewAt(ctx context.Context, node place.NodeID) (*x509.Certificate, []authority, error) {
	r, err := p.askRenewal(ctx, node, renewMessage{})
	if err != nil {
		return nil, nil, err
	}
	var list []authority
	for _, der := range r.Authorities {
		a, err := parseAuthority(der, p.Ring())
		if err != nil {
			return nil, nil, fmt.Errorf("answer of node %s: %w", node, err)
		}
		list = append(list, a)
	}
	c, err := ownCertificate(r.Certificate, p.Ring(), p.self, list)
	if err != nil {
		return nil, nil, fmt.Errorf("answer of node %s: %w", node, err)
	}
	return c, list, nil
}

// ownCertificate checks that der is a certificate of this node, signed by one of list.
func ownCertificate(der []byte, ring string, self place.NodeID, list []authority) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if node, err := nodeIn(c, ring); err != nil {
		return nil, err
	} else if node != self {
		return nil, fmt.Errorf("the certificate is that of node %s", node)
	}
	_, err = (&trust{trusted: list}).by(c, false)
	return c, err
}

// install makes c the certificate of this node. If it is signed by an authority that this node has not heard of, the
// ring's were exchanged while it was off, and those of the answer are trusted too.
func (p *Peers) install(c *x509.Certificate, authorities []authority) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trust.Load()
	by, err := t.by(c, false)
	if err != nil {
		for _, a := range authorities {
			t = t.with(a)
		}
		if by, err = t.by(c, false); err != nil {
			return err
		}
		if t, err = t.signedBy(authorities[0].pin); err != nil {
			return err
		}
		if err := p.exchange(t); err != nil {
			return err
		}
		p.opt.Log.Warn("the ring's authorities were exchanged while this node was off", "authority", by.pin.Short())
	}
	if err := saveCertificate(p.opt.Dir, c); err != nil {
		return fmt.Errorf("keep certificate: %w", err)
	}
	p.cert.Store(certificate(c, by.cert, p.opt.Key))
	p.stale.Store(false)
	p.opt.Log.Info("certificate renewed", "end", c.NotAfter.UTC(), "authority", by.pin.Short())
	return nil
}

// askRenewal sends one message to one node by the protocol for renewals.
func (p *Peers) askRenewal(ctx context.Context, node place.NodeID, m renewMessage) (renewReply, error) {
	conn, err := p.dial(ctx, node, protoRenew)
	if err != nil {
		return renewReply{}, fmt.Errorf("node %s: %w", node, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.NetConn().Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(callTime)) //nolint:errcheck // an open connection takes one
	if err := writeFrame(conn, nil, m); err != nil {
		return renewReply{}, fmt.Errorf("node %s: %w", node, err)
	}
	b, err := readFrame(conn, maxReply)
	if err != nil {
		return renewReply{}, fmt.Errorf("node %s: %w", node, err)
	}
	var r renewReply
	if err := json.Unmarshal(b, &r); err != nil {
		return renewReply{}, fmt.Errorf("node %s: answer: %w", node, err)
	}
	if r.Error != "" {
		return renewReply{}, fmt.Errorf("node %s: %s", node, r.Error)
	}
	return r, nil
}

// answerRenewal is the other side: node has proven its key, and is Known.
func (p *Peers) answerRenewal(conn *tls.Conn, node place.NodeID) {
	defer conn.Close()
	select {
	case p.renews <- struct{}{}:
		defer func() { <-p.renews }()
	default:
		return // the asker tries another node, or this one later
	}
	conn.SetDeadline(time.Now().Add(callTime)) //nolint:errcheck // an open connection takes one
	b, err := readFrame(conn, maxAsk)
	if err != nil {
		return
	}
	var m renewMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return
	}
	r := renewReply{Time: p.opt.Now()}
	if !m.Time {
		r.Certificate, r.Authorities, err = p.renewed(conn.ConnectionState().PeerCertificates[0])
		if err != nil {
			r.Error = err.Error()
			p.opt.Log.Info("renewal refused", "node", node, "err", err)
		}
	}
	writeFrame(conn, nil, r) //nolint:errcheck // the asker is gone then
}

// renewed is a fresh certificate in place of old.
func (p *Peers) renewed(old *x509.Certificate) ([]byte, [][]byte, error) {
	t, now := p.trust.Load(), p.now()
	if t.signer().key == nil {
		return nil, nil, errNoKey
	}
	if d := now.Sub(old.NotAfter); d > p.opt.Grace {
		return nil, nil, fmt.Errorf("the certificate ended %d days ago, and after %d it cannot be renewed: join again with a token (or set the clock, if one is wrong)",
			d/(24*time.Hour), p.opt.Grace/(24*time.Hour))
	}
	return p.signed(old.PublicKey.(ed25519.PublicKey))
}
