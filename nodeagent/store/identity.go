package store

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/shoal-dev/shoal/engine/place"
)

// Identity is who a node is: its key, and the names that follow from it.
type Identity struct {
	Key ed25519.PrivateKey
	ID  place.NodeID // first 16 hex digits of the sha256 of the public key
}

// Instance marks what this node makes on its machine: the first 6 digits of its ID.
func (i Identity) Instance() string { return string(i.ID[:6]) }

// Public is the public key in base64, as NodeUp carries it.
func (i Identity) Public() string {
	return base64.StdEncoding.EncodeToString(i.Key.Public().(ed25519.PublicKey))
}

func identityOf(key ed25519.PrivateKey) Identity {
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return Identity{Key: key, ID: place.NodeID(hex.EncodeToString(sum[:8]))}
}

// ReadIdentity reads the node's key at path, for others than its agent.
func ReadIdentity(path string) (Identity, error) {
	if _, err := os.Stat(path); err != nil {
		return Identity{}, err
	}
	return loadIdentity(path)
}

// loadIdentity reads the node's key, or makes one if there is none. A key that cannot be read is an error and is
// left as it is: a new key would be another node, and what the old one ran would belong to nobody.
func loadIdentity(path string) (Identity, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(path)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("read node key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return Identity{}, fmt.Errorf("node key %s: no PEM block PRIVATE KEY in it; restore it, or move it away to become a new node", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Identity{}, fmt.Errorf("node key %s: %w; restore it, or move it away to become a new node", path, err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return Identity{}, fmt.Errorf("node key %s: is a %T, expected ed25519", path, key)
	}
	return identityOf(ed), nil
}

func newIdentity(path string) (Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make node key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Identity{}, fmt.Errorf("make node key: %w", err)
	}
	if err := WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return Identity{}, err
	}
	return identityOf(key), nil
}
