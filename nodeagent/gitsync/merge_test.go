package gitsync

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// who is whom the tests' merges are by.
var who = source.Person{Name: "Ada", Email: "ada@example.org", When: time.Unix(1_700_000_000, 0).UTC()}

// branch makes a branch at a commit and commits files to it.
func (u upstream) branch(name, at, message string, files map[string]string) string {
	u.t.Helper()
	u.git("checkout", "-q", "-B", name, at)
	return u.commit(message, files)
}

func lines(n int, change map[int]string) string {
	var b strings.Builder
	for i := range n {
		if text, ok := change[i]; ok {
			fmt.Fprintln(&b, text)
		} else {
			fmt.Fprintln(&b, "line", i)
		}
	}
	return b.String()
}

// What a merge makes is what git makes of the same two commits, wherever they parted: also where their clocks lie, a change was taken
// back, one has the other, and their histories cross.
func TestFeature_V1_Merge(t *testing.T) {
	u := newUpstream(t)
	root := u.commit("root", map[string]string{"a": lines(20, nil), "b": "b\n"})
	on := u.commit("on", map[string]string{"x": "wrong\n"})
	topic := u.branch("topic", on, "topic", map[string]string{"a": lines(20, map[int]string{3: "topic"})})
	u.git("checkout", "-q", "main")
	u.git("revert", "--no-edit", on)
	off := u.git("rev-parse", "HEAD")
	ours := u.commit("ours", map[string]string{"a": lines(20, map[int]string{15: "ours"})})
	u.branch("lies", on, "lies", map[string]string{"b": "lies\n"})
	u.git("commit", "-q", "--amend", "--no-edit", "--date=1971-01-01T00:00:00Z")
	lies := u.git("rev-parse", "HEAD")
	conflict := u.branch("conflict", root, "conflict", map[string]string{"a": lines(20, map[int]string{15: "theirs"}), "b": "c\n"})
	u.git("checkout", "-q", "-B", "p", ours)
	u.git("merge", "-q", "--no-edit", topic)
	p := u.git("rev-parse", "HEAD")
	u.git("checkout", "-q", "-B", "q", topic)
	u.git("merge", "-q", "--no-edit", ours)
	cross := u.commit("cross", map[string]string{"a": lines(20, nil), "b": "cross\n"}) // takes both back
	u.git("checkout", "-q", "--orphan", "other")
	other := u.commit("other", map[string]string{"z": "z\n"})
	for _, name := range []string{"off", "ours", "p"} {
		u.git("branch", "-f", "keep-"+name, map[string]string{"off": off, "ours": ours, "p": p}[name])
	}

	m := open(t, Options{URL: u.serve(), Depth: -1})
	m.Follow([]string{"refs/heads/topic", "refs/heads/lies", "refs/heads/conflict", "refs/heads/q", "refs/heads/other", "refs/heads/keep-p"})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	merge := func(base, head string) (string, []string) {
		t.Helper()
		id, conflicts, err := m.Merge(t.Context(), source.ID(base), source.ID(head), source.Commit{Author: who, Committer: who, Message: "merge\n"})
		if err != nil {
			t.Fatal(err)
		}
		if id == "" {
			return "", conflicts
		}
		c, err := m.Commit(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Parents) != 2 || c.Parents[0] != source.ID(base) || c.Parents[1] != source.ID(head) {
			t.Errorf("parents %v", c.Parents)
		}
		if _, err := m.Tree(t.Context(), id); err != nil {
			t.Error(err)
		}
		return string(c.Tree), nil
	}
	for what, pair := range map[string][2]string{
		"two lines": {ours, topic}, "a change that was taken back": {off, topic}, "dates that lie": {ours, lies}, "all of it": {topic, on}, "ahead": {on, topic},
		"histories that cross": {p, cross}, "itself": {topic, topic},
	} {
		want := u.git("-c", "merge.renames=false", "merge-tree", "--write-tree", pair[0], pair[1])
		if got, conflicts := merge(pair[0], pair[1]); got != want {
			t.Errorf("%s: tree %s, want %s; conflicts %v", what, got, want, conflicts)
		}
	}
	if got, conflicts := merge(ours, conflict); got != "" || len(conflicts) != 1 || conflicts[0] != "a: lines 16 to 16 were changed on both sides" {
		t.Errorf("a conflict: %q, %q", got, conflicts)
	}
	if got, conflicts := merge(ours, other); got != "" || len(conflicts) != 1 || !strings.Contains(conflicts[0], "no commit in common") {
		t.Errorf("nothing in common: %q, %q", got, conflicts)
	}
	one, _, err := m.Merge(t.Context(), source.ID(ours), source.ID(topic), source.Commit{Author: who, Committer: who, Message: "merge\n"})
	again, _, err2 := m.Merge(t.Context(), source.ID(ours), source.ID(topic), source.Commit{Author: who, Committer: who, Message: "merge\n"})
	if err := errors.Join(err, err2); err != nil || one != again || one == "" {
		t.Errorf("the same merge has ids %s and %s, %v", one, again, err)
	}
}

// A pull request that began before the history that was fetched is merged all the same.
func TestFeature_V1_MergeBehindTheHistory(t *testing.T) {
	u := newUpstream(t)
	u.commit("root", map[string]string{"a": lines(20, nil)})
	old := u.git("rev-parse", "HEAD")
	topic := u.branch("topic", old, "topic", map[string]string{"a": lines(20, map[int]string{1: "topic"})})
	u.git("checkout", "-q", "main")
	for i := range 6 {
		u.commit(fmt.Sprint(i), map[string]string{"a": lines(20, map[int]string{18: fmt.Sprint(i)})})
	}
	base := u.git("rev-parse", "HEAD")
	u.git("update-ref", "refs/pull/7/head", topic)
	server := u.serve()
	m := open(t, Options{URL: server, Depth: 2})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	refs := len(m.Refs())
	err := m.TakeHeads(t.Context(), []source.Ref{{Name: "refs/pull/7/head", ID: source.ID(topic)}, {Name: "refs/pull/8/head", ID: source.ID(base[:39] + "0")}})
	if err == nil || !strings.Contains(err.Error(), "refs/pull/8/head is not at") {
		t.Errorf("heads: %v", err)
	}
	if !m.Has(source.ID(topic)) || len(m.Refs()) != refs {
		t.Errorf("the head is here: %v; %d refs, want %d", m.Has(source.ID(topic)), len(m.Refs()), refs)
	}
	id, conflicts, err := m.Merge(t.Context(), source.ID(base), source.ID(topic), source.Commit{Author: who, Committer: who, Message: "merge\n"})
	if err != nil || id == "" {
		t.Fatalf("merge: %q, %v", conflicts, err)
	}
	c, err := m.Commit(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if want := u.git("merge-tree", "--write-tree", base, topic); string(c.Tree) != want {
		t.Errorf("tree %s, want %s", c.Tree, want)
	}
}

// The host's own merge counts if it is one of the very two commits: it follows renamed files, where ours has a conflict.
func TestFeature_V1_HostMerge(t *testing.T) {
	u := newUpstream(t)
	root := u.commit("root", map[string]string{"a": lines(20, nil)})
	topic := u.branch("topic", root, "topic", map[string]string{"a": lines(20, map[int]string{1: "topic"})})
	u.git("checkout", "-q", "main")
	u.git("mv", "a", "b")
	base := u.commit("renamed", nil)
	u.git("merge", "-q", "--no-edit", topic)
	u.git("update-ref", "refs/pull/7/merge", "HEAD")
	u.git("reset", "-q", "--hard", base)
	u.git("update-ref", "refs/pull/8/merge", topic)
	m := open(t, Options{URL: u.serve(), Depth: -1})
	m.Follow([]string{"refs/heads/topic"})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := source.Commit{Author: who, Committer: who, Message: "merge\n"}
	if id, conflicts, err := m.Merge(t.Context(), source.ID(base), source.ID(topic), made); err != nil || id != "" {
		t.Fatalf("our merge is %s, %q, %v: nothing to ask the host for", id, conflicts, err)
	}
	id, err := m.HostMerge(t.Context(), "refs/pull/7/merge", source.ID(base), source.ID(topic), made)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Commit(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if want := u.git("rev-parse", "refs/pull/7/merge^{tree}"); string(c.Tree) != want || c.Message != made.Message || len(c.Parents) != 2 {
		t.Errorf("%+v, want the tree %s", c, want)
	}
	if again, err := m.HostMerge(t.Context(), "refs/pull/7/merge", source.ID(base), source.ID(topic), made); err != nil || again != id {
		t.Errorf("again: %s, %v", again, err)
	}
	for what, refused := range map[string][3]string{
		"of another base": {"refs/pull/7/merge", root, topic}, "of another head": {"refs/pull/7/merge", base, root},
		"no merge": {"refs/pull/8/merge", base, topic}, "none": {"refs/pull/9/merge", base, topic},
	} {
		if id, err := m.HostMerge(t.Context(), refused[0], source.ID(refused[1]), source.ID(refused[2]), made); err != nil || id != "" {
			t.Errorf("%s: %s, %v", what, id, err)
		}
	}
}

// The branches of a host are all of its branches, or an error: who lists no default branch is not believed.
func TestFault_V3_BranchesOfAnEmptyList(t *testing.T) {
	u := newUpstream(t)
	head := u.commit("root", map[string]string{"a": "a\n"})
	u.git("branch", "preview/x")
	m := open(t, Options{URL: u.serve()})
	list, err := m.Branches(t.Context())
	want := fmt.Sprintf("[{refs/heads/main %s} {refs/heads/preview/x %[1]s}]", head)
	if err != nil || fmt.Sprint(list) != want {
		t.Errorf("branches %v, %v; want %s", list, err, want)
	}
	u.git("checkout", "-q", "preview/x")
	u.git("branch", "-D", "main")
	if list, err := m.Branches(t.Context()); err == nil {
		t.Errorf("without the default branch: %v", list)
	}
}

// Random histories of two lines that merge each other now and then come to what git makes of them.
func TestFeature_V1_MergeLikeGit(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	u := newUpstream(t)
	u.commit("root", map[string]string{"a": lines(40, nil), "b": lines(40, nil)})
	u.git("branch", "topic")
	for i := range 16 {
		from, to := "main", "topic"
		if rng.IntN(2) == 0 {
			from, to = to, from
		}
		u.git("checkout", "-q", to)
		if rng.IntN(3) == 0 {
			u.git("merge", "-q", "--no-edit", from)
			continue
		}
		side := 0
		if to == "topic" {
			side = 20
		}
		file := []string{"a", "b"}[rng.IntN(2)]
		text := strings.Split(u.git("show", to+":"+file), "\n")
		text[side+rng.IntN(18)] = fmt.Sprint(to, " ", i)
		u.commit(fmt.Sprint(i), map[string]string{file: strings.Join(text, "\n") + "\n"})
	}
	ours, topic := u.git("rev-parse", "main"), u.git("rev-parse", "topic")
	m := open(t, Options{URL: u.serve(), Depth: -1})
	m.Follow([]string{"refs/heads/topic"})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, conflicts, err := m.Merge(t.Context(), source.ID(ours), source.ID(topic), source.Commit{Author: who, Committer: who, Message: "merge\n"})
	if err != nil || id == "" {
		t.Fatalf("merge: %q, %v", conflicts, err)
	}
	c, err := m.Commit(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if want := u.git("-c", "merge.renames=false", "merge-tree", "--write-tree", ours, topic); string(c.Tree) != want {
		t.Errorf("tree %s, want %s", c.Tree, want)
	}
}
