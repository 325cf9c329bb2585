package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// signed is a node that follows a repository of the real git, in which people have keys.
type signed struct {
	*deploys
	depth  int    // of the first fetch; 0: all
	dir    string // of the clone, which is the forge too
	mirror *gitsync.Mirror
	names  map[string]string // of commits and keys, for texts
}

func newSigned(t *testing.T) *signed {
	ds := newDeploys(t)
	s := &signed{deploys: ds, dir: filepath.Join(t.TempDir(), "clone"), names: map[string]string{}}
	s.run("", "git", "init", "-q", "-b", "main", s.dir)
	for _, name := range []string{"ada", "bob", "eve", "ring"} {
		s.key(name)
	}
	s.open(t)
	return s
}

// open has the node follow the repository.
func (s *signed) open(t testing.TB) {
	var err error
	s.mirror, err = gitsync.Open(t.Context(), gitsync.Options{Dir: filepath.Join(t.TempDir(), "git"), URL: "file://" + s.dir, Depth: cmp.Or(s.depth, -1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.mirror.Close)
	s.restart()
}

// restart makes a new deployer on the same ledger: all that one remembers is gone.
func (s *signed) restart() {
	s.d = NewDeployer(DeployOptions{
		Ledger: (*memLedger)(s.m), Content: memContent{Store: s.m.ring.Content}, Source: mirrorOf{s.mirror}, Merger: mirrorOf{s.mirror}, Renderer: filesOf{s.u}, Images: s.u, Branch: dev.Ref,
		Journal: NewJournal(), Log: s.d.opt.Log,
	})
	s.n.Deployer = s.d
}

// mirrorOf is a mirror as the deployer needs it.
type mirrorOf struct{ *gitsync.Mirror }

func (m mirrorOf) Head(_ context.Context, ref string) (source.ID, bool, error) {
	id, err := m.Mirror.Head(ref)
	if errors.Is(err, gitsync.ErrNoRef) {
		return "", false, nil
	}
	return id, err == nil, err
}

func (m mirrorOf) Take(ctx context.Context, refs []source.Ref) error { return m.TakeHeads(ctx, refs) }

func (m mirrorOf) Bring(context.Context, source.ID) error { return nil }

func (m mirrorOf) Relate(ctx context.Context, from, to source.ID) (source.Relation, error) {
	return m.Relation(ctx, from, to)
}

// filesOf renders what lies in the files of a tree: objects in web.yaml, and "name branch" a line in environments, beside dev.
type filesOf struct{ *upstream }

func (f filesOf) Environments(ctx context.Context, tree source.Tree) ([]render.Environment, render.Problems, error) {
	list := []render.Environment{dev}
	b, _ := tree.ReadFile("environments")
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if w[0] == "-dev" {
			list = nil
			continue
		}
		list = append(list, render.Environment{Name: w[0], Namespace: w[0], Ref: "refs/heads/" + w[1]})
	}
	return list, nil, nil
}

func (f filesOf) Render(ctx context.Context, tree source.Tree, env render.Environment) ([]Rendered, error) {
	b, err := tree.ReadFile("web.yaml")
	if err != nil {
		return nil, err
	}
	f.texts[tree.Commit()] = string(b)
	return f.upstream.Render(ctx, tree, env)
}

func (s *signed) run(dir, name string, args ...string) string {
	s.t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "HOME="+filepath.Dir(s.dir), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	out, err := c.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *signed) git(args ...string) string { s.t.Helper(); return s.run(s.dir, "git", args...) }

func (s *signed) keyFile(name string) string { return filepath.Join(filepath.Dir(s.dir), name) }

func (s *signed) key(name string) {
	s.run("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", s.keyFile(name))
	s.names[strings.Fields(s.run("", "ssh-keygen", "-l", "-f", s.keyFile(name)+".pub"))[1]] = "<" + name + ">"
}

// signers writes keys/signers for these people.
func (s *signed) signers(names ...string) {
	var b strings.Builder
	for _, name := range names {
		name, options, _ := strings.Cut(name, " ")
		public, err := os.ReadFile(s.keyFile(name) + ".pub")
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s namespaces=\"git\"%s %s", name, options, public)
	}
	s.write("keys/signers", b.String())
}

func (s *signed) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

// by are the flags that have git sign with somebody's key; "" signs nothing.
func (s *signed) by(name string) []string {
	if name == "" {
		return []string{"-c", "commit.gpgsign=false"}
	}
	return []string{"-c", "commit.gpgsign=true", "-c", "gpg.format=ssh", "-c", "user.signingkey=" + s.keyFile(name)}
}

// commit commits the work tree.
func (s *signed) commit(by, message string) source.ID {
	s.t.Helper()
	s.git("add", "-A")
	s.git(append(s.by(by), "commit", "-q", "--allow-empty", "-m", message)...)
	return s.named(message)
}

func (s *signed) named(message string) source.ID {
	id := source.ID(s.git("rev-parse", "HEAD"))
	s.names[id.Short()] = "<" + message + ">"
	return id
}

// web changes what runs, so that a commit is worth activating.
func (s *signed) web(greeting string) {
	s.write("web.yaml", strings.Replace(deployment("web"), "web:v1", "web:"+greeting, 1))
}

var key = regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`)

// sees fetches, looks, and gives what the pusher sees, with names for commits and keys.
func (s *signed) sees() string {
	s.t.Helper()
	if _, err := s.mirror.Fetch(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(s.look()) {
		if !strings.Contains(line, "rendered ") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	text := strings.Join(out, "\n")
	text = key.ReplaceAllStringFunc(text, func(id string) string {
		if name, ok := s.names[id]; ok {
			return name
		}
		return id
	})
	for id, name := range s.names {
		text = strings.ReplaceAll(text, id, name)
	}
	return text
}

// step looks, and compares what is said and what runs then.
func (s *signed) step(what, want string, runs map[string]source.ID) {
	s.t.Helper()
	if got := s.sees(); got != want {
		s.t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
	for name, id := range runs {
		e := s.d.active(name)
		switch {
		case id == "" && e != nil:
			s.t.Errorf("%s: %s runs %s, want nothing", what, name, s.names[e.Commit.Short()])
		case id != "" && (e == nil || e.Commit != id):
			s.t.Errorf("%s: %s does not run %s", what, name, s.names[id.Short()])
		}
	}
}
