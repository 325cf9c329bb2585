package nodeagent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

const (
	must     = "require: true\n"
	notTaken = "\ndev: commit <%s> is not accepted; what ran goes on"
)

// untrusted is what the pusher of a tip sees of a commit in it that is not trusted.
func untrusted(commit, reason, why, tip string) string {
	comes := ""
	if tip != commit {
		comes = fmt.Sprintf("; it comes in with <%s>", tip)
	}
	return fmt.Sprintf("dev: refs/heads/main: commit <%s> %q by Ada <ada@example.org> is not trusted (%s): %s%s\ndev: commit <%s> is not accepted; what ran goes on",
		commit, commit, reason, why, comes, tip)
}

// TestFeature_G10_OnlySignedCommitsComeIn goes from a repository without keys to one where keys come and go.
func TestFeature_G10_OnlySignedCommitsComeIn(t *testing.T) {
	s := newSigned(t)
	s.web("v1")
	s.step("nothing is asked for", "", map[string]source.ID{"dev": s.commit("", "one")})
	s.signers("ada", "bob")
	s.web("v2")
	s.step("keys alone ask for nothing", "", map[string]source.ID{"dev": s.commit("", "keys")})
	s.write("keys/trust.yaml", must)
	asks := s.commit("", "asks")
	s.step("who asks for signatures was not asked for one", "dev: nothing differs from what runs", map[string]source.ID{"dev": asks})

	s.web("evil")
	s.commit("", "unsigned")
	s.step("unsigned", untrusted("unsigned", "unsigned", "is not signed", "unsigned"), map[string]source.ID{"dev": asks})
	s.restart()
	s.step("after a restart", untrusted("unsigned", "unsigned", "is not signed", "unsigned"), map[string]source.ID{"dev": asks})
	s.web("v3")
	s.commit("ada", "on top")
	s.step("a good one on top brings it in too", untrusted("unsigned", "unsigned", "is not signed", "on top"), map[string]source.ID{"dev": asks})
	s.git("reset", "-q", "--hard", string(asks))
	s.web("evil")
	s.commit("eve", "stranger")
	s.step("an unknown key", untrusted("stranger", "unknown key", "signed by key <eve>, which is not in keys/", "stranger"), map[string]source.ID{"dev": asks})
	s.signers("ada", "bob", "eve")
	s.git("reset", "-q", "--hard", string(asks))
	s.signers("ada", "bob", "eve")
	s.commit("eve", "herself")
	s.step("a key does not bring itself in", untrusted("herself", "unknown key", "key <eve> of eve is not in keys/ before this commit", "herself"), map[string]source.ID{"dev": asks})
	s.git("reset", "-q", "--hard", string(asks))
	s.web("v3")
	good := s.commit("bob", "good")
	s.step("the next good commit", "", map[string]source.ID{"dev": good})

	// Bob's key is taken away; what he signs next is refused, on another line that began before too.
	s.git("checkout", "-q", "-b", "side")
	s.web("from the side")
	s.commit("bob", "side")
	s.git("checkout", "-q", "main")
	s.signers("ada")
	gone := s.commit("ada", "bob is gone")
	s.step("the key goes", "dev: nothing differs from what runs", map[string]source.ID{"dev": gone})
	s.web("v4")
	s.commit("bob", "bob again")
	s.step("revoked", untrusted("bob again", "unknown key", "signed by key <bob>, which is not in keys/", "bob again"), map[string]source.ID{"dev": gone})
	s.git("reset", "-q", "--hard", string(gone))
	s.git(append(s.by("ada"), "merge", "-q", "--no-ff", "-m", "merge", "side")...)
	s.named("merge")
	s.step("revoked, merged", untrusted("side", "revoked key", "key <bob> of bob is no longer in keys/", "merge"), map[string]source.ID{"dev": gone})

	// In one push: the key goes, and is used behind it.
	s.git("reset", "-q", "--hard", string(good))
	s.git("reset", "-q", "--hard", string(gone))
	s.signers("ada", "eve")
	s.commit("ada", "eve comes")
	s.web("v5")
	s.commit("eve", "by eve")
	s.signers("ada")
	s.commit("ada", "eve goes")
	s.web("v6")
	s.commit("eve", "eve again")
	s.step("revoked in the same push", untrusted("eve again", "revoked key", "key <eve> of eve was removed from keys/ by commit <eve goes>", "eve again"), map[string]source.ID{"dev": gone})
	s.git("reset", "-q", "--hard", "HEAD~1")
	s.step("and without that one all is well", "", map[string]source.ID{"dev": source.ID(s.git("rev-parse", "HEAD"))})

	s.write("keys/trust.yaml", "requires: true\n")
	s.commit("ada", "typo")
	s.step("keys that cannot be read", "dev: keys/trust.yaml:1: unknown key \"requires\"; expected require, groups, principals"+fmt.Sprintf(notTaken, "typo"), nil)
	s.write("keys/trust.yaml", must)
	mended := s.commit("ada", "mended")
	s.step("mended", "dev: nothing differs from what runs", map[string]source.ID{"dev": mended})

	s.signers("ada", `bob ,valid-before="20200101Z"`)
	expired := s.commit("ada", "an expired key")
	s.step("an expired key harms nobody", "dev: nothing differs from what runs", map[string]source.ID{"dev": expired})
	s.commit("bob", "too late")
	s.step("expired", untrusted("too late", "expired key", "key <bob> of bob expired at 2020-01-01T00:00:00Z", "too late"), map[string]source.ID{"dev": expired})
	s.git("reset", "-q", "--hard", "HEAD~1")
	s.write("keys/trust.yaml", "require: false\n")
	off := s.commit("ada", "off")
	s.step("switched off, signed", "dev: nothing differs from what runs", map[string]source.ID{"dev": off})
	s.web("v7")
	s.step("nothing is asked for again", "", map[string]source.ID{"dev": s.commit("", "free")})
}

// TestFeature_G10_PathsAndPromotions sees rights: of paths, on each line, and of environments, which a promotion needs and what it
// brings does not.
func TestFeature_G10_PathsAndPromotions(t *testing.T) {
	s := newSigned(t)
	s.web("v1")
	s.write("environments", "prod env/prod\n")
	s.signers("ada", "bob", "ring")
	s.write("keys/trust.yaml", must+"principals:\n  ada: {environments: [dev]}\n  bob: {paths: [docs/**]}\n  ring: {environments: [prod]}\n")
	first := s.commit("ada", "first")
	s.git("branch", "env/prod", "main")
	s.sees()
	s.step("both", "", map[string]source.ID{"dev": first, "prod": first})

	s.write("docs/a/b.md", "x")
	s.step("within his paths", "dev: nothing differs from what runs", map[string]source.ID{"dev": s.commit("bob", "docs")})
	s.web("bob's")
	s.commit("bob", "web by bob")
	s.step("outside", untrusted("web by bob", "outside its rights", `"web.yaml" is outside the paths that keys/trust.yaml gives bob`, "web by bob"), nil)
	s.git("reset", "-q", "--hard", "HEAD~1")
	s.web("v2")
	two := s.commit("ada", "two")
	s.step("hers", "", map[string]source.ID{"dev": two})

	// A promotion: a commit with the tree of main, on env/prod, whose parents are the environment's commit and that of main.
	promote := func(by, message string, first, of source.ID) source.ID {
		s.git("checkout", "-q", "--detach", string(first))
		s.git("read-tree", "-u", "--reset", string(of))
		tree := s.git("write-tree")
		id := s.git(append(append([]string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + s.keyFile(by)}, "commit-tree", "-S"), "-m", message, "-p", string(first), "-p", string(of), tree)...)
		s.git("update-ref", "refs/heads/env/prod", id)
		s.git("checkout", "-q", "-f", "main")
		s.names[source.ID(id).Short()] = "<" + message + ">"
		return source.ID(id)
	}
	promote("ada", "by ada", first, two)
	s.step("she may not sign for prod", `prod: refs/heads/env/prod: commit <by ada> "by ada" by Ada <ada@example.org> is not trusted (outside its rights): keys/trust.yaml does not let ada sign in prod`+
		"\nprod: commit <by ada> is not accepted; what ran goes on", map[string]source.ID{"prod": first})
	done := promote("ring", "by the ring", first, two)
	s.step("the ring may, and what it promotes was signed by others", "", map[string]source.ID{"prod": done})
	s.web("v3")
	three := s.commit("ada", "three")
	s.step("again", "", map[string]source.ID{"dev": three})
	again := promote("ring", "again by the ring", done, three)
	s.step("again", "", map[string]source.ID{"prod": again})
	s.web("v4")
	s.commit("ring", "ring in dev")
	s.step("the ring's key is good for nothing in dev", untrusted("ring in dev", "outside its rights", "keys/trust.yaml does not let ring sign in dev", "ring in dev"), nil)

	v, err := s.d.Judge(t.Context(), "prod", first, again)
	if err != nil || !v.Trusted {
		t.Fatal(v, err)
	}
	var by []string
	for _, b := range v.By {
		by = append(by, b.Principal)
	}
	if got := strings.Join(by, " "); got != "bob ada ring ada ring" {
		t.Errorf("signed by %s", got)
	}
}

// TestFault_G16_WhoDeclares sees that an unsigned commit on the default branch neither declares, moves nor retires an environment,
// and that a new environment is judged by what runs already.
func TestFault_G16_WhoDeclares(t *testing.T) {
	s := newSigned(t)
	s.web("v1")
	s.write("environments", "prod env/prod\n")
	s.signers("ada")
	s.write("keys/trust.yaml", must)
	first := s.commit("ada", "first")
	s.git("branch", "env/prod", "main")
	s.sees()
	s.step("both run", "", map[string]source.ID{"dev": first, "prod": first})

	s.git("checkout", "-q", "-b", "evil")
	s.signers("eve")
	s.write("keys/trust.yaml", "require: false\n")
	s.web("evil")
	s.commit("eve", "evil")
	s.git("checkout", "-q", "main")
	s.write("environments", "mine evil\n")
	s.commit("eve", "mine, and no prod\n\nShoal-Retire: prod")
	s.names[s.git("rev-parse", "--short=12", "HEAD")] = "<list>"
	s.sees()
	for range 2 {
		s.sees()
		s.restart()
	}
	if s.d.active("mine") != nil || s.d.active("prod") == nil || s.d.active("dev").Commit != first {
		t.Fatal("who may not sign has changed which environments there are")
	}
	s.git("reset", "-q", "--hard", string(first))
	s.write("environments", "prod env/prod\nmine evil\nown orphan\nnext main\n")
	declared := s.commit("ada", "declared")
	s.sees()
	const strange = ` by Ada <ada@example.org> is not trusted (unknown key): `
	s.restart()
	if got := s.sees(); !strings.Contains(got, `mine: refs/heads/evil: commit <evil> "evil"`+strange+"key <eve> of eve is not in keys/ before this commit") {
		t.Errorf("a new environment, that brings its own keys:\n%s", got)
	}
	s.git("checkout", "-q", "--orphan", "orphan")
	s.commit("eve", "orphan")
	s.git("checkout", "-q", "-f", "main")
	if got := s.sees(); !strings.Contains(got, `own: refs/heads/orphan: commit <orphan> "orphan"`+strange+"signed by key <eve>, which is not in keys/") {
		t.Errorf("one without a history:\n%s", got)
	}
	for name, want := range map[string]source.ID{"mine": "", "own": "", "next": declared, "dev": declared, "prod": first} {
		if e := s.d.active(name); want == "" && e != nil || want != "" && (e == nil || e.Commit != want) {
			t.Errorf("%s: %+v, want %s", name, e, want)
		}
	}

	s.signers("ada", "eve")
	s.commit("ada", "eve is let in")
	s.sees()
	if e := s.d.active("mine"); e == nil || s.names[e.Commit.Short()] != "<evil>" {
		t.Errorf("what was not trusted is not judged again by other keys: %+v", e)
	}

	// With the first environment on no branch that is the default one, another one says who may declare.
	s.write("environments", "-dev\nprod env/prod\n")
	s.commit("ada", "no dev\n\nShoal-Retire: dev\nShoal-Retire: next\nShoal-Retire: mine\nShoal-Retire: own")
	s.sees()
	s.sees()
	s.write("environments", "prod env/prod\nmine evil\n")
	s.commit("", "list by nobody")
	s.sees()
	if v := s.d.Verdicts()[""]; !strings.Contains(v.Problems.Error(), "is not trusted (unsigned): is not signed") || s.d.active("mine") != nil || s.d.active("prod") == nil {
		t.Errorf("%+v", v)
	}
}

// TestFeature_G10_FirstUse sees that where nothing runs the candidate's own keys say who may sign it.
func TestFeature_G10_FirstUse(t *testing.T) {
	s := newSigned(t)
	s.web("v1")
	s.commit("", "long ago")
	s.signers("ada")
	s.write("keys/trust.yaml", must)
	s.commit("", "unsigned")
	if got := s.sees(); got != "" || s.d.active("dev") != nil || !strings.Contains(s.d.Verdicts()[""].Problems.Error(), "is not trusted (unsigned): is not signed") {
		t.Errorf("%s, %+v", got, s.d.Verdicts())
	}
	s.commit("eve", "stranger")
	s.sees()
	if s.d.active("dev") != nil {
		t.Error("who is not in the keys begins")
	}
	s.step("signed", "", map[string]source.ID{"dev": s.commit("ada", "signed")})
}

// TestFeature_G10_OldBranch merges a branch that began before what the node has fetched of the history, which nobody had signed.
func TestFeature_G10_OldBranch(t *testing.T) {
	s := newSigned(t)
	s.web("v1")
	for i := range 10 {
		s.commit("", fmt.Sprint(i))
		if i == 2 {
			s.git("branch", "old")
		}
	}
	s.signers("ada")
	s.write("keys/trust.yaml", must)
	one := s.commit("ada", "one")
	s.mirror.Close()
	s.depth = 3
	s.open(t)
	s.step("the newest three", "", map[string]source.ID{"dev": one})
	s.git("checkout", "-q", "old")
	s.web("v2")
	s.commit("ada", "side")
	s.git("checkout", "-q", "main")
	s.git(append(s.by("ada"), "merge", "-q", "--no-ff", "-m", "merge", "old")...)
	s.step("the history is fetched for it", "", map[string]source.ID{"dev": s.named("merge")})
	if n := len(s.mirror.Shallow()); n != 0 {
		t.Errorf("the history ends at %d commits", n)
	}
}

// TestFeature_P3_SignedApprovals reads the approvals that git made, by the keys that are active.
func TestFeature_P3_SignedApprovals(t *testing.T) {
	s := newSigned(t)
	s.web("v1")
	s.signers("ada", "bob", "eve")
	s.write("keys/trust.yaml", must+"groups:\n  release: {environments: [prod]}\nprincipals:\n  ada: {approve: [release]}\n  bob: {approve: [release]}\n  eve: {}\n")
	id := s.commit("ada", "one")
	approve := func(by, as string) {
		s.git(append(s.by(by), "tag", "-s", "-m", "good", strings.TrimPrefix(trust.ApprovalRef("prod", id, as), "refs/tags/"), string(id))...)
	}
	approve("ada", "ada")
	approve("bob", "bob")
	approve("eve", "eve")
	s.sees()
	says := func(keys source.ID) string {
		k, err := s.d.Keys(keys)
		if err != nil {
			t.Fatal(err)
		}
		counted, refused, err := s.d.Approvals(t.Context(), "prod", id, k)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, a := range counted {
			out = append(out, fmt.Sprint(a.User, a.Groups))
		}
		for _, r := range refused {
			_, why, _ := strings.Cut(r, ": ")
			out = append(out, why)
		}
		return strings.Join(out, "; ")
	}
	if got, want := says(id), "ada[release]; bob[release]; keys/trust.yaml gives eve no group that approves for prod"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	s.git("tag", "-d", strings.TrimPrefix(trust.ApprovalRef("prod", id, "ada"), "refs/tags/"))
	approve("bob", "ada")
	s.sees()
	if got, want := says(id), "bob[release]; bob has signed it; keys/trust.yaml gives eve no group that approves for prod"; got != want {
		t.Errorf("in another's name: %s\nwant %s", got, want)
	}
	s.signers("ada", "eve")
	s.write("keys/trust.yaml", must)
	without := s.commit("ada", "without bob")
	s.sees()
	if got := says(without); strings.Contains(got, "bob[") || !strings.Contains(got, "which is not in keys/") {
		t.Errorf("his key is gone: %s", got)
	}
	s.git("tag", "-d", strings.TrimPrefix(trust.ApprovalRef("prod", id, "bob"), "refs/tags/"))
	s.git("tag", "-d", strings.TrimPrefix(trust.ApprovalRef("prod", id, "ada"), "refs/tags/"))
	s.sees()
	if got := says(id); got != "keys/trust.yaml gives eve no group that approves for prod" {
		t.Errorf("withdrawn: %s", got)
	}
}

// TestChangedPaths compares with git, over random trees.
func TestChangedPaths(t *testing.T) {
	s := newSigned(t)
	files := []string{"a", "a/b", "a/b/c", "d/e", "d/f/g", "h", "a.b", "d-e"}
	var trees, commits []string
	for i := range 24 {
		s.git("rm", "-q", "-r", "--cached", "--ignore-unmatch", ".")
		if err := os.RemoveAll(filepath.Join(s.dir, "a")); err != nil {
			t.Fatal(err)
		}
		for j, f := range files {
			_ = os.RemoveAll(filepath.Join(s.dir, f))
			path := filepath.Join(s.dir, f)
			if (i*7+j*5+i*j)%3 == 0 && os.MkdirAll(filepath.Dir(path), 0o755) == nil {
				_ = os.WriteFile(path, fmt.Appendf(nil, "%d", (i+j)%2), 0o644) // fails where a file is in the way: another shape
			}
		}
		s.commit("", fmt.Sprint(i))
		trees, commits = append(trees, s.git("rev-parse", "HEAD^{tree}")), append(commits, s.git("rev-parse", "HEAD"))
	}
	if _, err := s.mirror.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	differ := 0
	for i := range trees {
		for j := range trees {
			want := s.git("diff", "--name-only", "--no-renames", commits[i], commits[j])
			paths, err := changedPaths(s.mirror.Objects(), source.ID(trees[i]), source.ID(trees[j]), 100)
			if err != nil {
				t.Fatal(err)
			}
			differ += len(paths)
			if got := sortedLines(strings.Join(paths, "\n")); got != sortedLines(want) {
				t.Fatalf("%s\nwant\n%s", got, want)
			}
		}
	}
	if differ < 100 {
		t.Errorf("%d paths differ", differ)
	}
	if _, err := changedPaths(s.mirror.Objects(), "", source.ID(trees[0]), 1); err == nil {
		t.Error("no bound")
	}
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}
