package trust

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

const required = "require: true\n"

// TestFault_G16 judges ranges. A line of a history is "name signer parents paths"; "| names" after it are the keys that the commit leaves,
// with ! before them for trust.yaml that no longer requires signatures.
func TestFault_G16(t *testing.T) {
	for _, c := range []struct {
		name    string
		active  string // names in the active tree's keys/
		old     string // those at the ancestor "old" of last, if not the same
		history string
		want    string
	}{
		{"nothing new", "ada", "", ``, "trusted: 0 commits"},
		{"signed", "ada bob", "", `
			a ada last
			b bob a`, "trusted: 2 commits"},
		{"unsigned tip", "ada", "", `
			a ada last
			b - a`, "b: unsigned: is not signed"},
		{"unsigned below a signed tip", "ada", "", `
			a - last
			b ada a`, "a: unsigned: is not signed"},
		{"unknown key", "ada", "", `
			a eve last`, "a: unknown key: signed by key <eve>, which is not in keys/"},
		{"unsigned on a merged line", "ada", "", `
			a ada last
			x - last
			m ada a,x`, "x: unsigned: is not signed"},
		{"a parent left out", "ada", "", `
			m ada last,x`, "m: incomplete range: its parent x was not looked at"},
		{"an old line merged", "ada", "", `
			x ada old
			m ada last,x`, "trusted: 2 commits"},
		{"a key that brings itself", "ada", "", `
			a new last | ada new`, "a: unknown key: key <new> of new is not in keys/ before this commit"},
		{"a key that a trusted commit brings", "ada", "", `
			a ada last | ada new
			b new a
			c new b`, "trusted: 3 commits"},
		{"a key that an untrusted commit brings", "ada", "", `
			a eve last | ada eve
			b eve a`, "a: unknown key: key <eve> of eve is not in keys/ before this commit"},
		{"a key that comes later", "ada", "", `
			a new last
			b ada a | ada new`, "a: unknown key: key <new> of new is not in keys/ before this commit"},
		{"a key that comes on another line", "ada", "", `
			a new last
			b ada last | ada new
			m ada b,a`, "a: unknown key: key <new> of new is not in keys/ before this commit"},
		{"a merge brings the key", "ada", "", `
			b ada last | ada new
			x ada last
			m ada x,b | ada new
			n new m`, "trusted: 4 commits"},
		{"revoked within the range", "ada eve", "", `
			a ada last | ada
			b eve a`, "b: revoked key: key <eve> of eve was removed from keys/ by commit a"},
		{"signed before it was revoked", "ada eve", "", `
			a eve last
			b ada a | ada
			c ada b`, "trusted: 3 commits"},
		{"revoked on another line, merged later", "ada eve", "", `
			x eve last
			a ada last | ada
			m ada a,x`, "x: revoked key: key <eve> of eve was removed from keys/ by commit a"},
		{"revoked by the active tree, signed on an old line", "ada", "ada eve", `
			x eve old
			m ada last,x`, "x: revoked key: key <eve> of eve is no longer in keys/"},
		{"brought back by a trusted commit on an old line", "ada", "ada eve", `
			x ada old | ada eve bob
			y eve x
			m ada last,y`, "y: revoked key: key <eve> of eve is no longer in keys/"},
		{"brought back by a merge that takes the old keys", "ada eve", "", `
			a ada last | ada
			x ada last
			m ada a,x | ada eve
			n eve m`, "n: revoked key: key <eve> of eve was removed from keys/ by commit a"},
		{"revoked and given again", "ada eve", "", `
			a ada last | ada
			b ada a | ada eve
			c eve b`, "trusted: 3 commits"},
		{"who removes a key may not be unsigned", "ada bob", "", `
			a - last | ada
			b bob last
			m ada b,a`, "a: unsigned: is not signed"},
		{"its own key removed", "ada eve", "", `
			a eve last | ada
			b ada a`, "trusted: 2 commits"},
		{"added since the branch was made", "ada new", "ada", `
			x new old
			m ada last,x`, "trusted: 2 commits"},
		{"no longer required counts once it is active", "ada", "", `
			a ada last | ! ada
			b - a`, "b: unsigned: is not signed"},
		{"required from within the range", "! ada", "", `
			a - last
			b - a | ada
			c - b`, "c: unsigned: is not signed"},
		{"required on another line", "! ada", "", `
			x - last
			b ada last | ada
			m ada b,x`, "x: unsigned: is not signed"},
		{"not required", "! ada", "", `
			a - last
			b eve a
			c ada b`, "trusted: 3 commits"},
		{"all keys taken away, then nobody", "ada", "", `
			a ada last | !
			b - a`, "b: unsigned: is not signed"},
		{"another root merged", "ada", "", `
			r ada -
			m ada last,r`, "trusted: 2 commits"},
		{"given again on another line", "ada eve", "", `
			a ada last | ada
			x eve a
			b ada a | ada eve
			m ada b,x`, "x: revoked key: key <eve> of eve was removed from keys/ by commit a"},
		{"given, then taken away on another line", "ada", "", `
			a ada last | ada eve
			x eve a
			b ada a | ada
			m ada b,x`, "x: revoked key: key <eve> of eve was removed from keys/ by commit b"},
		{"another root without keys", "ada", "", `
			r ada - - | !
			m ada last,r`, "trusted: 2 commits"},
		{"another root with keys of its own", "ada", "", `
			r eve - - | ada eve
			m ada last,r`, "r: unknown key: key <eve> of eve is not in keys/ before this commit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory(t)
			r := Range{Environment: "dev", Active: namedKeys(t, c.active), Now: noon}
			old := r.Active
			if c.old != "" {
				old = namedKeys(t, c.old)
			}
			h.ids["last"], h.ids["old"] = source.ObjectID("commit", []byte("last")), source.ObjectID("commit", []byte("old"))
			r.Last, r.Known = h.ids["last"], map[source.ID]*Keys{h.ids["old"]: old}
			for line := range strings.Lines(c.history) {
				spec, keys, changed := strings.Cut(strings.TrimSpace(line), "|")
				if spec == "" {
					continue
				}
				var k *Keys
				if changed {
					k = namedKeys(t, keys)
				}
				h.add(spec, k)
				r.Commits = append(r.Commits, h.all[strings.Fields(spec)[0]])
			}
			if got := verdict(h, Judge(r)); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func namedKeys(t *testing.T, names string) *Keys {
	t.Helper()
	rest, free := strings.CutPrefix(strings.TrimSpace(names), "!")
	if free {
		return keysOf(t, "", strings.Fields(rest)...)
	}
	return keysOf(t, required, strings.Fields(rest)...)
}

func verdict(h *history, v Verdict) string {
	if v.Trusted || v.Commit == "" {
		return v.String()
	}
	return h.names(fmt.Sprintf("%s: %s: %s", v.Commit.Short(), v.Flaw.Reason, v.Flaw.Text))
}

// TestFeature_G10_rights holds signers to environments and paths.
func TestFeature_G10_rights(t *testing.T) {
	const trust = required + `
principals:
  ada: {}
  bob: {environments: [dev], paths: [apps/web/**, "*.md"]}
  ring:
  - {environments: [dev], paths: [overlays/**]}
  - {environments: [staging, "prod-*"]}
  eve: {environments: []}
`
	for _, c := range []struct{ environment, history, want string }{
		{"dev", "a ada last keys/signers,apps/web/x", "trusted: 1 commits"},
		{"dev", "a bob last apps/web/a/b.cue,README.md", "trusted: 1 commits"},
		{"dev", "a bob last apps/db/x", `a: outside its rights: "apps/db/x" is outside the paths that keys/trust.yaml gives bob`},
		{"dev", "a bob last apps/web", "trusted: 1 commits"},
		{"dev", "a bob last apps/webs/x", `a: outside its rights: "apps/webs/x" is outside the paths that keys/trust.yaml gives bob`},
		{"dev", "a bob last keys/trust.yaml", `a: outside its rights: "keys/trust.yaml" is outside the paths that keys/trust.yaml gives bob`},
		{"staging", "a bob last apps/web/x", "a: outside its rights: keys/trust.yaml does not let bob sign in staging"},
		{"staging", "b bob last apps/web/x\nm ada last,b apps/web/x", "trusted: 2 commits"}, // came in by a promotion
		{"staging", "b bob last apps/web/x\nm ada b,last apps/web/x", "b: outside its rights: keys/trust.yaml does not let bob sign in staging"},
		{"staging", "b bob last apps/db/x\nm ada last,b apps/db/x", `b: outside its rights: "apps/db/x" is outside the paths that keys/trust.yaml gives bob`},
		{"dev", "a ring last overlays/dev/x.yaml", "trusted: 1 commits"},
		{"dev", "a ring last apps/web/x", `a: outside its rights: "apps/web/x" is outside the paths that keys/trust.yaml gives ring`},
		{"prod-eu", "a ring last apps/web/x,keys/signers", "trusted: 1 commits"},
		{"dev", "a eve last -", "a: outside its rights: keys/trust.yaml does not let eve sign in dev"},
		{"dev", "x eve last -\nm ada last,x -", "x: outside its rights: keys/trust.yaml lets eve sign in no environment"},
		{"dev", "a new last -", "a: outside its rights: keys/trust.yaml does not list new"},
	} {
		h := newHistory(t)
		h.ids["last"] = source.ObjectID("commit", []byte("last"))
		r := Range{Environment: c.environment, Last: h.ids["last"], Active: keysOf(t, trust, "ada", "bob", "ring", "eve", "new"), Now: noon}
		for line := range strings.Lines(c.history) {
			h.add(line, nil)
			r.Commits = append(r.Commits, h.all[strings.Fields(line)[0]])
		}
		if got := verdict(h, Judge(r)); got != c.want {
			t.Errorf("%s: %q: %s\nwant %s", c.environment, c.history, got, c.want)
		}
	}
}

// TestFeature_G10_narrowed sees that rights that were taken away count at once, and wider ones only when they are active.
func TestFeature_G10_narrowed(t *testing.T) {
	wide := required + "principals: {ada: {}, bob: {}}\n"
	narrow := required + "principals: {ada: {}, bob: {paths: [docs/**]}}\n"
	for _, c := range []struct{ active, next, want string }{
		{wide, narrow, `b: outside its rights: "apps/x" is outside the paths that keys/trust.yaml gives bob`},
		{narrow, wide, `b: outside its rights: "apps/x" is outside the paths that keys/trust.yaml gives bob`},
		{wide, wide, "trusted: 2 commits"},
	} {
		h := newHistory(t)
		h.ids["last"] = source.ObjectID("commit", []byte("last"))
		h.add("a ada last keys/trust.yaml", keysOf(t, c.next, "ada", "bob"))
		h.add("b bob a apps/x", nil)
		r := Range{Environment: "dev", Last: h.ids["last"], Active: keysOf(t, c.active, "ada", "bob"), Now: noon}
		r.Commits = []Commit{h.all["a"], h.all["b"]}
		if got := verdict(h, Judge(r)); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// TestFeature_G10_widened sees that a branch from before its author's rights were widened has the wider ones.
func TestFeature_G10_widened(t *testing.T) {
	h := newHistory(t)
	h.ids["last"], h.ids["old"] = source.ObjectID("commit", []byte("last")), source.ObjectID("commit", []byte("old"))
	r := Range{Environment: "dev", Last: h.ids["last"], Now: noon}
	r.Active = keysOf(t, required+"principals: {ada: {}, bob: {}}\n", "ada", "bob")
	r.Known = map[source.ID]*Keys{h.ids["old"]: keysOf(t, required+"principals: {ada: {}, bob: {paths: [docs/**]}}\n", "ada", "bob")}
	for _, spec := range []string{"x bob old apps/x", "y bob x apps/x", "m ada last,y apps/x"} {
		h.add(spec, nil)
		r.Commits = append(r.Commits, h.all[strings.Fields(spec)[0]])
	}
	if got := verdict(h, Judge(r)); got != "trusted: 3 commits" {
		t.Error(got)
	}
}

// TestFault_G16_expired sees that the time a commit claims does not bring an expired key back, except within Late and where
// somebody with a good key has brought it in.
func TestFault_G16_expired(t *testing.T) {
	h := newHistory(t)
	h.ids["last"] = source.ObjectID("commit", []byte("last"))
	h.add("a ada last", nil) // made an hour before noon
	h.add("m bob last,a", nil)
	alone, merged := []Commit{h.all["a"]}, []Commit{h.all["a"], h.all["m"]}
	for _, c := range []struct {
		options string
		late    time.Duration
		commits []Commit
		want    string
	}{
		{`valid-before="20260302120000Z"`, 0, alone, "trusted: 1 commits"},
		{`valid-before="202603021159Z"`, 0, alone, "a: expired key: key <ada> of ada expired at 2026-03-02T11:59:00Z"},
		{`valid-before="202603021159Z"`, time.Minute, alone, "a: expired key: key <ada> of ada expired at 2026-03-02T11:59:00Z"},
		{`valid-before="202603021159Z"`, time.Minute, merged, "trusted: 2 commits"},
		{`valid-before="202603021159Z"`, 59 * time.Second, merged, "a: expired key: key <ada> of ada expired at 2026-03-02T11:59:00Z"},
		{`valid-before="202603021059Z"`, 24 * time.Hour, merged, "a: expired key: key <ada> of ada expired at 2026-03-02T10:59:00Z"},
		{`valid-after="202603021100Z"`, 0, alone, "trusted: 1 commits"},
		{`valid-after="202603021130Z"`, 0, alone, "a: expired key: key <ada> of ada is good from 2026-03-02T11:30:00Z only"},
		{`valid-after="20260301Z",valid-before="20260303Z",namespaces="file,git"`, 0, alone, "trusted: 1 commits"},
		{`namespaces="file"`, 0, alone, "a: unknown key: signed by key <ada>, which is not in keys/"},
	} {
		fsys := keysFS(t, required, "ada", "bob")
		lines := string(fsys["keys/signers"].Data)
		fsys["keys/signers"].Data = []byte(strings.Replace(lines, `namespaces="git"`, c.options, 1))
		k, ps := Parse(fsys)
		if len(ps) > 0 {
			t.Fatal(ps)
		}
		r := Range{Environment: "dev", Last: h.ids["last"], Active: k, Commits: c.commits, Now: noon, Late: c.late}
		if got := verdict(h, Judge(r)); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.options, got, c.want)
		}
	}
}

// TestFault_G16_brokenKeys holds a tip that broke keys/, and goes on when a later commit has mended them.
func TestFault_G16_brokenKeys(t *testing.T) {
	broken, ps := Parse(keysFS(t, "requires: true\n", "ada", "eve"))
	if len(ps) == 0 {
		t.Fatal("no problem")
	}
	h := newHistory(t)
	h.ids["last"] = source.ObjectID("commit", []byte("last"))
	active := keysOf(t, required, "ada")
	h.add("a ada last keys/trust.yaml", broken)
	h.add("b ada a keys/trust.yaml", active)
	h.add("e eve a", nil)
	for _, c := range []struct {
		commits []string
		want    string
	}{
		{[]string{"a"}, `a: broken keys: keys/trust.yaml:1: unknown key "requires"; expected require, groups, principals`},
		{[]string{"a", "b"}, "trusted: 2 commits"},
		{[]string{"a", "e"}, "e: unknown key: signed by key <eve>, which is not in keys/"},
	} {
		r := Range{Environment: "dev", Last: h.ids["last"], Active: active, Now: noon}
		for _, n := range c.commits {
			r.Commits = append(r.Commits, h.all[n])
		}
		if got := verdict(h, Judge(r)); got != c.want {
			t.Errorf("%v: %s\nwant %s", c.commits, got, c.want)
		}
	}
	if v := Judge(Range{Last: h.ids["last"], Active: broken, Commits: []Commit{h.all["a"]}}); v.Trusted || v.Flaw.Reason != BrokenKeys {
		t.Errorf("with broken active keys: %v", v)
	}
}

// TestFault_G16_signers sees who is named as a signer, for gates that ask for others.
func TestFault_G16_signers(t *testing.T) {
	h := newHistory(t)
	h.ids["last"] = source.ObjectID("commit", []byte("last"))
	h.add("a ada+ last", nil)
	h.add("b - a", nil)
	v := Judge(Range{Environment: "dev", Last: h.ids["last"], Active: keysOf(t, "", "ada", "ada+"), Commits: []Commit{h.all["a"], h.all["b"]}, Now: noon})
	if !v.Trusted || len(v.By) != 2 || v.By[0].Principal != "ada" || v.By[1].Principal != "" || h.names(v.By[0].Key) != "<ada+>" {
		t.Errorf("%+v", v)
	}
}

// TestFault_G16_twoReadings refuses commits that could be read two ways, whatever their signature.
func TestFault_G16_twoReadings(t *testing.T) {
	h := newHistory(t)
	h.ids["last"] = source.ObjectID("commit", []byte("last"))
	h.add("a ada last", nil)
	good := string(h.all["a"].Raw)
	other := strings.Repeat("b", 40)
	_, signature, err := splitCommit([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	folded := "gpgsig " + strings.ReplaceAll(strings.TrimSuffix(signature, "\n"), "\n", "\n ") + "\n"
	if !strings.Contains(good, folded) {
		t.Fatalf("%q is not in %q", folded, good)
	}
	for _, c := range []struct{ name, raw, want string }{
		{"as it is", good, "trusted: 1 commits"},
		{"another message", strings.Replace(good, "\n\na\n", "\n\nb\n", 1), "bad signature"},
		{"another tree", strings.Replace(good, string(source.EmptyTree), other, 1), "bad signature"},
		{"a second tree before", "tree " + other + "\n" + good, "malformed"},
		{"a second tree behind", strings.Replace(good, "\nparent", "\ntree "+other+"\nparent", 1), "malformed"},
		{"a second parent, unsigned", strings.Replace(good, "\nauthor", "\nparent "+string(h.ids["last"])+"\nauthor", 1), "bad signature"},
		{"a second author", strings.Replace(good, "\ncommitter", "\nauthor Eve <e@x> 1 +0000\ncommitter", 1), "malformed"},
		{"a second signature", strings.Replace(good, folded, folded+folded, 1), "malformed"},
		{"a signature of another hash", strings.Replace(good, folded, folded+strings.Replace(folded, "gpgsig ", "gpgsig-sha256 ", 1), 1), "malformed"},
		{"the signature first", folded + strings.Replace(good, folded, "", 1), "malformed"},
		{"an encoding", strings.Replace(good, folded, "encoding ISO-8859-1\n"+folded, 1), "malformed"},
		{"an unsigned header", strings.Replace(good, folded, "note x\n"+folded, 1), "bad signature"},
		{"an author over two lines", strings.Replace(good, "\ncommitter", "\n x\ncommitter", 1), "malformed"},
		{"a carriage return", strings.Replace(good, "\ncommitter", "\r\ncommitter", 1), "malformed"},
		{"carriage returns in the signature", strings.Replace(good, folded, strings.ReplaceAll(folded, "\n", "\r\n"), 1), "malformed"},
		{"a NUL", strings.Replace(good, "\n\na\n", "\n\na\n\x00b", 1), "malformed"},
		{"not UTF-8", strings.Replace(good, "\n\na\n", "\n\na\n\xff", 1), "malformed"},
		{"an empty line in the signature", strings.Replace(good, "\n -----END", "\n \n -----END", 1), "bad signature"},
		{"text before the signature", strings.Replace(good, "gpgsig -----BEGIN", "gpgsig x\n -----BEGIN", 1), "bad signature"},
		{"text behind the signature", strings.Replace(good, "SIGNATURE-----\n\n", "SIGNATURE-----\n x\n\n", 1), "bad signature"},
		{"an empty signature", strings.Replace(good, folded, "gpgsig \n", 1), "malformed"},
		{"X.509", strings.ReplaceAll(good, "SSH SIGNATURE", "SIGNED MESSAGE"), "bad signature"},
		{"no end", strings.TrimSuffix(strings.Replace(good, "\n\na\n", "\n", 1), "\n"), "malformed"},
		{"no message", strings.Replace(good, "\n\na\n", "\n", 1), "bad signature"},
		{"too long", good + strings.Repeat("x", MaxObject), "malformed"},
	} {
		raw := []byte(c.raw)
		if c.name != "as it is" && c.raw == good {
			t.Errorf("%s: nothing was changed", c.name)
		}
		r := Range{Environment: "dev", Last: h.ids["last"], Active: keysOf(t, required, "ada"), Now: noon}
		r.Commits = []Commit{{ID: source.ObjectID("commit", raw), Raw: raw}}
		v := Judge(r)
		got := v.String()
		if !v.Trusted {
			got = v.Flaw.Reason.String()
		}
		if got != c.want {
			t.Errorf("%s: %s (%v)\nwant %s", c.name, got, v, c.want)
		}
	}
	v := Judge(Range{Last: h.ids["last"], Active: keysOf(t, required, "ada"), Now: noon, Commits: []Commit{{ID: source.ID(other), Raw: []byte(good)}}})
	if v.Trusted || v.Flaw.Text != "its bytes are not those of its id" {
		t.Errorf("under another id: %v", v)
	}
}

// TestJudgeBounds sees that long ranges are judged in time, and longer ones not at all.
func TestJudgeBounds(t *testing.T) {
	h := newHistory(t)
	h.ids["last"] = source.ObjectID("commit", []byte("last"))
	r := Range{Environment: "dev", Last: h.ids["last"], Active: keysOf(t, "", "ada"), Now: noon}
	parent := "last"
	for i := range MaxChanges + 2 {
		name := fmt.Sprintf("c%d", i)
		h.add(name+" - "+parent, keysOf(t, "", []string{"ada", "bob"}[i%2]))
		r.Commits = append(r.Commits, h.all[name])
		parent = name
	}
	if v := Judge(r); v.Trusted || v.Flaw.Reason != Incomplete {
		t.Errorf("%d changes of keys: %v", len(r.Commits), v)
	}
	r.Commits = r.Commits[:MaxChanges]
	if v := Judge(r); !v.Trusted {
		t.Errorf("%d changes of keys: %v", len(r.Commits), v)
	}
	r.Commits = slices.Repeat(r.Commits[:1], MaxCommits+1)
	if v := Judge(r); v.Trusted || v.Flaw.Reason != Incomplete {
		t.Errorf("%d commits: %v", len(r.Commits), v)
	}
}

// TestRangeOfNoEnvironment sees that where a commit is for no environment keys and paths count, and environments do not.
func TestRangeOfNoEnvironment(t *testing.T) {
	h := newHistory(t)
	h.ids["last"] = source.ObjectID("commit", []byte("last"))
	k := keysOf(t, required+"principals: {ada: {environments: [dev]}, bob: {paths: [docs/**]}, eve: {environments: []}}\n", "ada", "bob", "eve")
	for signer, want := range map[string]string{
		"ada": "trusted: 1 commits",
		"bob": `a: outside its rights: "apps/x" is outside the paths that keys/trust.yaml gives bob`,
		"eve": "a: outside its rights: keys/trust.yaml lets eve sign in no environment",
		"new": "a: unknown key: signed by key <new>, which is not in keys/",
	} {
		h.add("a "+signer+" last apps/x", nil)
		if got := verdict(h, Judge(Range{Last: h.ids["last"], Active: k, Commits: []Commit{h.all["a"]}, Now: noon})); got != want {
			t.Errorf("%s: %s\nwant %s", signer, got, want)
		}
	}
}
