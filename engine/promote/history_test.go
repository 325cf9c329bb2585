package promote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// branch makes commits one on the other.
type branch struct {
	records []Record // newest first
	at      time.Time
}

func (b *branch) add(name string, tree, second source.ID, of source.ID, message string) source.ID {
	b.at = b.at.Add(time.Hour)
	who := source.Person{Name: "Ada", Email: "ada@example.org", When: b.at}
	c := source.Commit{ID: id(name), Tree: tree, Author: who, Committer: who, Message: message}
	if len(b.records) > 0 {
		c.Parents = append(c.Parents, b.records[0].Commit.ID)
	}
	if second != "" {
		c.Parents = append(c.Parents, second)
	}
	b.records = append([]Record{{Commit: c, Signer: "ada-key", Of: of}}, b.records...)
	return c.ID
}

func (b *branch) write(t *testing.T, a Ask) string {
	t.Helper()
	m, err := Write("production", a, "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// week is a story of an environment.
func week(t *testing.T) *branch {
	t.Helper()
	b := &branch{at: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)}
	promote := func(n int) string {
		return b.write(t, Ask{Act: Promotion, From: "staging", Source: id(fmt.Sprint("release ", n)), By: "ada", Reason: fmt.Sprint("release ", n)})
	}
	b.add("p1", id("tree 1"), id("release 1"), id("tree 1"), promote(1))
	b.add("p2", id("tree 2"), id("release 2"), id("tree 2"), promote(2))
	b.add("h1", id("hot 1"), "", "", b.write(t, Ask{Act: Hotfix, Waived: []string{"soak"}, By: "bob", Reason: "it burns"}))
	b.add("h2", id("hot 2"), id("change"), id("hot 2"), b.write(t, Ask{Act: Hotfix, By: "bob", Reason: "still"}))
	b.add("p3", id("tree 3"), id("release 3"), id("tree 3"), promote(3))
	b.add("r1", id("hot 2"), "", "", b.write(t, Ask{Act: Rollback, Source: id("h2"), By: "eve", Reason: "slow", PinUntil: b.at.Add(48 * time.Hour).UnixMilli()}))
	b.add("x1", id("by hand"), "", "", "a change by hand\n")
	b.add("x2", id("tree 9"), id("release 4"), id("tree 4"), promote(4))
	b.add("x3", id("tree 9"), id("something else"), "", promote(5))
	b.add("x4", id("tree 9"), "", "", b.write(t, Ask{Act: Rollback, Source: id("p1")}))
	b.add("x5", id("tree 10"), "", "", b.write(t, Ask{Act: Unpin, By: "eve"}))
	b.add("x6", id("tree 10"), "", "", "two\n\nShoal-Hotfix: soak a\nShoal-Hotfix: soak b\n")
	b.add("x7", id("tree 10"), "", "", "hidden \x1b[31m\n\nShoal-Hotfix: soak a\n\nReviewed-by: ada\n")
	return b
}

func TestFeature_P7_History(t *testing.T) {
	golden(t, "history", func(t *testing.T, _ map[string]string) string {
		b := week(t)
		events := History(b.records)
		var out strings.Builder
		name := map[source.ID]string{}
		for n := range strings.FieldsSeq("p1 p2 p3 h1 h2 r1 x1 x2 x3 x4 x5 x6 x7") {
			name[id(n)] = n
		}
		for _, e := range slices.Backward(events) {
			fmt.Fprintf(&out, "%s: %s\n", name[e.Commit], e)
		}
		now := b.at.UnixMilli()
		fmt.Fprintf(&out, "pin %+v\nundone %+v\n", PinnedBy(events, now), UndoneBy(events))
		for _, d := range Owed(events, func(source.ID) bool { return false }) {
			fmt.Fprintf(&out, "owed %s by %s: %s\n", name[d.Commit], d.By, d.Reason)
		}
		return out.String()
	})
}

// TestFault_P5_Owed: a hotfix is owed until its commit, or the change it took in, is where promotions come from; and not
// once it was rolled back.
func TestFault_P5_Owed(t *testing.T) {
	events := History(week(t).records)
	owed := func(events []Event, paid ...string) string {
		var out []string
		for _, d := range Owed(events, func(c source.ID) bool {
			for _, p := range paid {
				if c == id(p) {
					return true
				}
			}
			return false
		}) {
			out = append(out, d.Reason)
		}
		return strings.Join(out, ", ")
	}
	for _, c := range []struct{ paid, want string }{
		{"", "still, it burns"}, {"h1", "still"}, {"change", "it burns"}, {"h2", "it burns"}, {"h1 change", ""},
	} {
		if got := owed(events, strings.Split(c.paid, " ")...); got != c.want {
			t.Errorf("%s: %s, want %s", c.paid, got, c.want)
		}
	}
	if got := owed(events, "h1", "change"); got != "" {
		t.Error(got)
	}
	b := week(t)
	b.add("r2", id("tree 2"), "", "", b.write(t, Ask{Act: Rollback, Source: id("p2")}))
	if got := owed(History(b.records)); got != "" {
		t.Errorf("rolled back: %s", got)
	}
	if got := MergedBack("x\n\n(cherry picked from commit " + string(id("a")) + ")\nnot (cherry picked from commit x)\n\nShoal-Merged-Back: " + string(id("b")) + "\nshoal-merged-back: nothing\n"); !reflect.DeepEqual(got, []source.ID{id("a"), id("b")}) {
		t.Error(got)
	}
}

func TestPins(t *testing.T) {
	events := History(week(t).records)
	at := func(i int) *Pinned { // by the history up to the i-th commit
		return PinnedBy(events[len(events)-i:], events[len(events)-i].When)
	}
	if p := at(5); p != nil {
		t.Errorf("before: %+v", p)
	}
	if p := at(6); p == nil || p.By != "eve" || p.Reason != "slow" || p.Commit != id("r1") {
		t.Errorf("after: %+v", p)
	}
	if p := PinnedBy(events[len(events)-6:], at(6).Until); p != nil {
		t.Errorf("its time is over: %+v", p)
	}
}

// TestFeature_P7_Git reads the history out of a real repository.
func TestFeature_P7_Git(t *testing.T) {
	dir := t.TempDir()
	git := func(stdin string, args ...string) string {
		t.Helper()
		c := exec.Command("git", args...)
		c.Dir, c.Stdin = dir, strings.NewReader(stdin)
		c.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+dir)
		var errs bytes.Buffer
		c.Stderr = &errs
		out, err := c.Output()
		if err != nil {
			t.Fatal(args, err, errs.String())
		}
		return strings.TrimSpace(string(out))
	}
	git("", "init", "-q", "--bare", ".")
	tree := func(text string) source.ID {
		blob := git(text, "hash-object", "-w", "--stdin")
		return source.ID(git("100644 blob "+blob+"\tf\n", "mktree"))
	}
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	put := func(c source.Commit) source.Commit {
		raw := source.EncodeCommit(c)
		c.ID = source.ID(git(string(raw), "hash-object", "-w", "-t", "commit", "--stdin"))
		if c.ID != source.ObjectID("commit", raw) {
			t.Fatal("git gives it another id")
		}
		return c
	}
	who := func() source.Person {
		at = at.Add(time.Hour)
		return source.Person{Name: "shoal", Email: "ring@shoal.local", When: at}
	}
	plain := func(text string, parents ...source.ID) source.Commit {
		w := who()
		return put(source.Commit{Tree: tree(text), Parents: parents, Author: w, Committer: w, Message: text + "\n"})
	}
	ask := func(a Ask, tip, of source.Commit) source.Commit {
		c, err := Make("production", a, "", tip, of, who())
		if err != nil {
			t.Fatal(err)
		}
		return put(c)
	}
	one := plain("one")
	two := plain("two", one.ID)
	p1 := ask(Ask{Act: Promotion, From: "dev", Source: one.ID, By: "ada", Reason: "first"}, source.Commit{}, one)
	p2 := ask(Ask{Act: Promotion, From: "dev", Source: two.ID, By: "ada", Reason: "second"}, p1, two)
	r := ask(Ask{Act: Rollback, Source: p1.ID, By: "eve", Reason: "slow"}, p2, p1)
	fix := plain("fixed", p1.ID)
	h := ask(Ask{Act: Hotfix, Waived: []string{"soak"}, By: "bob", Reason: "burns"}, r, fix)
	git("", "update-ref", "refs/heads/env/production", string(h.ID))
	git("", "fsck", "--strict")

	var records []Record
	for line := range strings.SplitSeq(git("", "rev-list", "--first-parent", "env/production"), "\n") {
		raw := git("", "cat-file", "commit", line) + "\n"
		c, err := source.ParseCommit(source.ID(line), []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, Record{Commit: c})
	}
	var got []string
	for _, e := range History(records) {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s by %s: %s %s", e.Act, e.By, e.Reason, e.Flaw)))
	}
	want := []string{"hotfix by bob: burns", "rollback by eve: slow", "promotion by ada: second", "promotion by ada: first", "plain by shoal:"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if diff := git("", "diff", string(p1.ID), string(r.ID)); diff != "" {
		t.Error("a rollback has another tree")
	}
	if u := UndoneBy(History(records)); len(u) != 1 || u[0].Source != two.ID {
		t.Errorf("%+v", u)
	}
}

// FuzzHistory: no commit makes it panic or leave the order, and what is said fits on lines.
func FuzzHistory(f *testing.F) {
	f.Add("subject\n\nShoal-Hotfix: soak it burns\n", "Ada", "x")
	f.Add("subject\n\nShoal-Rolled-Back-To: "+string(id("a"))+"\n", "\x1b[31m", "")
	f.Fuzz(func(t *testing.T, message, name, signer string) {
		records := []Record{
			{Commit: source.Commit{ID: id("b"), Tree: id("t"), Parents: []source.ID{id("a")}, Author: source.Person{Name: name}, Message: message}, Signer: signer},
			{Commit: source.Commit{ID: id("a"), Tree: id("t"), Author: source.Person{Email: name}, Message: message + message}},
		}
		events := History(records)
		if len(events) != 2 || events[0].Commit != id("b") {
			t.Fatal(events)
		}
		if s := events[0].String(); signer == "" && strings.ContainsAny(s, "\n\x1b") {
			t.Fatalf("%q", s)
		}
		PinnedBy(events, 0)
		UndoneBy(events)
		Owed(events, func(source.ID) bool { return false })
		if _, err := json.Marshal(events); err != nil {
			t.Fatal(err)
		}
	})
}
