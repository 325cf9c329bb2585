package trust

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/shoal-dev/shoal/engine/source"
)

// made is when the keys of these tests were made, signed when they sign.
var made, signed = noon.Add(-48 * time.Hour), noon.Add(-time.Hour)

func pgpConfig(at time.Time) *packet.Config {
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return at }, DefaultHash: crypto.SHA512}
}

func entity(t testing.TB, c *packet.Config) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("Ada", "", "ada@example.org", c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t testing.TB, entities ...*openpgp.Entity) string {
	t.Helper()
	var raw bytes.Buffer
	for _, e := range entities {
		if err := e.Serialize(&raw); err != nil {
			t.Fatal(err)
		}
	}
	return armored(t, openpgp.PublicKeyType, raw.Bytes())
}

func armored(t testing.TB, kind string, raw []byte) string {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}

// pgpSign puts a signature into a commit.
func pgpSign(t testing.TB, raw []byte, sign func(payload []byte) string) Commit {
	t.Helper()
	header := "\ngpgsig " + strings.ReplaceAll(strings.TrimSuffix(sign(raw), "\n"), "\n", "\n ")
	out := []byte(strings.Replace(string(raw), "\n\n", header+"\n\n", 1))
	return Commit{ID: source.ObjectID("commit", out), Raw: out}
}

func detached(t testing.TB, e *openpgp.Entity, c *packet.Config) func([]byte) string {
	return func(payload []byte) string {
		var b bytes.Buffer
		if err := openpgp.DetachSign(&b, e, bytes.NewReader(payload), c); err != nil {
			t.Fatal(err)
		}
		return armored(t, openpgp.SignatureType, b.Bytes())
	}
}

// TestFault_G16_openPGP judges commits with OpenPGP signatures.
func TestFault_G16_openPGP(t *testing.T) {
	who := source.Person{Name: "Ada", Email: "ada@example.org", When: signed}
	last := source.ObjectID("commit", []byte("last"))
	raw := source.EncodeCommit(source.Commit{Tree: source.EmptyTree, Parents: []source.ID{last}, Author: who, Committer: who, Message: "m\n"})

	ada, eve := entity(t, pgpConfig(made)), entity(t, pgpConfig(made))
	rsa := entity(t, &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048, Time: pgpConfig(made).Time})
	short := pgpConfig(made)
	short.KeyLifetimeSecs = 3600
	expired := entity(t, short)
	sub := entity(t, pgpConfig(made))
	if err := sub.AddSigningSubkey(pgpConfig(made)); err != nil {
		t.Fatal(err)
	}
	revoked := entity(t, pgpConfig(made))
	if err := revoked.RevokeKey(packet.KeyRetired, "", pgpConfig(made)); err != nil {
		t.Fatal(err)
	}
	lost := entity(t, pgpConfig(made))
	if err := lost.AddSigningSubkey(pgpConfig(made)); err != nil {
		t.Fatal(err)
	}
	bySubkey := detached(t, lost, pgpConfig(signed))(raw)
	for i := range lost.Subkeys {
		if lost.Subkeys[i].Sig.FlagSign {
			if err := lost.RevokeSubkey(&lost.Subkeys[i], packet.KeyRetired, "", pgpConfig(made)); err != nil {
				t.Fatal(err)
			}
		}
	}
	sha1 := pgpConfig(signed)
	sha1.DefaultHash = crypto.SHA1

	for _, c := range []struct {
		name string
		keys string
		sign func([]byte) string
		want string
	}{
		{"good", public(t, ada), detached(t, ada, pgpConfig(signed)), "trusted: 1 commits"},
		{"the second of two keys", public(t, eve, ada), detached(t, ada, pgpConfig(signed)), "trusted: 1 commits"},
		{"RSA", public(t, rsa), detached(t, rsa, pgpConfig(signed)), "trusted: 1 commits"},
		{"a subkey", public(t, sub), detached(t, sub, pgpConfig(signed)), "trusted: 1 commits"},
		{"a revoked subkey", public(t, lost), func([]byte) string { return bySubkey }, "revoked key"},
		{"unknown", public(t, ada), detached(t, eve, pgpConfig(signed)), "unknown key"},
		{"of other bytes", public(t, ada), func([]byte) string { return detached(t, ada, pgpConfig(signed))([]byte("x")) }, "bad signature"},
		{"expired", public(t, expired), detached(t, expired, pgpConfig(made)), "expired key"},
		{"revoked", public(t, revoked), func(b []byte) string {
			e := *revoked
			e.Revocations = nil
			return detached(t, &e, pgpConfig(signed))(b)
		}, "revoked key"},
		{"of text", public(t, ada), func(payload []byte) string {
			var b bytes.Buffer
			if err := openpgp.DetachSignText(&b, ada, bytes.NewReader(payload), pgpConfig(signed)); err != nil {
				t.Fatal(err)
			}
			return armored(t, openpgp.SignatureType, b.Bytes())
		}, "bad signature"},
		{"two signatures", public(t, ada), func(payload []byte) string {
			var b bytes.Buffer
			for range 2 {
				if err := openpgp.DetachSign(&b, ada, bytes.NewReader(payload), pgpConfig(signed)); err != nil {
					t.Fatal(err)
				}
			}
			return armored(t, openpgp.SignatureType, b.Bytes())
		}, "bad signature"},
		{"version 6, that claims 4 GiB", public(t, ada), func([]byte) string {
			return armored(t, openpgp.SignatureType, []byte{0xc2, 8, 6, 0, 27, 10, 0xff, 0xff, 0xff, 0xff})
		}, "bad signature"},
		{"a key as signature", public(t, ada), func([]byte) string {
			var b bytes.Buffer
			if err := ada.Serialize(&b); err != nil {
				t.Fatal(err)
			}
			return armored(t, openpgp.SignatureType, b.Bytes())
		}, "bad signature"},
	} {
		fsys := fstest.MapFS{"keys/ada.asc": {Data: []byte(c.keys)}, "keys/trust.yaml": {Data: []byte(required)}}
		keys, ps := Parse(fsys)
		if len(ps) > 0 {
			t.Errorf("%s: %v", c.name, ps)
			continue
		}
		commit := pgpSign(t, raw, c.sign)
		v := Judge(Range{Environment: "dev", Last: last, Active: keys, Commits: []Commit{commit}, Now: noon})
		got := v.String()
		if !v.Trusted {
			got = v.Flaw.Reason.String()
		} else if v.By[0].Principal != "ada" {
			t.Errorf("%s: signed by %q", c.name, v.By[0].Principal)
		}
		if got != c.want {
			t.Errorf("%s: %s (%v)\nwant %s", c.name, got, v, c.want)
		}
	}
}

// TestOpenPGPFiles says what an .asc file may hold.
func TestOpenPGPFiles(t *testing.T) {
	ada := entity(t, pgpConfig(made))
	good := public(t, ada)
	weak := func() string {
		e := entity(t, &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 1024, Time: pgpConfig(made).Time})
		return public(t, e)
	}
	raw, err := base64.StdEncoding.DecodeString("mDMEAAAAABYJKwYBBAHaRw8BAQdA")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{good, ""},
		{"\n" + strings.ReplaceAll(good, "\n", "\r\n"), ""},
		{good + good, "keys/ada.asc: the armor is not base64 in lines of one length, up to 76"},
		{strings.Replace(good, "\n\n", "\nComment: x\n\n", 1), ""},
		{strings.Replace(good, "-----END", "", 1), `keys/ada.asc: expected "-----END PGP PUBLIC KEY BLOCK-----" on a line of its own last`},
		{armored(t, openpgp.PublicKeyType, raw), "keys/ada.asc: an OpenPGP packet is cut short"},
		{armored(t, openpgp.PublicKeyType, []byte{0xc5, 1, 4}), "keys/ada.asc: holds an OpenPGP packet 5, which is no part of a public key"},
		{armored(t, openpgp.PublicKeyType, []byte{0xc6, 1, 6}), "keys/ada.asc: an OpenPGP key that is not of version 4"},
		{armored(t, openpgp.PublicKeyType, []byte{0xc6, 0xe1, 4, 4}), "keys/ada.asc: an OpenPGP packet is cut short"},
		{armored(t, openpgp.PublicKeyType, []byte{0xd1, 1, 1}), "keys/ada.asc: holds a picture; export it with --export-options no-export-attributes"},
	} {
		_, ps := ParseFiles([]File{{"ada.asc", []byte(c.text)}})
		if ps.Error() != c.want {
			t.Errorf("%.60q: %s\nwant %s", c.text, ps.Error(), c.want)
		}
	}
	if _, ps := ParseFiles([]File{{"ada.asc", []byte(weak())}}); !strings.Contains(ps.Error(), "RSA") && !strings.Contains(ps.Error(), "cannot be read") {
		t.Errorf("a weak key: %v", ps)
	}
	if _, ps := ParseFiles([]File{{"ada.asc", []byte(good)}, {"bob.asc", []byte(good)}}); !strings.Contains(ps.Error(), "stands twice, for ada and bob") {
		t.Errorf("one key of two: %v", ps)
	}
}

// TestPackets holds signatures to version 4 before the library allocates what another one claims.
func TestPackets(t *testing.T) {
	const v4 = "an OpenPGP signature that is not of version 4"
	within := []byte{4, 0, 27, 10, 0, 8, 7, 32, 6, 0, 27, 10, 0xff, 0xff, 0, 0} // hashed: one subpacket, a signature of version 6
	for _, c := range []struct {
		body    []byte
		binding bool
		want    string
	}{
		{[]byte{4, 0, 27, 10, 0, 0, 0, 0}, false, ""},
		{[]byte{6, 0, 27, 10, 0xff, 0xff, 0xff, 0xff}, false, v4},
		{[]byte{6, 0, 27, 10, 0xff, 0xff, 0xff, 0xff}, true, v4},
		{within, false, "an OpenPGP signature within a signature"},
		{within, true, v4},
		{append(append([]byte{4, 0, 27, 10, 0, 0, 0, 18, 17, 32}, within[:16]...), 0), true, "an OpenPGP signature within a signature"},
		{[]byte{4, 0, 27, 10, 0, 9, 0, 0}, false, "an OpenPGP packet is cut short"},
		{[]byte{4, 0, 27, 10, 0, 2, 5, 32, 0, 0}, false, "an OpenPGP packet is cut short"},
		{[]byte{4, 0, 27, 10, 0, 1, 0, 0, 0}, false, "an OpenPGP packet is cut short"},
		{[]byte{4, 0, 27, 10, 0, 1, 255, 0, 0}, false, "an OpenPGP packet is cut short"},
		{nil, false, v4},
	} {
		if got := text(checkSignature(c.body, c.binding)); got != c.want {
			t.Errorf("%v: %s\nwant %s", c.body, got, c.want)
		}
	}
}

// TestFeature_G10_gpg agrees with stock Git on a commit that GnuPG has signed.
func TestFeature_G10_gpg(t *testing.T) {
	have(t, "git", "gpg", "gpg-agent", "gpgconf")
	home, err := os.MkdirTemp("", "g") // sockets need short names
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GNUPGHOME", home)
	t.Cleanup(func() {
		_, _ = run(t, home, "gpgconf", "--kill", "all")
		_ = os.RemoveAll(home)
	})
	must(t, home, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "Ada <ada@example.org>", "ed25519", "sign,cert", "never")
	dir := repository(t, "openpgp", "ada@example.org")
	write(t, dir, "keys/ada.asc", must(t, home, "gpg", "--armor", "--export", "ada@example.org"))
	write(t, dir, "keys/trust.yaml", required)
	must(t, dir, "git", "add", ".")
	must(t, dir, "git", "commit", "-q", "-m", "keys: ada")
	must(t, dir, "git", "verify-commit", "HEAD")
	id, raw := object(t, dir, "commit", "HEAD")
	keys, ps := Parse(os.DirFS(dir))
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	// GnuPG made the key by the clock of this machine, after the commit's own time.
	keys.order[0].From = time.Time{}
	v := Judge(Range{Environment: "dev", Active: keys, Commits: []Commit{{ID: id, Raw: raw, Keys: keys}}, Now: keys.order[0].pgp.CreationTime.Add(time.Hour)})
	if !v.Trusted || v.By[0].Principal != "ada" {
		t.Errorf("%v %+v", v, v.By)
	}
}
