package preview

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

const (
	minute = int64(60_000)
	hour   = 60 * minute
	day    = 24 * hour
	now    = 1_800_000_000_000
)

// commit is the id that stands for a word.
func commit(word string) source.ID { return source.ObjectID("blob", []byte(word)) }

// pull is an open pull request that is merged, opened n minutes after the first.
func pull(n int, author string) Pull {
	head := commit(fmt.Sprint("head ", n))
	return Pull{
		Number: n, Branch: fmt.Sprint("topic-", n), Author: author, Base: "main", Head: head, Opened: now - day + int64(n)*minute, Updated: now - hour,
		Merge: Merged{Head: head, Base: commit("main"), Commit: commit(fmt.Sprint("merge ", n))},
	}
}

func with(p Pull, change func(*Pull)) Pull {
	change(&p)
	return p
}

// having is the previews of a result, some time later.
func having(r Result) []Have {
	var out []Have
	for _, e := range r.Environments {
		out = append(out, Have{Environment: e})
	}
	return out
}

// say prints a result, a line a preview.
func say(r Result) string {
	var b strings.Builder
	for _, e := range r.Environments {
		fmt.Fprintf(&b, "%s %s of %s", e.Name, e.Commit.Short(), e.Author)
		if e.Expires != 0 {
			fmt.Fprintf(&b, ", %s left", time.Duration(e.Expires-now)*time.Millisecond)
		}
		for word, is := range map[string]bool{"sandboxed": e.Sandbox == sandboxed} {
			if is {
				b.WriteString(", " + word)
			}
		}
		if e.Pinned {
			b.WriteString(", pinned")
		}
		if e.Asleep {
			b.WriteString(", asleep")
		}
		if e.Note != "" {
			b.WriteString(": " + e.Note)
		}
		b.WriteString("\n")
	}
	for _, w := range r.Waiting {
		fmt.Fprintf(&b, "no %s: %s\n", w.Name, w.Why)
	}
	for _, g := range r.Gone {
		fmt.Fprintf(&b, "gone %s: %s\n", g.Name, g.Why)
	}
	if r.Next != 0 {
		fmt.Fprintf(&b, "next in %s\n", time.Duration(r.Next-now)*time.Millisecond)
	}
	return strings.NewReplacer(commit("merge 1").Short(), "merge1", commit("merge 2").Short(), "merge2", commit("merge 3").Short(), "merge3", commit("merge 4").Short(), "merge4", commit("old").Short(), "old", commit("head 1").Short(), "head1").Replace(b.String())
}

func TestFeature_V1_Wanted(t *testing.T) {
	policy := Policy{From: FromPulls, Base: "main", TTL: 72 * time.Hour, Quota: 3, PerAuthor: 2, Idle: 30 * time.Minute, Pin: "keep", Forks: Forks{Approval: "preview"}}
	have := func(p Pull, since int64, c source.ID) Have {
		return Have{Environment: Environment{Name: Name(p), Number: p.Number, Branch: p.Branch, Author: p.Author, Head: p.Head, Commit: c, Since: since, Changed: since}}
	}
	ada1, bob2, ada3, ada4 := pull(1, "ada"), pull(2, "bob"), pull(3, "ada"), pull(4, "ada")
	for _, c := range []struct {
		name string
		in   Input
		want string
	}{
		{"nobody", Input{Complete: true}, ""},
		{
			"two",
			Input{Pulls: []Pull{bob2, ada1}, Complete: true},
			"pr-1 merge1 of ada, 71h0m0s left\npr-2 merge2 of bob, 71h0m0s left\nnext in 30m0s\n",
		},
		{
			"quota of an author, and in all: bob's first comes before ada's second",
			Input{Pulls: []Pull{ada1, ada3, ada4, bob2, with(pull(5, "eve"), func(p *Pull) { p.Opened = now })}, Complete: true},
			"pr-1 merge1 of ada, 71h0m0s left\npr-2 merge2 of bob, 71h0m0s left\npr-5 " + commit("merge 5").Short() + " of eve, 71h0m0s left\n" +
				"no pr-3: all 3 previews are taken; it is number 1 in the queue\nno pr-4: all 3 previews are taken; it is number 2 in the queue\nnext in 30m0s\n",
		},
		{
			"who has one keeps it, and nobody has more than he may",
			Input{Pulls: []Pull{ada1, ada3, ada4, bob2}, Complete: true, Have: []Have{have(ada3, now-hour, commit("merge 3")), have(ada4, now-2*hour, commit("merge 4"))}},
			"pr-2 merge2 of bob, 71h0m0s left\npr-3 merge3 of ada, 71h0m0s left, asleep\npr-4 merge4 of ada, 71h0m0s left, asleep\n" +
				"no pr-1: ada has 2 previews, and may have no more\nnext in 30m0s\n",
		},
		{
			"too old, and too old but pinned",
			Input{Pulls: []Pull{with(ada1, func(p *Pull) { p.Updated = now - 3*day }), with(bob2, func(p *Pull) { p.Updated, p.Labels = now-30*day, []string{"keep"} })}, Complete: true, Have: []Have{have(ada1, now-4*day, commit("merge 1"))}},
			"pr-2 merge2 of bob, pinned\nno pr-1: its head was not updated for 72h0m0s\ngone pr-1: its head was not updated for 72h0m0s\nnext in 30m0s\n",
		},
		{
			"a conflict keeps what was shown",
			Input{
				Pulls: []Pull{with(ada1, func(p *Pull) {
					p.Merge.Commit, p.Merge.Conflicts = "", []string{"apps/web/web.cue", "b c", "d", "e"}
				}), with(bob2, func(p *Pull) {
					p.Merge.Commit, p.Merge.Conflicts = "", []string{"apps/web/web.cue"}
				})}, Complete: true, Have: []Have{have(ada1, now-minute, commit("old"))},
			},
			"pr-1 old of ada, 71h0m0s left: it conflicts with main in apps/web/web.cue, \"b c\", d and 1 more\nno pr-2: it conflicts with main in apps/web/web.cue\nnext in 29m0s\n",
		},
		{
			"a merge that is not made yet",
			Input{Pulls: []Pull{with(ada1, func(p *Pull) { p.Head = commit("newer") }), with(bob2, func(p *Pull) { p.Merge = Merged{} })}, Complete: true, Have: []Have{have(ada1, now-minute, commit("old"))}},
			"pr-1 old of ada, 71h0m0s left: its merge with main is not made yet\nno pr-2: its merge with main is not made yet\nnext in 29m0s\n",
		},
		{
			"drafts, other bases, closed ones",
			Input{Pulls: []Pull{with(ada1, func(p *Pull) { p.Draft = true }), with(bob2, func(p *Pull) { p.Base = "release" })}, Complete: true, Have: []Have{have(ada3, now, commit("merge 3"))}},
			"no pr-1: it is a draft\nno pr-2: it goes to release, and previews are of what goes to main\ngone pr-3: it is not open any more\n",
		},
		{
			"half a list closes nothing",
			Input{Pulls: []Pull{with(ada1, func(p *Pull) { p.Draft = true })}, Have: []Have{have(ada1, now, commit("merge 1")), have(ada3, now, commit("merge 3"))}},
			"pr-1 merge1 of ada: the list of pull requests is not complete, so nothing is taken away; else: it is a draft\n" +
				"pr-3 merge3 of ada: the list of pull requests is not complete, so nothing is taken away\nnext in 30m0s\n",
		},
		{
			"forks",
			Input{Pulls: []Pull{
				with(ada1, func(p *Pull) { p.Fork = true }),
				with(bob2, func(p *Pull) { p.Fork, p.Approved = true, commit("head 1") }),
				with(ada3, func(p *Pull) { p.Fork, p.Approved = true, p.Head }),
			}, Complete: true},
			"pr-3 merge3 of ada, 71h0m0s left, sandboxed\nno pr-1: it comes from a fork; a maintainer approves commit head1 by the label \"preview\"\n" +
				"no pr-2: it comes from a fork; a maintainer approves commit " + commit("head 2").Short() + " by the label \"preview\"\nnext in 30m0s\n",
		},
		{
			"one name twice, and a name that is taken",
			Input{Pulls: []Pull{ada1, with(ada1, func(p *Pull) { p.Updated, p.Author = now, "eve" }), bob2}, Complete: true, Taken: []string{"pr-2"}},
			"pr-1 merge1 of eve, 72h0m0s left\nno pr-2: an environment is called pr-2\nnext in 30m0s\n",
		},
	} {
		c.in.Policy = policy
		got := Wanted(c.in, now)
		if s := say(got); s != c.want {
			t.Errorf("%s:\n%swant\n%s", c.name, s, c.want)
		}
		// Nothing changes before Next says so.
		if c.in.Complete {
			before := got
			c.in.Have = having(got)
			again := Wanted(c.in, now)
			if !reflect.DeepEqual(names(before), names(again)) || len(again.Gone) != 0 {
				t.Errorf("%s: again:\n%s", c.name, say(again))
			}
		}
	}
}

func names(r Result) (out []string) {
	for _, e := range r.Environments {
		out = append(out, e.Name+" "+string(e.Commit))
	}
	return out
}

// TestFault_P1_Approval: a fork gets a preview of the approved commit, and no other; a push takes it away.
func TestFault_P1_Approval(t *testing.T) {
	p := with(pull(1, "mallory"), func(p *Pull) { p.Fork, p.Approved = true, p.Head })
	in := Input{Policy: Policy{From: FromPulls, Quota: 5, Forks: Forks{Approval: "ok"}}, Pulls: []Pull{p}, Complete: true}
	r := Wanted(in, now)
	if len(r.Environments) != 1 || r.Environments[0].Sandbox != sandboxed {
		t.Fatalf("%+v", r)
	}
	in.Have = having(r)
	in.Pulls[0].Head = commit("evil")
	in.Pulls[0].Merge = Merged{Head: commit("evil"), Commit: commit("evil merge")}
	if r := Wanted(in, now); len(r.Environments) != 0 || len(r.Gone) != 1 {
		t.Errorf("after a push: %+v", r)
	}
	in.Policy.Forks.Approval = ""
	in.Pulls[0].Approved = commit("evil")
	if r := Wanted(in, now); len(r.Environments) != 0 {
		t.Errorf("forks get none: %+v", r)
	}
	in.Pulls[0].Approved, in.Pulls[0].Head = "", ""
	in.Policy.Forks.Approval = "ok"
	if r := Wanted(in, now); len(r.Environments) != 0 {
		t.Errorf("no head: %+v", r)
	}
}

// TestFeature_V5_RulesOfPreviews: what a preview may ask for is what the base says now; its nodes are those of when its commit was made, or who
// renders it later would come to something else than what runs.
func TestFeature_V5_RulesOfPreviews(t *testing.T) {
	in := Input{Policy: Policy{From: FromPulls, Quota: 5, Nodes: map[string]string{"pool": "a"}, Each: map[string]string{"pods": "1"}}, Pulls: []Pull{pull(1, "ada")}, Complete: true}
	rules := func(want string) {
		t.Helper()
		r := Wanted(in, now)
		if got := fmt.Sprint(r.Environments[0].Nodes, r.Environments[0].Each); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		in.Have = having(r)
	}
	rules("map[pool:a] map[pods:1]")
	in.Policy.Nodes, in.Policy.Each = map[string]string{"pool": "b"}, map[string]string{"pods": "2"}
	rules("map[pool:a] map[pods:2]")
	in.Pulls[0].Merge.Commit = commit("merged anew")
	rules("map[pool:b] map[pods:2]")
	in.Policy.Nodes, in.Policy.Each = nil, nil
	in.Pulls[0].Head, in.Pulls[0].Merge = commit("pushed"), Merged{Head: commit("pushed"), Conflicts: []string{"a"}}
	rules("map[pool:b] map[]") // it goes on with what it showed
}

func TestRulesAreChecked(t *testing.T) {
	p := Policy{From: FromPulls, Nodes: map[string]string{"a/b/c": ""}, Each: map[string]string{"pods": "1.5", "requests.cpu": "x", "gpus": "1"}}
	got := strings.Join(p.Check(), "\n")
	for _, want := range []string{
		`previews.nodes."a/b/c": is no key of a label`, "previews.each.pods: 1.5 is no whole number", `previews.each."requests.cpu": "x" is no quantity`, "previews.each.gpus: no quota is kept of it",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
}

// TestFault_P4_Names: whatever a branch is called, its preview's name is a label that no other branch has.
func TestFault_P4_Names(t *testing.T) {
	seen := map[string]string{}
	for _, branch := range []string{
		"../../x", "..", "x", "X", "a/b", "a-b", "a.b", "", "pr-12", "production", strings.Repeat("x", 5000), strings.Repeat("x", 5001), "\x00", "ünïcödé/ß",
		"$(rm -rf /)", "-", "--", "a\nb", "@everyone", "<script>", "refs/heads/x",
	} {
		name := Name(Pull{Branch: branch})
		if other, taken := seen[name]; taken {
			t.Errorf("%q and %q are both %s", branch, other, name)
		}
		seen[name] = branch
		if !isLabel(name) || !strings.HasPrefix(name, "br-") {
			t.Errorf("%q: %q", branch, name)
		}
	}
	if n := Name(Pull{Branch: "../../x"}); !strings.HasPrefix(n, "br-x-") {
		t.Error(n)
	}
	if n := Name(Pull{Branch: "../../x", Number: 12}); n != "pr-12" {
		t.Error(n)
	}
}

func isLabel(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && s[0] != '-' && s[len(s)-1] != '-'
}

func TestBranches(t *testing.T) {
	branch := func(name string) Pull { return with(pull(0, "ada"), func(p *Pull) { p.Branch, p.Base = name, "" }) }
	in := Input{Policy: Policy{From: "feature/**", Base: "main", Quota: 10}, Complete: true, Refs: []string{"refs/heads/feature/env"}}
	for _, b := range []string{"feature/a", "feature/a/b", "feature", "other/a", "main", "feature/env"} {
		in.Pulls = append(in.Pulls, branch(b))
	}
	in.Pulls = append(in.Pulls, pull(3, "ada"))
	r := Wanted(in, now)
	var got []string
	for _, e := range r.Environments {
		got = append(got, e.Branch)
	}
	if want := []string{"feature/a/b", "feature/a"}; !slices.Equal(got, want) && !slices.Equal(got, []string{want[1], want[0]}) {
		t.Errorf("%q\n%s", got, say(r))
	}
	for _, c := range []struct {
		pattern, branch string
		want            bool
	}{
		{"preview/*", "preview/a", true},
		{"preview/*", "preview/a/b", false},
		{"preview/**", "preview/a/b", true},
		{"preview/**", "preview", false},
		{"*", "a", true},
		{"*", "a/b", false},
		{"[", "a", false},
		{"*/**", "a/b/c", true},
	} {
		if got := matches(c.pattern, c.branch); got != c.want {
			t.Errorf("%s %s: %v", c.pattern, c.branch, got)
		}
	}
}

func TestPolicyCheck(t *testing.T) {
	for _, c := range []struct {
		p    Policy
		want string
	}{
		{Policy{From: FromPulls, Base: "main", Quota: 5}, ""},
		{Policy{From: "preview/*"}, ""},
		{Policy{}, "previews.from: expected pulls, or a pattern of branches like preview/* or feature/**"},
		{Policy{From: "a/**/b"}, "previews.from: expected pulls, or a pattern of branches like preview/* or feature/**"},
		{Policy{From: "[", Base: "a..b", TTL: -1, Idle: -1, Quota: 501, PerAuthor: -1}, `previews.from: expected pulls, or a pattern of branches like preview/* or feature/**
previews.base: expected a branch like main
previews.ttl: expected a duration like 72h
previews.idle: expected a duration like 30m
previews.quota: expected 0 to 500
previews.perAuthor: expected 0 to 500`},
	} {
		if got := strings.Join(c.p.Check(), "\n"); got != c.want {
			t.Errorf("%+v:\n%s", c.p, got)
		}
	}
}

// TestFault_P4_500 opens, pushes, closes and reopens 500 pull requests at random, with lists that are not complete, and
// compares with what the rules say at each step; in the end nothing is left.
func TestFault_P4_500(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	policy := Policy{From: FromPulls, Base: "main", TTL: 48 * time.Hour, Quota: 40, PerAuthor: 6, Idle: time.Hour, Pin: "keep", Forks: Forks{Approval: "ok"}}
	open := map[int]Pull{}
	var have []Have
	at := int64(now)
	for step := range 600 {
		at += rng.Int64N(20 * minute)
		for range 3 {
			n := 1 + rng.IntN(500)
			p, there := open[n]
			switch {
			case !there:
				p = pull(n, fmt.Sprint("user", rng.IntN(30)))
				p.Opened, p.Updated, p.Fork, p.Draft = at, at, rng.IntN(5) == 0, rng.IntN(9) == 0
				open[n] = p
			case rng.IntN(3) == 0:
				delete(open, n)
			default:
				p.Head, p.Updated = commit(fmt.Sprint(n, " ", step)), at
				p.Merge = Merged{Head: p.Head, Commit: commit(fmt.Sprint("m", n, " ", step))}
				if rng.IntN(2) == 0 {
					p.Approved = p.Head
				}
				if rng.IntN(5) == 0 {
					p.Merge = Merged{Head: p.Head, Conflicts: []string{"x"}}
				}
				open[n] = p
			}
		}
		in := Input{Policy: policy, Have: have, Complete: rng.IntN(4) != 0}
		for _, p := range open {
			if in.Complete || rng.IntN(2) == 0 {
				in.Pulls = append(in.Pulls, p)
			}
		}
		r := Wanted(in, at)
		rng.Shuffle(len(in.Pulls), func(i, j int) { in.Pulls[i], in.Pulls[j] = in.Pulls[j], in.Pulls[i] })
		rng.Shuffle(len(in.Have), func(i, j int) { in.Have[i], in.Have[j] = in.Have[j], in.Have[i] })
		if again := Wanted(in, at); !reflect.DeepEqual(r, again) {
			t.Fatalf("step %d: another order, another result", step)
		}
		now := map[string]Environment{}
		perAuthor := map[string]int{}
		for _, e := range r.Environments {
			now[e.Name] = e
			perAuthor[e.Author]++
			if p, ok := open[e.Number]; in.Complete && (!ok || p.Draft || p.Fork && (p.Approved != p.Head || e.Sandbox != sandboxed) || p.Updated+policy.TTL.Milliseconds() <= at) {
				t.Fatalf("step %d: %+v of %+v", step, e, p)
			}
		}
		for a, n := range perAuthor {
			if in.Complete && n > policy.PerAuthor {
				t.Fatalf("step %d: %s has %d", step, a, n)
			}
		}
		if in.Complete && len(now) > policy.Quota {
			t.Fatalf("step %d: %d previews", step, len(now))
		}
		gone := map[string]bool{}
		for _, g := range r.Gone {
			gone[g.Name] = true
		}
		for _, h := range have {
			_, stays := now[h.Name]
			if stays == gone[h.Name] {
				t.Fatalf("step %d: %s stays %v, gone %v", step, h.Name, stays, gone[h.Name])
			}
			if !stays && !in.Complete {
				t.Fatalf("step %d: %s was taken away by half a list", step, h.Name)
			}
			if stays && now[h.Name].Since != h.Since {
				t.Fatalf("step %d: %s lost its place", step, h.Name)
			}
		}
		have = having(r)
	}
	r := Wanted(Input{Policy: policy, Have: have, Complete: true}, at)
	if len(r.Environments) != 0 || len(r.Gone) != len(have) || r.Next != 0 {
		t.Errorf("%d left, %d gone of %d", len(r.Environments), len(r.Gone), len(have))
	}
}

// TestFault_P4_TooMany: a list that is longer than what is looked at closes nothing, and does not take long.
func TestFault_P4_TooMany(t *testing.T) {
	in := Input{Policy: Policy{From: FromPulls, Quota: 100}, Complete: true}
	for i := range MaxPulls + 5 {
		in.Pulls = append(in.Pulls, pull(i+1, fmt.Sprint("user", i)))
	}
	last := in.Pulls[MaxPulls+4]
	in.Have = []Have{{Environment: Environment{Name: Name(last), Number: last.Number, Author: last.Author, Head: last.Head, Commit: last.Merge.Commit, Since: now}}}
	r := Wanted(in, now)
	if len(r.Gone) != 0 || len(r.Environments) != 100 || len(r.Waiting) != MaxPulls-99 || r.Environments[99].Number != last.Number {
		t.Errorf("%d previews, %d wait, gone: %+v", len(r.Environments), len(r.Waiting), r.Gone)
	}
}

func TestFeature_V3_Receipt(t *testing.T) {
	g := Gone{Name: "pr-12", Number: 12, Why: "it is not open any more"}
	things := []Thing{
		{"pod", "web-2", "n2", "pr-12"},
		{"volume", "data", "n1", "pr-12"},
		{"pod", "web-1", "n1", "pr-12"},
		{"pod", "web-1", "n1", "pr-1"},
		{"address", "10.42.0.9", "n1", "pr-12"},
		{"pod", "web-1", "n1", "pr-12"},
	}
	for _, c := range []struct {
		found  []Thing
		unseen []string
		want   string
	}{
		{things, nil, "pr-12 is not gone yet (it is not open any more): 2 pods, 1 address, 1 volume"},
		{nil, []string{"n3", "n2"}, "pr-12 is not gone yet (it is not open any more); not heard of: n2, n3"},
		{things[3:4], nil, "pr-12 is gone (it is not open any more): 0 objects, 0 pods, 0 cgroups, 0 netns, 0 links, 0 rules, 0 names, 0 refs"},
	} {
		r := g.Receipt(c.found, c.unseen)
		if got := r.String(); got != c.want || r.Clean != strings.Contains(c.want, "is gone") {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// FuzzWanted: no list of strangers' words makes it panic, go over its quota, or name something that is no label.
func FuzzWanted(f *testing.F) {
	f.Add("feature/**", "feature/../../x", "eve", 3, int64(now), uint8(7), 2)
	f.Add("pulls", "x", "", -1, int64(-1), uint8(255), 0)
	f.Fuzz(func(t *testing.T, from, branch, author string, number int, updated int64, bits uint8, quota int) {
		p := Pull{
			Number: number, Branch: branch, Author: author, Base: branch, Head: commit(branch), Updated: updated, Opened: updated,
			Fork: bits&1 != 0, Draft: bits&2 != 0, Labels: []string{author}, Merge: Merged{Head: commit(branch), Commit: commit(author)},
		}
		if bits&4 != 0 {
			p.Approved = p.Head
		}
		if bits&8 != 0 {
			p.Merge = Merged{Head: p.Head, Conflicts: []string{branch, author, from, "x"}}
		}
		q := p
		q.Number, q.Branch = number+1, branch+"'"
		in := Input{Policy: Policy{From: from, TTL: time.Hour, Quota: quota, Idle: time.Hour, Pin: author, Forks: Forks{Approval: from}}, Pulls: []Pull{p, q, p}, Complete: bits&16 != 0}
		r := Wanted(in, now)
		if len(r.Environments) > max(0, quota) || len(r.Environments)+len(r.Waiting) != 2 {
			t.Fatalf("%+v", r)
		}
		for _, e := range r.Environments {
			if !isLabel(e.Name) {
				t.Fatalf("%q", e.Name)
			}
		}
		for _, w := range r.Waiting {
			if strings.ContainsAny(w.Why, "\n\x1b\x00") || len(w.Why) > 2000 {
				t.Fatalf("%q", w.Why)
			}
		}
		in.Have = having(r)
		if again := Wanted(in, now); len(again.Gone) != 0 || !slices.Equal(names(again), names(r)) {
			t.Fatalf("%+v\n%+v", r, again)
		}
	})
}
