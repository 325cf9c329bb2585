package peers

import (
	"crypto/ed25519"
	"fmt"
)

// Authority is what may be told of one of the ring's authorities.
type Authority struct {
	Pin   Pin
	DER   []byte // its certificate
	Signs bool
	Held  bool // its key is on this node
}

// Authorities are those this node trusts, the one that signs first.
func (p *Peers) Authorities() []Authority {
	var out []Authority
	for i, a := range p.trust.Load().trusted {
		out = append(out, Authority{Pin: a.pin, DER: a.cert.Raw, Signs: i == 0, Held: a.key != nil})
	}
	return out
}

// SignedBy is the authority that signed this node's certificate: others see by it how far an exchange has come.
func (p *Peers) SignedBy() Pin {
	by, err := p.trust.Load().by(p.cert.Load().Leaf, true)
	if err != nil {
		return Pin{}
	}
	return by.pin
}

// NewAuthority begins an exchange: this node makes an authority, keeps its key and trusts it, but signs by the old one.
// The caller tells its DER to all nodes (Trust), lets the other holders FetchKeys, then all SignBy it, and once no node
// shows a certificate of the old one, all Drop that.
func (p *Peers) NewAuthority() (Authority, error) {
	a, err := newAuthority(p.Ring(), p.now())
	if err != nil {
		return Authority{}, err
	}
	if err := p.change(func(t *trust) (*trust, error) { return t.with(a), nil }); err != nil {
		return Authority{}, fmt.Errorf("keep new authority: %w", err)
	}
	return Authority{Pin: a.pin, DER: a.cert.Raw, Held: true}, nil
}

// Trust believes a further authority of this ring. Again is no error.
func (p *Peers) Trust(der []byte) error {
	a, err := parseAuthority(der, p.Ring())
	if err != nil {
		return err
	}
	return p.change(func(t *trust) (*trust, error) { return t.with(a), nil })
}

// SignBy lets a trusted authority sign from now on; this node gets a certificate of it at once.
func (p *Peers) SignBy(pin Pin) error {
	if err := p.change(func(t *trust) (*trust, error) { return t.signedBy(pin) }); err != nil {
		return err
	}
	p.wake()
	return nil
}

// Drop believes an authority no longer, but for renewals of nodes that were off, and forgets its key. It is an error as
// long as it signs, or as this node's own certificate is signed by it. Again is no error.
func (p *Peers) Drop(pin Pin) error {
	if p.SignedBy() == pin && p.trust.Load().find(pin) >= 0 {
		return fmt.Errorf("drop authority %s: this node's certificate is still signed by it", pin.Short())
	}
	return p.change(func(t *trust) (*trust, error) { return t.without(pin) })
}

// HoldsKey says whether this node can sign certificates.
func (p *Peers) HoldsKey() bool { return p.trust.Load().signer().key != nil }

// ForgetKeys removes the authorities' keys from this node: it is a voter no longer. The caller makes sure that others
// hold them.
func (p *Peers) ForgetKeys() error {
	return p.change(func(t *trust) (*trust, error) {
		next := t.clone()
		for i := range next.trusted {
			next.trusted[i].key = nil
		}
		return next, nil
	})
}

// keep adds the key of a trusted authority.
func (p *Peers) keep(pin Pin, key ed25519.PrivateKey) error {
	return p.change(func(t *trust) (*trust, error) {
		i := t.find(pin)
		if i < 0 {
			return t, nil // dropped meanwhile
		}
		a := t.trusted[i]
		if !a.keyFits(key) {
			return nil, fmt.Errorf("the key is not that of authority %s", pin.Short())
		}
		a.key = key
		return t.with(a), nil
	})
}

// change makes a new list of authorities of the present one, on disk first.
func (p *Peers) change(f func(*trust) (*trust, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trust.Load()
	next, err := f(t)
	if err != nil || next == t {
		return err
	}
	return p.exchange(next)
}

// exchange stores t; mu is held.
func (p *Peers) exchange(t *trust) error {
	if err := t.save(p.opt.Dir); err != nil {
		return fmt.Errorf("keep authorities: %w", err)
	}
	p.trust.Store(t)
	return nil
}
