package nodeagent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// shelf is a mirror with refs; its commits are in a line.
type shelf struct {
	*worked
	refs []source.Ref
	line []source.ID
}

func (m *shelf) Refs() []source.Ref { return m.refs }

func (m *shelf) Has(id source.ID) bool { return slices.Contains(m.line, id) || m.worked.Has(id) }

func (m *shelf) Log(_ context.Context, tip source.ID, limit int) (out []source.Commit, err error) {
	i := slices.Index(m.line, tip)
	if i < 0 {
		return nil, errors.New("no commit")
	}
	for ; i >= 0 && len(out) < limit; i-- {
		out = append(out, source.Commit{ID: m.line[i]})
	}
	return out, nil
}

func (m *shelf) Commit(_ context.Context, id source.ID) (source.Commit, error) {
	if !slices.Contains(m.line, id) {
		return source.Commit{}, errors.New("it is a tag")
	}
	return source.Commit{ID: id}, nil
}

// A node finds what a name or digits mean, and says what it has when it does not.
func TestPlanRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := func(digits string) source.ID { return source.ID(digits + strings.Repeat("0", 40-len(digits))) }
		m := newMachine(t)
		s := &shelf{
			worked: &worked{}, line: []source.ID{id("aaaa1"), id("aaaa2"), id("bbbb"), id("cccc")},
			refs: []source.Ref{
				{Name: "refs/heads/env/prod", ID: id("bbbb")},
				{Name: "refs/heads/main", ID: id("cccc")},
				{Name: "refs/heads/v1", ID: id("aaaa1")},
				{Name: "refs/tags/signed", ID: id("dddd")},
				{Name: "refs/tags/v1", ID: id("bbbb")},
			},
		}
		n := &Node{Agent: m.agent(), Mirror: s, Deployer: NewDeployer(DeployOptions{Source: s})}
		for _, tt := range []struct{ name, want string }{
			{"main", "cccc refs/heads/main"},
			{"env/prod", "bbbb refs/heads/env/prod"},
			{"refs/heads/v1", "aaaa1 refs/heads/v1"},
			{"heads/v1", "aaaa1 "},
			{"v1", "bbbb "}, // a tag goes before a branch, as in Git
			{"aaaa2", "aaaa2 "},
			{string(id("aaaa1")), "aaaa1 "},
			{"aaaa", "aaaa fits 2 commits: " + string(id("aaaa1")) + ", " + string(id("aaaa2"))},
			{"signed", `revision "signed": dddd00000000 is not a commit of this node's mirror`},
			{string(id("eeee")), "no commit"},
			{"eeee", `no commit "eeee" in the mirror of this node: expected a branch, a tag, or an id of at least 4 digits; it has env/prod, main, signed, v1, v1`},
			{"main~1", "no commit"},
			{"aaa", "no commit"},
			{"", "no commit"},
		} {
			got, branch, err := n.revision(t.Context(), m.ring.State, tt.name)
			said := strings.TrimRight(string(got), "0") + " " + branch
			if err != nil {
				said = err.Error()
				if strings.HasPrefix(said, "no commit") != errors.Is(err, api.ErrNotFound) {
					t.Errorf("%s: %v is ErrNotFound: %t", tt.name, err, errors.Is(err, api.ErrNotFound))
				}
			}
			if !strings.HasPrefix(said, tt.want) {
				t.Errorf("%q: %s, want %s", tt.name, said, tt.want)
			}
		}
	})
}

// What comes along with a plan is taken for what its bytes say, and a tree that is not whole is refused.
func TestPlanBrings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		u := &worked{items: map[source.ID][]source.Item{}, blobs: map[source.ID][]byte{}}
		n := &Node{Agent: m.agent(), Mirror: u, Deployer: NewDeployer(DeployOptions{Source: u, Renderer: u, Branch: dev.Ref})}
		tree, err := source.FromFS(fstest.MapFS{"a/b": {Data: []byte("text")}, "shoal.cue": {Data: []byte("x")}}, source.FSOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var all []api.GitObject
		root, err := source.Walk(tree, func(source.ID) bool { return true }, func(_ source.ID, kind string, raw []byte) error {
			all = append(all, api.GitObject{Kind: kind, Data: raw})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		named := func(root, commit string) *api.Tree { return &api.Tree{Name: "it", Root: root, Commit: commit} }
		for _, tt := range []struct {
			name string
			req  api.PlanRequest
			want string
		}{
			{"nothing of it", api.PlanRequest{To: named(string(root), "")}, "it: "},
			{"no id", api.PlanRequest{To: named("../../etc", "")}, "expected ids of 40 hex digits"},
			{"a commit that is none", api.PlanRequest{To: named(string(root), "x"), Objects: all}, "expected ids of 40 hex digits"},
			{"another kind", api.PlanRequest{To: named(string(root), ""), Objects: []api.GitObject{{Kind: "commit"}}}, `object 0 is a "commit": expected a tree or a blob`},
			{"no tree", api.PlanRequest{To: named(string(root), ""), Objects: []api.GitObject{{Kind: "tree", Data: []byte("x")}}}, "object 0: tree: offset 0"},
			{"no environment", api.PlanRequest{To: named(string(root), ""), Objects: all}, "shoal.cue"},
		} {
			if _, err := n.Plan(t.Context(), tt.req); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
			}
		}
		if _, err := n.Lacking(t.Context(), []string{"x"}); err == nil {
			t.Error("an id that is none")
		}
		if ids, err := n.Lacking(t.Context(), []string{string(root)}); err != nil || len(ids) != 1 {
			t.Error(ids, err)
		}
	})
}
