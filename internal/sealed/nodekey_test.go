package sealed

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

func nodeKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n, n * 7}, 16))
}

func newNode(t testing.TB, n byte) *NodeIdentity {
	t.Helper()
	id, err := NewNodeIdentity(nodeKey(n))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// byAgeSSH was encrypted by age itself (filippo.io/age/agessh v1.3.2) to the key nodeKey(3) as an SSH key: "hello".
const (
	byAgeSSHKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILAAFYWbF8InvFfMRkVcwhQmZPV+df7vnakCyzoKZpwi"
	byAgeSSH    = `-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IHNzaC1lZDI1NTE5IGh6Mk1HZyBscDVN
OVBaVHFuT0ltTUhBTWNJdTZ6dEdIQ2ozNXhNbDdOcFprTDFLRVh3CmtYVlFRQ2tJ
bWJWREU0alV4cjFDL09DWDRIMUc4RGVPeHlGYW1lN1hMMEEKLS0tIEczNnNVYnRI
czBEcVZMQklyRGc3RFFhREw0WFliTm9lOXVtTnNzYVE0Vm8KJHD1VVUUvyyizzVc
kiLIgwKTR7GWk5aTck+ucjFOinRaYuLbwA==
-----END AGE ENCRYPTED FILE-----
`
)

// TestFeature_G11_nodeKeys: keys of nodes are recipients as age has them for SSH keys, and only the node opens what is sealed to it.
func TestFeature_G11_nodeKeys(t *testing.T) {
	node := newNode(t, 3)
	if got := node.Recipient().String(); got != byAgeSSHKey {
		t.Errorf("key %s, want %s", got, byAgeSSHKey)
	}
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(byAgeSSH)), node)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello" {
		t.Fatalf("%q %v", b, err)
	}

	id := newID(t, "dev")
	person, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var to []age.Recipient
	for n := range byte(40) {
		r, err := ParseNodeRecipient(newNode(t, n).Recipient().String() + " n1 and more")
		if err != nil {
			t.Fatal(err)
		}
		to = append(to, r)
	}
	b, err := id.SealTo(append(to, person.Recipient())...)
	if err != nil {
		t.Fatal(err)
	}
	tags, others, err := Holders(b)
	if err != nil || len(tags) != 40 || others != 1 || tags[3] != node.Recipient().Tag() {
		t.Errorf("holders: %d %d %v", len(tags), others, err)
	}
	for n := range byte(42) {
		got, err := OpenIdentityOf("dev", id.Recipient(), b, newNode(t, n))
		switch {
		case n < 40 && (err != nil || got.Recipient() != id.Recipient()):
			t.Errorf("node %d: %v", n, err)
		case n >= 40 && (err == nil || err.Error() != "open identity of dev: is sealed for somebody else"):
			t.Errorf("node %d: %v", n, err)
		}
	}
	if _, err := OpenIdentityOf("dev", newID(t, "dev").Recipient(), b, node); err == nil || !strings.Contains(err.Error(), "is not that of the values' recipient") {
		t.Errorf("another recipient: %v", err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", node, node, *node, node); strings.Trim(strings.ReplaceAll(s, Redacted, ""), " ") != "" {
		t.Errorf("a node's identity prints as %s", s)
	}
}

// TestNodeKeysOfNoUse: what is no key of a node is refused, and a damaged stanza is no panic.
func TestNodeKeysOfNoUse(t *testing.T) {
	for _, s := range []string{"", "ssh-ed25519", "ssh-ed25519 !", "ssh-ed25519 AAAA", "ssh-rsa AAAAB3NzaC1yc2E", strings.Replace(byAgeSSHKey, "AAAAC3", "AAAAD3", 1)} {
		if _, err := ParseNodeRecipient(s); err == nil {
			t.Errorf("%q was taken for a key", s)
		}
	}
	identity := make(ed25519.PublicKey, 32) // the point at which u is none
	identity[0] = 1
	beyond := ed25519.PublicKey(bytes.Repeat([]byte{0xff}, 32))
	for _, key := range []ed25519.PublicKey{nil, identity, beyond} {
		if _, err := NewNodeRecipient(key); err == nil {
			t.Errorf("%x was taken for a key", key)
		}
	}
	node := newNode(t, 1)
	tag := node.Recipient().Tag()
	for _, s := range []*age.Stanza{
		{Type: sshType},
		{Type: sshType, Args: []string{tag, "AAAA"}},
		{Type: sshType, Args: []string{tag, strings.Repeat("A", 43)}}, // a point of low order
		{Type: sshType, Args: []string{tag, strings.Repeat("C", 42) + "A"}, Body: []byte("short")},
	} {
		if key, err := node.Unwrap([]*age.Stanza{s}); err == nil || key != nil {
			t.Errorf("%v was opened", s)
		}
	}
	if _, err := node.Unwrap(nil); !errors.Is(err, age.ErrIncorrectIdentity) {
		t.Error(err)
	}
	if _, _, err := Holders([]byte("nonsense")); err == nil {
		t.Error("nonsense has holders")
	}
}
