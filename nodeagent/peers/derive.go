package peers

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
)

// Derive is a key of the ring for a purpose: an ed25519 key that follows from that of the authority which signs, and tells nothing of
// it. So it is where that one is, on voters; it is handed over, exchanged and lost with it, and lies in no file of its own. An
// error says that the authority's key is not on this node.
func (p *Peers) Derive(purpose string) (ed25519.PrivateKey, error) {
	key := p.trust.Load().signer().key
	if key == nil {
		return nil, errNoKey
	}
	seed, err := hkdf.Key(sha256.New, key.Seed(), nil, "shoal "+purpose, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
