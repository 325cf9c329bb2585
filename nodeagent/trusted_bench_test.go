package nodeagent

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// BenchmarkJudge judges 1,000 signed commits at once, each of which changes one of 500 files: with rights that depend on paths, and
// without.
func BenchmarkJudge(b *testing.B) {
	for _, rights := range []string{"", "principals: {ada: {paths: ['**']}}\n"} {
		b.Run(map[bool]string{true: "keys", false: "paths"}[rights == ""], func(b *testing.B) {
			m := newMachine(b)
			s := &signed{deploys: deploysOn(m, m.agent()), dir: filepath.Join(b.TempDir(), "clone"), names: map[string]string{}}
			s.run("", "git", "init", "-q", "-b", "main", s.dir)
			s.key("ada")
			s.signers("ada")
			s.write("keys/trust.yaml", must+rights)
			for i := range 500 {
				s.write(fmt.Sprintf("apps/%02d/%d.yaml", i/10, i%10), "x")
			}
			first := s.commit("", "first")
			tip := s.chain(first, 1000)
			s.open(b)
			if _, err := s.mirror.Fetch(b.Context()); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				v, err := s.d.Judge(b.Context(), "dev", first, tip)
				if err != nil || !v.Trusted || len(v.By) != 1000 {
					b.Fatal(v, err)
				}
			}
		})
	}
}

// chain puts signed commits onto one, each with another content of a file, as git would write them.
func (s *signed) chain(first source.ID, count int) source.ID {
	pem, err := os.ReadFile(s.keyFile("ada"))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		s.t.Fatal(err)
	}
	trees := map[string][]source.Item{}
	for _, dir := range []string{"", "apps", "apps/07"} {
		items, err := source.ParseTree(s.rawTree(string(first) + ":" + dir))
		if err != nil {
			s.t.Fatal(err)
		}
		trees[dir] = items
	}
	who := source.Person{Name: "Ada", Email: "ada@example.org", When: time.Now().Add(-time.Hour)}
	at := first
	for i := range count {
		id := s.object("blob", fmt.Appendf(nil, "%d", i))
		for _, in := range []struct{ dir, name string }{{"apps/07", "3.yaml"}, {"apps", "07"}, {"", "apps"}} {
			for j := range trees[in.dir] {
				if trees[in.dir][j].Name == in.name {
					trees[in.dir][j].ID = id
				}
			}
			id = s.object("tree", source.EncodeTree(trees[in.dir]))
		}
		raw, err := trust.SignCommit(source.EncodeCommit(source.Commit{Tree: id, Parents: []source.ID{at}, Author: who, Committer: who, Message: "next\n"}), key)
		if err != nil {
			s.t.Fatal(err)
		}
		at = s.object("commit", raw)
	}
	s.git("update-ref", "refs/heads/main", string(at))
	return at
}

func (s *signed) rawTree(name string) []byte {
	id := s.git("rev-parse", name)
	z, err := os.Open(filepath.Join(s.dir, ".git", "objects", id[:2], id[2:]))
	if err != nil {
		s.t.Fatal(err)
	}
	defer z.Close()
	r, err := zlib.NewReader(z)
	if err != nil {
		s.t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		s.t.Fatal(err)
	}
	_, raw, _ := bytes.Cut(b.Bytes(), []byte{0})
	return raw
}

// object writes a loose object.
func (s *signed) object(kind string, raw []byte) source.ID {
	id := source.ObjectID(kind, raw)
	path := filepath.Join(s.dir, ".git", "objects", string(id[:2]), string(id[2:]))
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	fmt.Fprintf(z, "%s %d\x00%s", kind, len(raw), raw)
	if err := z.Close(); err != nil {
		s.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o444); err != nil && !os.IsPermission(err) {
		s.t.Fatal(err)
	}
	return id
}
