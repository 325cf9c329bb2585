package sealed

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Names of the files of an environment that hold no values.
const (
	RecipientFile = "recipient"
	IdentityFile  = "identity.age"
)

// Identity opens the values of one environment, and seals them with their MAC. It prints as Redacted.
type Identity struct {
	environment string
	age         *age.X25519Identity
	mac         []byte
}

// NewIdentity makes a new identity for environment.
func NewIdentity(environment string) (*Identity, error) {
	if err := checkEnvironment(environment); err != nil {
		return nil, err
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, errors.New("new identity: no random numbers")
	}
	return newIdentity(environment, key)
}

func newIdentity(environment string, key *age.X25519Identity) (*Identity, error) {
	mac, err := hkdf.Key(sha256.New, []byte(key.String()), nil, "shoal secret mac 1 "+environment, sha256.Size)
	if err != nil {
		return nil, errors.New("new identity: no key for MACs")
	}
	return &Identity{environment: environment, age: key, mac: mac}, nil
}

// Environment is whose values it opens.
func (id *Identity) Environment() string { return id.environment }

// Recipient is whom to seal for: "age1...".
func (id *Identity) Recipient() string { return id.age.Recipient().String() }

// Age is the identity for age itself, which SOPS files need.
func (id *Identity) Age() age.Identity { return id.age }

// String is Redacted.
func (Identity) String() string { return Redacted }

// GoString is Redacted.
func (Identity) GoString() string { return Redacted }

// Format prints Redacted for every verb.
func (Identity) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalJSON is Redacted as a JSON string.
func (Identity) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

const identityHead = "shoal identity 1\n"

// SealTo is the identity sealed to nodes, armored. It names its environment inside.
func (id *Identity) SealTo(nodes ...age.Recipient) ([]byte, error) {
	if len(nodes) == 0 || len(nodes) > MaxNodes {
		return nil, fmt.Errorf("seal identity of %s: %d nodes; expected 1 to %d", id.environment, len(nodes), MaxNodes)
	}
	var out bytes.Buffer
	a := armor.NewWriter(&out)
	w, err := age.Encrypt(a, nodes...)
	if err != nil {
		return nil, fmt.Errorf("seal identity of %s: %w", id.environment, err)
	}
	if _, err := io.WriteString(w, identityHead+id.environment+"\n"+id.age.String()+"\n"); err != nil {
		return nil, fmt.Errorf("seal identity of %s: %w", id.environment, err)
	}
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		return nil, fmt.Errorf("seal identity of %s: %w", id.environment, err)
	}
	return out.Bytes(), nil
}

// OpenIdentity reads what SealTo wrote, with the key of a node. It refuses the identity of another environment.
func OpenIdentity(environment string, sealed []byte, node ...age.Identity) (*Identity, error) {
	bad := func(what string) (*Identity, error) {
		return nil, fmt.Errorf("open identity of %s: %s", environment, what)
	}
	if len(sealed) > MaxFile {
		return bad("is too long")
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), node...)
	if err != nil {
		return bad(ageError(err))
	}
	text, err := io.ReadAll(io.LimitReader(r, 4<<10))
	if err != nil {
		return bad("is damaged")
	}
	defer clear(text)
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[0]+"\n" != identityHead || lines[3] != "" {
		return bad("is not an identity that was sealed here")
	}
	if lines[1] != environment {
		return bad("is that of another environment, " + fmt.Sprintf("%q", short(lines[1])))
	}
	key, err := age.ParseX25519Identity(lines[2])
	if err != nil {
		return bad("holds no age identity")
	}
	return newIdentity(environment, key)
}

// CheckIdentity says what is wrong with the names of an identity.
func CheckIdentity(environment, recipient string) error {
	if err := checkEnvironment(environment); err != nil {
		return err
	}
	_, err := ParseRecipient([]byte(recipient))
	return err
}

// ParseRecipient reads the file RecipientFile: one line.
func ParseRecipient(data []byte) (string, error) {
	s := strings.TrimSuffix(string(data), "\n")
	if strings.Contains(strings.ToUpper(s), "AGE-SECRET-KEY") {
		return "", errors.New("holds an identity, not a recipient: it was given away and must be replaced")
	}
	if len(s) > 128 {
		return "", errors.New("is no age recipient; expected one line, age1...")
	}
	r, err := age.ParseX25519Recipient(s)
	if err != nil || r.String() != s {
		return "", errors.New("is no age recipient; expected one line, age1...")
	}
	return s, nil
}

// ageError is why age could not decrypt, without what it read.
func ageError(err error) string {
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return "is sealed for somebody else"
	}
	if _, ok := errors.AsType[*armor.Error](err); ok {
		return "is not armored as age does it"
	}
	return "is damaged"
}
