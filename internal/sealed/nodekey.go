package sealed

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/curve25519"
)

// A node is its ed25519 key, which the whole ring knows. To that key identities are sealed, as age does it to SSH keys (its recipient type
// ssh-ed25519, whose stanzas say by a short hash for whom they are). So nobody has to tell anybody further keys.

const (
	sshType  = "ssh-ed25519"
	sshLabel = "age-encryption.org/v1/ssh-ed25519"
)

// NodeRecipient seals to the key of a node.
type NodeRecipient struct {
	ssh   []byte // the public key as SSH writes it
	curve []byte // the same as a point of Curve25519
}

// NewNodeRecipient is that of a node's public key.
func NewNodeRecipient(key ed25519.PublicKey) (*NodeRecipient, error) {
	curve, err := montgomery(key)
	if err != nil {
		return nil, err
	}
	return &NodeRecipient{ssh: sshKey(key), curve: curve}, nil
}

// ParseNodeRecipient reads "ssh-ed25519 AAAA..."; words behind that are a comment.
func ParseNodeRecipient(s string) (*NodeRecipient, error) {
	bad := errors.New("is no public key of a node; expected ssh-ed25519 AAAA...")
	words := strings.Fields(s)
	if len(words) < 2 || words[0] != sshType {
		return nil, bad
	}
	b, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil || len(b) < ed25519.PublicKeySize {
		return nil, bad
	}
	key := ed25519.PublicKey(b[len(b)-ed25519.PublicKeySize:])
	if !bytes.Equal(b, sshKey(key)) {
		return nil, bad
	}
	return NewNodeRecipient(key)
}

// String is "ssh-ed25519 AAAA...".
func (r *NodeRecipient) String() string {
	return sshType + " " + base64.StdEncoding.EncodeToString(r.ssh)
}

// Tag is what a stanza is marked by that is for this node.
func (r *NodeRecipient) Tag() string {
	sum := sha256.Sum256(r.ssh)
	return base64.RawStdEncoding.EncodeToString(sum[:4])
}

// Wrap implements age.Recipient.
func (r *NodeRecipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	ephemeral := make([]byte, curve25519.ScalarSize)
	rand.Read(ephemeral)
	share, err := curve25519.X25519(ephemeral, curve25519.Basepoint)
	if err != nil {
		return nil, err
	}
	key, err := r.wrappingKey(ephemeral, r.curve, share)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, err
	}
	return []*age.Stanza{{
		Type: sshType, Args: []string{r.Tag(), base64.RawStdEncoding.EncodeToString(share)},
		Body: aead.Seal(nil, make([]byte, chacha20poly1305.NonceSize), fileKey, nil), // each key is used once
	}}, nil
}

// wrappingKey is what the file's key is encrypted by: of one's own secret, the other's point, and the share in the stanza.
func (r *NodeRecipient) wrappingKey(secret, point, share []byte) ([]byte, error) {
	shared, err := curve25519.X25519(secret, point)
	if err != nil {
		return nil, err
	}
	tweak, err := hkdf.Key(sha256.New, nil, r.ssh, sshLabel, curve25519.ScalarSize)
	if err != nil {
		return nil, err
	}
	if shared, err = curve25519.X25519(tweak, shared); err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, shared, slices.Concat(share, r.curve), sshLabel, chacha20poly1305.KeySize)
}

// NodeIdentity opens what is sealed to a node. It prints as Redacted.
type NodeIdentity struct {
	to     *NodeRecipient
	secret []byte
}

// NewNodeIdentity is that of a node's private key.
func NewNodeIdentity(key ed25519.PrivateKey) (*NodeIdentity, error) {
	to, err := NewNodeRecipient(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum512(key.Seed())
	return &NodeIdentity{to: to, secret: sum[:curve25519.ScalarSize]}, nil
}

// Recipient is whom to seal to.
func (n *NodeIdentity) Recipient() *NodeRecipient { return n.to }

// String is Redacted.
func (NodeIdentity) String() string { return Redacted }

// GoString is Redacted.
func (NodeIdentity) GoString() string { return Redacted }

// Format prints Redacted for every verb.
func (NodeIdentity) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// Unwrap implements age.Identity.
func (n *NodeIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type != sshType || len(s.Args) != 2 || s.Args[0] != n.to.Tag() {
			continue
		}
		share, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[1])
		if err != nil || len(share) != curve25519.PointSize {
			return nil, errors.New("a stanza for a node has no share")
		}
		key, err := n.to.wrappingKey(n.secret, share, share)
		if err != nil {
			return nil, err
		}
		aead, err := chacha20poly1305.New(key)
		if err != nil {
			return nil, err
		}
		if fileKey, err := aead.Open(nil, make([]byte, chacha20poly1305.NonceSize), s.Body, nil); err == nil {
			return fileKey, nil // else two keys have one tag
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// sshKey is an ed25519 key as SSH writes it.
func sshKey(key ed25519.PublicKey) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(sshType)))
	b = binary.BigEndian.AppendUint32(append(b, sshType...), uint32(len(key)))
	return append(b, key...)
}

// montgomery is the point of Curve25519 for a point of Ed25519: u = (1+y)/(1-y) modulo 2^255-19.
func montgomery(key ed25519.PublicKey) ([]byte, error) {
	bad := errors.New("is no ed25519 key")
	if len(key) != ed25519.PublicKeySize {
		return nil, bad
	}
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	le := slices.Clone(key)
	le[31] &= 0x7f // the sign of x, which u does not depend on
	slices.Reverse(le)
	y := new(big.Int).SetBytes(le)
	one := big.NewInt(1)
	below := new(big.Int).Sub(one, y)
	below.Mod(below, p)
	if y.Cmp(p) >= 0 || below.ModInverse(below, p) == nil {
		return nil, bad
	}
	u := new(big.Int).Add(one, y)
	u.Mul(u, below).Mod(u, p)
	out := u.FillBytes(make([]byte, 32))
	slices.Reverse(out)
	return out, nil
}

// Holders says for whom an identity is sealed that SealTo wrote: the tags of keys of nodes, and how many others.
func Holders(identity []byte) (tags []string, others int, err error) {
	if len(identity) > MaxFile {
		return nil, 0, errors.New("is too long")
	}
	head, err := io.ReadAll(io.LimitReader(armor.NewReader(bytes.NewReader(identity)), MaxFile))
	if err != nil {
		return nil, 0, errors.New("is not armored as age does it")
	}
	for line := range strings.Lines(string(head)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "---") {
			break
		}
		rest, ok := strings.CutPrefix(line, "-> ")
		if !ok {
			continue
		}
		if words := strings.Fields(rest); len(words) == 3 && words[0] == sshType {
			tags = append(tags, words[1])
		} else {
			others++
		}
	}
	return tags, others, nil
}
