package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/source"
)

// noon is the time of tests.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// signerOf is a key that follows from a name, so that failing tests look alike every time.
func signerOf(name string) ssh.Signer {
	seed := sha256.Sum256([]byte(name))
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return s
}

// keysOf is keys/ with an SSH key for each name and trust.yaml as given. "ada+" is a second key of ada.
func keysOf(t testing.TB, trust string, names ...string) *Keys {
	t.Helper()
	k, ps := Parse(keysFS(t, trust, names...))
	if len(ps) > 0 {
		t.Fatalf("keys: %v", ps)
	}
	return k
}

func keysFS(t testing.TB, trust string, names ...string) fstest.MapFS {
	t.Helper()
	var lines strings.Builder
	for _, name := range names {
		line, err := SignersLine(strings.TrimSuffix(name, "+"), signerOf(name).PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteString(line)
	}
	fsys := fstest.MapFS{"keys/signers": {Data: []byte(lines.String())}}
	if trust != "" {
		fsys["keys/trust.yaml"] = &fstest.MapFile{Data: []byte(trust)}
	}
	return fsys
}

// history builds commits by name.
type history struct {
	t   testing.TB
	ids map[string]source.ID
	all map[string]Commit
}

func newHistory(t testing.TB) *history {
	return &history{t: t, ids: map[string]source.ID{}, all: map[string]Commit{}}
}

// spec is "name signer parent,parent path,path"; signer "-" leaves it unsigned, "-" for parents or paths is none.
func (h *history) add(spec string, keys *Keys) {
	h.t.Helper()
	f := strings.Fields(spec)
	for len(f) < 4 {
		f = append(f, "-")
	}
	who := source.Person{Name: f[1], Email: f[1] + "@example.org", When: noon.Add(-time.Hour)}
	c := source.Commit{Tree: source.EmptyTree, Author: who, Committer: who, Message: f[0] + "\n"}
	if f[2] != "-" {
		for p := range strings.SplitSeq(f[2], ",") {
			id, ok := h.ids[p]
			if !ok {
				id = source.ObjectID("commit", []byte(p)) // outside of the range
				h.ids[p] = id
			}
			c.Parents = append(c.Parents, id)
		}
	}
	raw := source.EncodeCommit(c)
	if f[1] != "-" {
		var err error
		if raw, err = SignCommit(raw, signerOf(f[1])); err != nil {
			h.t.Fatal(err)
		}
	}
	out := Commit{ID: source.ObjectID("commit", raw), Raw: raw, Keys: keys}
	if f[3] != "-" {
		out.Paths = strings.Split(f[3], ",")
	}
	h.ids[f[0]], h.all[f[0]] = out.ID, out
}

// names puts names for ids in a text.
func (h *history) names(text string) string {
	for name, id := range h.ids {
		text = strings.ReplaceAll(text, id.Short(), name)
	}
	for _, key := range []string{"ada", "ada+", "bob", "eve", "ring", "new"} {
		text = strings.ReplaceAll(text, ssh.FingerprintSHA256(signerOf(key).PublicKey()), "<"+key+">")
	}
	return text
}

// run runs a program in dir without the user's configuration and returns its output.
func run(t testing.TB, dir string, args ...string) (string, error) {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Dir = dir
	c.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C", "TZ=UTC",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
		"GIT_AUTHOR_DATE=2026-03-02T11:00:00Z", "GIT_COMMITTER_DATE=2026-03-02T11:00:00Z")
	out, err := c.CombinedOutput()
	return string(out), err
}

func must(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := run(t, dir, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func have(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// object is the raw bytes of a Git object.
func object(t testing.TB, dir, kind, name string) (source.ID, []byte) {
	t.Helper()
	raw := []byte(must(t, dir, "git", "cat-file", kind, name))
	id := source.ID(strings.TrimSpace(must(t, dir, "git", "rev-parse", name)))
	if got := source.ObjectID(kind, raw); got != id {
		t.Fatalf("%s has id %s, its bytes give %s", name, id, got)
	}
	return id, raw
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
