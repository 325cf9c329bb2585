package peers

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// Pin names a certificate authority: the sha256 of its public key (SPKI, DER).
type Pin [32]byte

// String is the pin in 64 hex digits.
func (p Pin) String() string { return hex.EncodeToString(p[:]) }

// Short is enough of the pin for people and file names: 12 hex digits.
func (p Pin) Short() string { return p.String()[:12] }

// ParsePin reads the 64 hex digits that String gives.
func ParsePin(s string) (Pin, error) {
	var p Pin
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(p) {
		return Pin{}, fmt.Errorf("pin %q: expected %d hex digits", s, 2*len(p))
	}
	return Pin(b), nil
}

// Token lets one machine join one ring. Its text is one word that survives copying, spoken aloud if need be:
//
//	shoal1-<base32 of: ring 16 bytes, pin 32, id 8, secret 16, CRC-32 4>
//
// so 7+122 characters of a-z and 2-7. Only Hash is ever kept: who reads the ledger cannot join by it.
type Token struct {
	Ring string // identity of the ring, 32 hex digits
	Pin  Pin    // of the authority that vouches for the node which answers
	ID   string // 16 hex digits; names the token in the ledger

	secret [16]byte
}

const (
	tokenPrefix = "shoal1-"
	ringSize    = 16
	tokenIDSize = 8
	tokenSize   = ringSize + len(Pin{}) + tokenIDSize + len(Token{}.secret) + crc32.Size
)

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newToken(ring string, pin Pin) Token {
	t := Token{Ring: ring, Pin: pin}
	id := make([]byte, tokenIDSize)
	rand.Read(id)
	rand.Read(t.secret[:])
	t.ID = hex.EncodeToString(id)
	return t
}

// Text is the token itself, with its secret: what a user copies to the machine that joins.
func (t Token) Text() string {
	ring, _ := hex.DecodeString(t.Ring)
	id, _ := hex.DecodeString(t.ID)
	b := make([]byte, 0, tokenSize)
	b = append(b, ring...)
	b = append(b, t.Pin[:]...)
	b = append(b, id...)
	b = append(b, t.secret[:]...)
	sum := crc32.ChecksumIEEE(b)
	b = append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	return tokenPrefix + tokenEncoding.EncodeToString(b)
}

// String names the token without its secret, for logs.
func (t Token) String() string { return "token " + t.ID }

// GoString is String: a secret is printed by Text alone.
func (t Token) GoString() string { return t.String() }

// Hash is what may be kept of the secret: 64 hex digits.
func (t Token) Hash() string { return hashOf(t.ID, t.secret[:]) }

// hashOf ties a secret to its token, so that equal hashes are equal tokens.
func hashOf(id string, secret []byte) string {
	sum := sha256.Sum256([]byte("shoal token " + id + " " + string(secret)))
	return hex.EncodeToString(sum[:])
}

// SameHash compares two hashes without telling by its duration where they differ.
func SameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// ParseToken reads a token's text. Space around it is forgiven, and so are capitals.
func ParseToken(text string) (Token, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	body, ok := strings.CutPrefix(text, tokenPrefix)
	want := tokenEncoding.EncodedLen(tokenSize)
	switch {
	case text == "":
		return Token{}, errors.New("token is empty: expected the word that `shoal token create` prints")
	case !ok:
		return Token{}, fmt.Errorf("token does not begin with %q: expected the word that `shoal token create` prints", tokenPrefix)
	case len(body) < want:
		return Token{}, fmt.Errorf("token is cut off: it has %d characters of %d; copy all of it", len(text), len(tokenPrefix)+want)
	case len(body) > want:
		return Token{}, fmt.Errorf("token is too long: it has %d characters, expected %d; copy it alone", len(text), len(tokenPrefix)+want)
	}
	b, err := tokenEncoding.DecodeString(body)
	if err != nil || tokenEncoding.EncodeToString(b) != body { // unused bits of the last character are zero
		return Token{}, errors.New("token has characters that do not belong there: expected a-z and 2-7; copy it again")
	}
	sum := b[tokenSize-crc32.Size:]
	b = b[:tokenSize-crc32.Size]
	if crc := crc32.ChecksumIEEE(b); [4]byte(sum) != [4]byte{byte(crc >> 24), byte(crc >> 16), byte(crc >> 8), byte(crc)} {
		return Token{}, errors.New("token was changed on its way (its checksum differs): copy it again")
	}
	t := Token{Ring: hex.EncodeToString(b[:ringSize])}
	b = b[ringSize:]
	b = b[copy(t.Pin[:], b):]
	t.ID = hex.EncodeToString(b[:tokenIDSize])
	copy(t.secret[:], b[tokenIDSize:])
	return t, nil
}
