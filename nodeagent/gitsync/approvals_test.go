package gitsync

import (
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// TestFeature_P3_ApprovalsAreFollowed sees that approvals of commits that are here come and go with the host's, and that what
// is no approval neither comes nor holds back what is one.
func TestFeature_P3_ApprovalsAreFollowed(t *testing.T) {
	for _, how := range []string{"http", "file"} {
		t.Run(how, func(t *testing.T) {
			u := newUpstream(t)
			a := u.commit("a", map[string]string{"x": "a"})
			u.git("checkout", "-q", "-b", "elsewhere")
			other := u.commit("of a branch that nobody follows", map[string]string{"x": "b"})
			u.git("checkout", "-q", "main")
			url := "file://" + u.dir
			if how == "http" {
				url = u.serve()
			}
			m := open(t, Options{URL: url})
			name := func(commit, user string) string { return "shoal/approve/prod/" + commit + "/" + user }
			step := func(what string, want int) {
				t.Helper()
				changes, err := m.Fetch(t.Context())
				if err != nil || len(changes) != want {
					t.Errorf("%s: %d changes, %v; want %d", what, len(changes), err, want)
				}
			}
			tags := func() (users string) {
				for _, r := range m.RefsBelow(trust.ApprovalRefs, 10) {
					users += r.Name[strings.LastIndex(r.Name, "/")+1:] + " "
				}
				return strings.TrimSpace(users)
			}
			u.git("tag", "-a", "-m", "good", name(a, "ada"), a)
			step("the branch and its approval at once", 2)
			u.git("tag", "-a", "-m", "v1", "v1", a)
			u.git("tag", "-a", "-m", "good", name(other, "ada"), other)
			u.git("tag", name(a, "light"), a)
			u.git("tag", "-a", "-m", "a file", name(a, "blob"), "main:x")
			u.git("tag", name(a, "plainblob"), "main:x")
			u.git("tag", "-a", "-m", "deeper", name(a, "eve")+"/x", a)
			// A host over http gives the tag of a file: who reads it finds that it approves nothing.
			odd, some := 0, "ada"
			if how == "http" {
				odd, some = 1, "ada blob"
			}
			step("what is none", odd)
			if got := tags(); got != some {
				t.Errorf("tags of %s", got)
			}
			if m.Has(source.ID(other)) {
				t.Error("a commit came that nobody follows")
			}
			kind, raw, err := m.Raw(m.RefsBelow(trust.ApprovalRefs, 1)[0].ID)
			if err != nil || kind != "tag" || !strings.HasPrefix(string(raw), "object "+a+"\ntype commit\ntag "+name(a, "ada")+"\n") {
				t.Errorf("%s %q %v", kind, raw, err)
			}
			u.git("tag", "-a", "-m", "good", name(a, "bob"), a)
			u.git("tag", "-a", "-f", "-m", "better", name(a, "ada"), a)
			u.git("tag", "-d", name(a, "blob"))
			step("one more, one again, one withdrawn", 2+odd)
			if got := tags(); got != "ada bob" {
				t.Errorf("tags of %s", got)
			}
			step("nothing", 0)
			b := u.commit("b", map[string]string{"x": "c"})
			step("a commit", 1)
			if got, err := m.Head("main"); err != nil || string(got) != b || tags() != "ada bob" {
				t.Errorf("head %s, %v, tags of %s", got, err, tags())
			}
			u.dir = m.Dir()
			u.git("fsck", "--strict", "--full")
		})
	}
}

// TestSinceOfAMirror sees the range of a merge, and the bytes of its commits.
func TestSinceOfAMirror(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "a"})
	u.git("checkout", "-q", "-b", "side")
	s := u.commit("side", map[string]string{"y": "s"})
	u.git("checkout", "-q", "main")
	b := u.commit("b", map[string]string{"x": "b"})
	u.git("merge", "-q", "--no-ff", "-m", "merge", "side")
	tip := u.git("rev-parse", "HEAD")
	m := open(t, Options{URL: u.dir})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	commits, known, cut, err := m.Since(t.Context(), source.ID(b), source.ID(tip), 10)
	if err != nil || cut || len(commits) != 2 || commits[0] != source.ID(s) || commits[1] != source.ID(tip) || len(known) != 2 {
		t.Fatalf("%v %v %t %v", commits, known, cut, err)
	}
	for _, id := range []string{a, s, b, tip} {
		if kind, raw, err := m.Raw(source.ID(id)); err != nil || kind != "commit" || source.ObjectID(kind, raw) != source.ID(id) {
			t.Errorf("%s: %s, %v", id, kind, err)
		}
	}
	if _, _, err := m.Raw(source.EmptyTree); err == nil {
		t.Error("a tree is read as a commit")
	}
}
