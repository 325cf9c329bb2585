package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
)

// repository is a new Git repository that signs with the key in file.
func repository(t *testing.T, format, key string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, dir, "git", "init", "-q")
	for _, kv := range [][2]string{{"gpg.format", format}, {"user.signingkey", key}, {"commit.gpgsign", "true"}, {"gpg.ssh.allowedSignersFile", "keys/signers"}} {
		must(t, dir, "git", "config", kv[0], kv[1])
	}
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFeature_G10 agrees with stock Git on commits and tags that Git has signed with keys of ssh-keygen.
func TestFeature_G10(t *testing.T) {
	have(t, "git", "ssh-keygen")
	for _, c := range []struct{ kind, bits, want string }{
		{"ed25519", "256", "trusted: 1 commits"},
		{"ecdsa", "256", "trusted: 1 commits"},
		{"ecdsa", "384", "trusted: 1 commits"},
		{"ecdsa", "521", "trusted: 1 commits"},
		{"rsa", "2048", "trusted: 1 commits"},
		{"rsa", "1024", "keys/signers:1: an RSA key of 1024 bits; expected 2048 to 8192"},
	} {
		t.Run(c.kind+c.bits, func(t *testing.T) {
			key := filepath.Join(t.TempDir(), "key")
			must(t, t.TempDir(), "ssh-keygen", "-q", "-t", c.kind, "-b", c.bits, "-N", "", "-C", "", "-f", key)
			pub, err := os.ReadFile(key + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			dir := repository(t, "ssh", key)
			write(t, dir, "keys/signers", `ada@example.org namespaces="git",valid-before="20300101Z" `+string(pub))
			write(t, dir, "keys/trust.yaml", required)
			must(t, dir, "git", "add", ".")
			must(t, dir, "git", "commit", "-q", "-m", "keys: ada")
			must(t, dir, "git", "verify-commit", "HEAD")

			keys, ps := Parse(os.DirFS(dir))
			if len(ps) > 0 {
				if got := ps.Error(); got != c.want {
					t.Errorf("%s\nwant %s", got, c.want)
				}
				return
			}
			id, raw := object(t, dir, "commit", "HEAD")
			r := Range{Environment: "dev", Active: keys, Commits: []Commit{{ID: id, Raw: raw, Keys: keys}}, Now: noon}
			if got := Judge(r).String(); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}

			name := strings.TrimPrefix(ApprovalRef("production", id, "ada@example.org"), "refs/tags/")
			must(t, dir, "git", "tag", "-s", "-m", "looks good\n\n-- \nAda", name)
			must(t, dir, "git", "verify-tag", name)
			_, rawTag := object(t, dir, "tag", name)
			a, err := ApprovalOf("refs/tags/"+name, rawTag, keys, noon)
			if err != nil || a.Principal != "ada@example.org" || a.Environment != "production" || a.Commit != id || a.Groups != nil {
				t.Errorf("%+v, %v", a, err)
			}

			// Moved to another tree after it was signed.
			forged := []byte(strings.Replace(string(raw), "tree ", "tree "+string(source.EmptyTree)+"\nx ", 1))
			r.Commits = []Commit{{ID: source.ObjectID("commit", forged), Raw: forged}}
			if v := Judge(r); v.Trusted {
				t.Error("a forged commit is trusted")
			}
		})
	}
}

// TestFeature_G10_namespace sees that signatures for files do not count for commits, though the key is the same.
func TestFeature_G10_namespace(t *testing.T) {
	have(t, "ssh-keygen")
	dir := t.TempDir()
	must(t, dir, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key")
	write(t, dir, "payload", "x")
	for _, c := range []struct{ namespace, want string }{
		{"git", ""},
		{"file", `was made for "file"; expected "git"`},
	} {
		must(t, dir, "ssh-keygen", "-q", "-Y", "sign", "-n", c.namespace, "-f", "key", "payload")
		armored, err := os.ReadFile(filepath.Join(dir, "payload.sig"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseSSHSignature(string(armored))
		if text(err) != c.want || err == nil && (!s.covers([]byte("x")) || s.covers([]byte("y"))) {
			t.Errorf("%s: %v\nwant %s", c.namespace, err, c.want)
		}
		_ = os.Remove(filepath.Join(dir, "payload.sig"))
	}
}

// TestFeature_G10_ring sees that Git accepts what the ring's key signs, by the line that SignersLine gives.
func TestFeature_G10_ring(t *testing.T) {
	have(t, "git", "ssh-keygen")
	dir := repository(t, "ssh", "none")
	line, err := SignersLine("ring", signerOf("ring").PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "keys/signers", line)
	h := newHistory(t)
	h.add("a ring -", nil)
	write(t, dir, "commit", string(h.all["a"].Raw))
	must(t, dir, "git", "mktree", "--missing") // the empty tree, from no input
	id := strings.TrimSpace(must(t, dir, "git", "hash-object", "-t", "commit", "-w", "commit"))
	if id != string(h.ids["a"]) {
		t.Fatalf("%s, want %s", id, h.ids["a"])
	}
	if out := must(t, dir, "git", "verify-commit", id); !strings.Contains(out, `Good "git" signature for ring`) {
		t.Error(out)
	}
	must(t, dir, "git", "fsck", "--strict", id)
	if _, err := SignersLine("no spaces", signerOf("ring").PublicKey()); err == nil {
		t.Error("a name with a space passes")
	}
	if _, err := SignCommit(h.all["a"].Raw, signerOf("ring")); text(err) != "sign commit: it is signed already" {
		t.Errorf("signed twice: %v", err)
	}
}
