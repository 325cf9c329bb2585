package tunnel

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
)

// keyInfo keeps this key apart from all others that may ever be derived from a node's.
const keyInfo = "shoal wireguard x25519 v1"

// PrivateKey derives a node's X25519 key from its ed25519 key.
func PrivateKey(node ed25519.PrivateKey) (*ecdh.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, node.Seed(), nil, keyInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("derive WireGuard key: %w", err)
	}
	// X25519 ignores these bits, and wg(8) prints keys with them as they are here.
	seed[0] &= 248
	seed[31] = seed[31]&127 | 64
	key, err := ecdh.X25519().NewPrivateKey(seed)
	if err != nil {
		return nil, fmt.Errorf("derive WireGuard key: %w", err)
	}
	return key, nil
}

// PublicKey is the public half in base64, as the ledger has it.
func PublicKey(key *ecdh.PrivateKey) string {
	return base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())
}
