package nodeagent

import (
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
)

// Where commits must be signed, a pull request's must be, by keys that are active: its own keys/ count for nothing, and neither do those of
// what its preview ran before. The merge itself is the ring's and is not signed.
func TestFeature_G10_PreviewsOfSignedCommits(t *testing.T) {
	s := newSigned(t)
	s.signers("ada", "bob")
	s.write("keys/trust.yaml", must)
	s.web("v1")
	s.commit("", "begin")
	s.web("v2")
	base := s.commit("ada", "base")
	s.step("what is active", "", map[string]source.ID{"dev": base})

	heads := map[string]source.ID{}
	head := func(by, name string, change func()) {
		t.Helper()
		s.git("checkout", "-q", "-B", name, string(base))
		change()
		heads[name] = s.commit(by, name)
	}
	head("bob", "good", func() { s.web("good") })
	head("", "unsigned", func() { s.web("unsigned") })
	head("", "aside", func() { s.write("notes", "aside") })
	head("eve", "own-keys", func() { s.signers("ada", "bob", "eve"); s.web("own-keys") })
	s.git("checkout", "-q", "-B", "behind", string(heads["unsigned"]))
	s.web("behind")
	heads["behind"] = s.commit("ada", "behind")
	s.git("checkout", "-q", "main")

	var refs []string
	for name := range heads {
		refs = append(refs, "refs/heads/"+name)
	}
	s.mirror.Follow(refs)
	if _, err := s.mirror.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	show := func(base, head source.ID) (commit source.ID) {
		t.Helper()
		commit, conflicts, err := s.mirror.Merge(t.Context(), base, head, source.Commit{Author: Person, Committer: Person, Message: "merge\n"})
		if err != nil || commit == "" {
			t.Fatalf("merge: %v, %v", conflicts, err)
		}
		e := preview.Environment{Name: "pr-1", Number: 1, Branch: "x", Author: "bob", Head: head, Base: base, Commit: commit, Since: 1, Changed: 1}
		if out, err := s.d.opt.Ledger.Append(t.Context(), cluster.Input{Preview: &cluster.Preview{Set: &e}}); err != nil || out.Rejected != "" {
			t.Fatalf("%s, %v", out.Rejected, err)
		}
		return commit
	}
	runs := func(what string, commit source.ID, why string) {
		t.Helper()
		said := s.sees()
		e := s.d.active("pr-1")
		if got := e != nil && e.Commit == commit; got != (why == "") || !strings.Contains(said, why) {
			t.Errorf("%s: runs %t, want %q:\n%s", what, got, why, said)
		}
	}
	runs("signed", show(base, heads["good"]), "")
	runs("unsigned", show(base, heads["unsigned"]), "<unsigned> \"unsigned\" by Ada <ada@example.org> is not trusted (unsigned)")
	if again := s.sees(); again != "" {
		t.Errorf("it is judged and said again: %s", again)
	}
	runs("signed on top of what is not", show(base, heads["behind"]), "comes in with <behind>")
	s.restart()
	runs("after a restart", show(base, heads["behind"]), "comes in with <behind>")
	runs("by a key that it brings", show(base, heads["own-keys"]), "<own-keys> \"own-keys\" by Ada <ada@example.org> is not trusted (unknown key)")
	runs("on a base that is not trusted", show(heads["aside"], heads["good"]), "<aside> \"aside\" by Ada <ada@example.org> is not trusted (unsigned)")

	// A merge that says to be of these two, and is of others.
	e := *s.d.shown("pr-1")
	e.Head, e.Base = heads["good"], base
	if _, err := s.d.opt.Ledger.Append(t.Context(), cluster.Input{Preview: &cluster.Preview{Set: &e}}); err != nil {
		t.Fatal(err)
	}
	s.restart()
	runs("a commit that is another merge", e.Commit, "it is not the merge of <good> with <base>")
	runs("signed again", show(base, heads["good"]), "")

	// A merge of these two into which a leader has put something else.
	s.git("checkout", "-q", "--detach", string(base))
	s.git("merge", "-q", "--no-ff", "--no-commit", string(heads["good"]))
	s.web("evil")
	s.git("commit", "-q", "-a", "-m", "merge")
	e.Commit = source.ID(s.git("rev-parse", "HEAD"))
	s.git("branch", "evil")
	s.git("checkout", "-q", "main")
	s.mirror.Follow(append(refs, "refs/heads/evil"))
	if _, err := s.mirror.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.d.opt.Ledger.Append(t.Context(), cluster.Input{Preview: &cluster.Preview{Set: &e}}); err != nil {
		t.Fatal(err)
	}
	runs("a merge with more in it", e.Commit, "it is not the merge of <good> with <base>")
	runs("signed once more", show(base, heads["good"]), "")

	// Bob leaves: what he signs next does not run.
	s.signers("ada")
	s.git("commit", "-q", "-a", "--allow-empty", "-m", "wip")
	s.git("reset", "-q", "--soft", "HEAD~1")
	gone := s.commit("ada", "bob leaves")
	s.step("the key goes", "dev: nothing differs from what runs", map[string]source.ID{"dev": gone})
	runs("by a key that was taken away", show(gone, heads["good"]), "is not trusted (")
}
