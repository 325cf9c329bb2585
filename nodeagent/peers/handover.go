package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Paths of this package's own handlers.
const (
	signPath    = "/peers/sign"
	keysPath    = "/peers/keys"
	keyringPath = "/peers/keyring"
)

// handleOwn registers what every node does for the others.
func (p *Peers) handleOwn() {
	p.mux.HandleFunc("POST "+whichPath, p.handleWhich)
	p.mux.HandleFunc("POST "+signPath, p.handleSign)
	p.mux.HandleFunc("POST "+keysPath, p.handleKeys)
	p.mux.HandleFunc("POST "+keyringPath, p.handleKeyring)
}

type signMessage struct {
	Key []byte `json:"key"` // the public key of a node that was admitted
}

type signReply struct {
	Certificate []byte   `json:"certificate"`
	Authorities [][]byte `json:"authorities"`
}

// knownTime is how long a signer waits for its ledger to hear of a node that was just admitted elsewhere.
const knownTime = 5 * time.Second

// handleSign signs for a node that was admitted by another one, which holds no key. The ledger decides, not the caller.
func (p *Peers) handleSign(w http.ResponseWriter, r *http.Request) {
	var m signMessage
	if err := ask(r, maxAsk, &m); err != nil || len(m.Key) != ed25519.PublicKeySize {
		http.Error(w, "expected a public key", http.StatusBadRequest)
		return
	}
	node := NodeOf(m.Key)
	for end := time.Now().Add(knownTime); !p.Known(node); {
		if time.Now().After(end) || r.Context().Err() != nil || !p.sleep(20*time.Millisecond) {
			http.Error(w, (&UnknownError{Node: node}).Error(), http.StatusForbidden)
			return
		}
	}
	c, authorities, err := p.signed(m.Key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	p.opt.Log.Info("certificate signed", "node", node, "for", From(r))
	answer(w, signReply{c, authorities})
}

// signed is a certificate for a key, if this node can sign.
func (p *Peers) signed(key ed25519.PublicKey) ([]byte, [][]byte, error) {
	t := p.trust.Load()
	if t.signer().key == nil {
		return nil, nil, errNoKey
	}
	c, err := t.signer().sign(t.ring, key, p.now())
	if err != nil {
		return nil, nil, err
	}
	return c.Raw, t.ders(), nil
}

var errNoKey = errors.New("it does not hold the key of the ring's authority")

// issue is signed, by this node or by one that can.
func (p *Peers) issue(ctx context.Context, key ed25519.PublicKey) ([]byte, [][]byte, error) {
	c, authorities, err := p.signed(key)
	if !errors.Is(err, errNoKey) {
		return c, authorities, err
	}
	errs := []error{errors.New("no node that can sign certificates answers")}
	for _, node := range p.others() {
		var r signReply
		err := p.Call(ctx, node, signPath, signMessage{key}, &r)
		if err == nil {
			return r.Certificate, r.Authorities, nil
		}
		errs = append(errs, err)
	}
	return nil, nil, errors.Join(errs...)
}

type heldKey struct {
	Authority []byte `json:"authority"` // its certificate
	Key       []byte `json:"key"`       // PKCS #8
}

// handleKeys gives the authorities' keys to a node that may hold them.
func (p *Peers) handleKeys(w http.ResponseWriter, r *http.Request) {
	node := From(r)
	if !p.opt.MayHold(node) {
		p.opt.Log.Warn("the authority's key was asked for by a node that may not hold it", "node", node)
		http.Error(w, "node "+string(node)+" may not hold the keys of the ring's authorities: it is no voter", http.StatusForbidden)
		return
	}
	keys := []heldKey{}
	for _, a := range p.trust.Load().trusted {
		if a.key == nil {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(a.key)
		if err != nil {
			http.Error(w, "the key cannot be encoded", http.StatusInternalServerError)
			return
		}
		keys = append(keys, heldKey{a.cert.Raw, der})
	}
	p.opt.Log.Info("the authority's key was handed over", "node", node)
	answer(w, keys)
}

// FetchKeys gets the keys of the trusted authorities that are not here from nodes that hold them. It does nothing if
// all are here, and is an error if some stay away.
func (p *Peers) FetchKeys(ctx context.Context) error {
	var errs []error
	for _, node := range p.others() {
		if len(p.missing()) == 0 {
			return nil
		}
		var keys []heldKey
		if err := p.Call(ctx, node, keysPath, nil, &keys); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, k := range keys {
			if err := p.keepHeld(k); err != nil {
				errs = append(errs, fmt.Errorf("node %s: %w", node, err))
			}
		}
	}
	if missing := p.missing(); len(missing) > 0 {
		return fmt.Errorf("fetch key of authority %s: %w", missing[0].Short(), errors.Join(append(errs, errors.New("no node gave it"))...))
	}
	return nil
}

// missing are the trusted authorities whose keys are not here.
func (p *Peers) missing() []Pin {
	var out []Pin
	for _, a := range p.trust.Load().trusted {
		if a.key == nil {
			out = append(out, a.pin)
		}
	}
	return out
}

func (p *Peers) keepHeld(k heldKey) error {
	a, err := parseAuthority(k.Authority, p.Ring())
	if err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(k.Key)
	if err != nil {
		return errors.New("the key cannot be read")
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return errors.New("the key is not ed25519")
	}
	return p.keep(a.pin, ed)
}

// handleKeyring gives any node of the ring the keys of its gossip.
func (p *Peers) handleKeyring(w http.ResponseWriter, _ *http.Request) { answer(w, p.opt.Keyring()) }

// FetchKeyring gets the gossip keys from the first node that answers, the one to encrypt with first.
func (p *Peers) FetchKeyring(ctx context.Context) ([][]byte, error) {
	errs := []error{errors.New("fetch keyring: no other node gave it")}
	for _, node := range p.others() {
		var keys [][]byte
		err := p.Call(ctx, node, keyringPath, nil, &keys)
		if err == nil && len(keys) > 0 {
			return keys, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
