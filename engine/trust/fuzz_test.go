package trust

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/source"
)

func FuzzSignature(f *testing.F) {
	good, err := Sign([]byte("x"), signerOf("ada"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(strings.ReplaceAll(good, "\n", "\r\n"))
	f.Add(detached(f, entity(f, pgpConfig(made)), pgpConfig(signed))([]byte("x")))
	f.Add(armored(f, "PGP SIGNATURE", []byte{0xc2, 8, 6, 0, 27, 10, 0xff, 0xff, 0xff, 0xff}))
	id := ssh.FingerprintSHA256(signerOf("ada").PublicKey())
	f.Fuzz(func(t *testing.T, armored string) {
		if s, err := parseSSHSignature(armored); err == nil {
			if s.covers([]byte("y")) {
				t.Fatal("a signature of x covers y")
			}
			if s.covers([]byte("x")) && ssh.FingerprintSHA256(s.key) == id && strings.Count(armored, "\n") < 2 {
				t.Fatal("a signature on one line")
			}
		}
		_, _ = parsePGPSignature(armored)
	})
}

func FuzzCommit(f *testing.F) {
	h := newHistory(f)
	h.add("a ada last", nil)
	h.add("b - a,last", nil)
	f.Add(h.all["a"].Raw)
	f.Add(h.all["b"].Raw)
	f.Add([]byte("tree " + source.EmptyTree + "\nmergetag object x\n y\ngpgsig -----BEGIN\n \n\n"))
	keys := keysOf(f, required, "ada")
	payload := h.all["a"].Raw
	if c, err := parseCommit(h.all["a"].ID, payload); err == nil {
		payload = c.payload
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		id := source.ObjectID("commit", raw)
		v := Judge(Range{Environment: "dev", Last: h.ids["last"], Active: keys, Commits: []Commit{{ID: id, Raw: raw}}, Now: noon})
		if v.Trusted {
			// Ada has signed one payload only; everything else that is trusted is a forgery.
			c, err := parseCommit(id, raw)
			if err != nil || !bytes.Equal(c.payload, payload) {
				t.Fatalf("trusted: %q", raw)
			}
		}
	})
}

func FuzzTag(f *testing.F) {
	commit := source.ObjectID("commit", nil)
	ref := ApprovalRef("production", commit, "ada")
	f.Add(tagOf(f, strings.TrimPrefix(ref, "refs/tags/"), commit, "ada"))
	f.Add(tagOf(f, "v1", commit, ""))
	keys := keysOf(f, "", "ada")
	want, _ := parseTag(tagOf(f, strings.TrimPrefix(ref, "refs/tags/"), commit, "ada"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := ApprovalOf(ref, raw, keys, noon); err == nil {
			if got, err := parseTag(raw); err != nil || !bytes.Equal(got.payload, want.payload) {
				t.Fatalf("counts: %q", raw)
			}
		}
	})
}

func FuzzSigners(f *testing.F) {
	line, err := SignersLine("ada", signerOf("ada").PublicKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(`ada namespaces="git,x",valid-after="20260101Z" ` + line)
	f.Add("# x\n\n" + line + line)
	f.Fuzz(func(t *testing.T, text string) {
		k, ps := ParseFiles([]File{{"signers", []byte(text)}})
		for _, key := range k.Keys() {
			if CheckPrincipal(key.Principal) != nil || key.ssh == nil || ssh.FingerprintSHA256(key.ssh) != key.ID {
				t.Fatalf("%+v", key)
			}
		}
		for _, p := range ps {
			if p.File != "keys/signers" || p.Line < 1 || strings.Contains(p.Text, "\n") {
				t.Fatalf("%+v", p)
			}
		}
	})
}

func FuzzTrustFile(f *testing.F) {
	f.Add("require: true\ngroups: {a: {environments: [x]}}\nprincipals: {ada: [{paths: [a/**], approve: [a]}, {environments: ['*']}]}\n")
	f.Add("a: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, ps := parseRights("keys/trust.yaml", []byte(text))
		if len(ps) == 0 {
			_ = r.allows("ada", "dev", false, []string{"a/b", "c"})
			_, _ = r.approves("ada", "x")
		}
	})
}

func FuzzOpenPGPFile(f *testing.F) {
	f.Add(public(f, entity(f, pgpConfig(made))))
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = ParseFiles([]File{{"ada.asc", []byte(text)}})
	})
}

// FuzzOpenPGPPackets goes past the armor, which a fuzzer seldom passes.
func FuzzOpenPGPPackets(f *testing.F) {
	ada := entity(f, pgpConfig(made))
	if err := ada.AddSigningSubkey(pgpConfig(made)); err != nil {
		f.Fatal(err)
	}
	var key, sig bytes.Buffer
	if err := ada.Serialize(&key); err != nil {
		f.Fatal(err)
	}
	if err := openpgp.DetachSign(&sig, ada, strings.NewReader("x"), pgpConfig(signed)); err != nil {
		f.Fatal(err)
	}
	f.Add(key.Bytes())
	f.Add(sig.Bytes())
	f.Add([]byte{0xc2, 8, 6, 0, 27, 10, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = ParseFiles([]File{{"ada.asc", []byte(armored(t, openpgp.PublicKeyType, raw))}})
		s, err := parsePGPSignature(armored(t, openpgp.SignatureType, raw))
		if err != nil {
			return
		}
		for _, sub := range ada.Subkeys {
			if pgpCovers(sub.PublicKey, s, []byte("y")) {
				t.Fatal("a signature of x covers y")
			}
		}
	})
}
