package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/source"
)

// TestFeature_G10_hardware verifies what a FIDO key signs, made here as OpenSSH's PROTOCOL.u2f has it, and wants it touched.
func TestFeature_G10_hardware(t *testing.T) {
	const application = "ssh:"
	seed := sha256.Sum256([]byte("token"))
	key := ed25519.NewKeyFromSeed(seed[:])
	public := ssh.Marshal(struct {
		Kind        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, key.Public().(ed25519.PublicKey), application})

	who := source.Person{Name: "Ada", Email: "ada@example.org", When: signed}
	last := source.ObjectID("commit", []byte("last"))
	raw := source.EncodeCommit(source.Commit{Tree: source.EmptyTree, Parents: []source.ID{last}, Author: who, Committer: who, Message: "m\n"})
	line := "ada " + ssh.KeyAlgoSKED25519 + " " + base64.StdEncoding.EncodeToString(public) + "\n"
	keys, ps := Parse(fstest.MapFS{"keys/signers": {Data: []byte(line)}, "keys/trust.yaml": {Data: []byte(required)}})
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	for flags, want := range []string{"bad signature", "trusted: 1 commits"} {
		commit := pgpSign(t, raw, func(payload []byte) string {
			app, message := sha256.Sum256([]byte(application)), sha256.Sum256(sshMessage("sha512", payload))
			signed := append(append(app[:], byte(flags), 0, 0, 0, 7), message[:]...)
			inner := ssh.Marshal(ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(key, signed), Rest: []byte{byte(flags), 0, 0, 0, 7}})
			blob := sshMagic + string(ssh.Marshal(sshBlob{Version: 1, Key: public, Namespace: namespace, Hash: "sha512", Signature: inner}))
			return kindSSH.begin + "\n" + wrapped(base64.StdEncoding.EncodeToString([]byte(blob))) + kindSSH.end + "\n"
		})
		v := Judge(Range{Environment: "dev", Last: last, Active: keys, Commits: []Commit{commit}, Now: noon})
		got := v.String()
		if !v.Trusted {
			got = v.Flaw.Reason.String()
		}
		if got != want {
			t.Errorf("flags %d: %s (%v)\nwant %s", flags, got, v, want)
		}
	}
}

func wrapped(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := min(70, len(s))
		b.WriteString(s[:n] + "\n")
		s = s[n:]
	}
	return b.String()
}
