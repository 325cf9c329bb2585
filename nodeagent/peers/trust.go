package peers

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// keepRetired is how many dropped authorities are remembered, newest first, for nodes that were off meanwhile.
const keepRetired = 8

// trust is which authorities a node believes. A value is never changed; a change makes a new one.
type trust struct {
	ring    string
	trusted []authority // the first signs; never empty
	retired []authority // no longer trusted, but for renewals
}

var errStranger = errors.New("the certificate is not signed by an authority of this ring")

// signer is the authority that signs now.
func (t *trust) signer() authority { return t.trusted[0] }

// by finds who signed c: in the trusted authorities, and in the retired ones if those count.
func (t *trust) by(c *x509.Certificate, retired bool) (authority, error) {
	list := t.trusted
	if retired {
		list = slices.Concat(t.trusted, t.retired)
	}
	for _, a := range list {
		if c.CheckSignatureFrom(a.cert) == nil {
			return a, nil
		}
	}
	return authority{}, errStranger
}

func (t *trust) find(pin Pin) int {
	return slices.IndexFunc(t.trusted, func(a authority) bool { return a.pin == pin })
}

// with adds an authority behind those that are trusted already.
func (t *trust) with(a authority) *trust {
	if i := t.find(a.pin); i >= 0 {
		if a.key == nil || t.trusted[i].key != nil {
			return t
		}
		next := t.clone()
		next.trusted[i].key = a.key
		return next
	}
	next := t.clone()
	next.trusted = append(next.trusted, a)
	next.retired = slices.DeleteFunc(next.retired, func(r authority) bool { return r.pin == a.pin })
	return next
}

// signedBy puts the authority with this pin first.
func (t *trust) signedBy(pin Pin) (*trust, error) {
	i := t.find(pin)
	if i < 0 {
		return nil, fmt.Errorf("sign by authority %s: it is not trusted here", pin.Short())
	}
	next := t.clone()
	a := next.trusted[i]
	next.trusted = slices.Insert(slices.Delete(next.trusted, i, i+1), 0, a)
	return next, nil
}

// without drops an authority; its certificate is remembered, its key is not.
func (t *trust) without(pin Pin) (*trust, error) {
	i := t.find(pin)
	switch {
	case i < 0:
		return t, nil
	case i == 0:
		return nil, fmt.Errorf("drop authority %s: it signs; let another sign first", pin.Short())
	}
	next := t.clone()
	a := next.trusted[i]
	a.key = nil
	next.trusted = slices.Delete(next.trusted, i, i+1)
	next.retired = slices.Insert(next.retired, 0, a)
	next.retired = next.retired[:min(len(next.retired), keepRetired)]
	return next, nil
}

func (t *trust) clone() *trust {
	return &trust{ring: t.ring, trusted: slices.Clone(t.trusted), retired: slices.Clone(t.retired)}
}

// ders are the certificates of the trusted authorities, the one that signs first.
func (t *trust) ders() [][]byte {
	var out [][]byte
	for _, a := range t.trusted {
		out = append(out, a.cert.Raw)
	}
	return out
}

// keyFits says whether key is that of the authority.
func (a authority) keyFits(key ed25519.PrivateKey) bool {
	public, ok := a.cert.PublicKey.(ed25519.PublicKey)
	return ok && public.Equal(key.Public())
}
