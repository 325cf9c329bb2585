package promote

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// asks is one of each kind, with all that it may hold.
func asks() map[string]Ask {
	const until = 1_796_083_200_000 // 2026-12-01
	return map[string]Ask{
		"promotion": {
			Act: Promotion, From: "staging", Source: id("commit"), Render: desired.DigestOf([]byte("render")), By: "ada", Reason: "release 12: searching is quick",
			Evidence: []Proof{{"soak", "staging: 26h on 3f6c"}, {"checks:latency", "staging: p90 is 0.2 s"}}, Request: strings.Repeat("0af1", 8),
		},
		"rollback": {Act: Rollback, Source: id("commit"), By: "Eve Ünal", Reason: "payments are down", PinUntil: until},
		"hotfix":   {Act: Hotfix, Waived: []string{"checks:latency", "soak", "window"}, By: "bob", Reason: "payments are down, see #12"},
		"small":    {Act: Hotfix, Reason: "a typo"},
		"pin":      {Act: Pin, PinUntil: until, Reason: "until the audit is over", By: "ada"},
		"unpin":    {Act: Unpin, By: "ada"},
	}
}

// TestFeature_P5_Messages: what is written reads as it was meant, by us and by git.
func TestFeature_P5_Messages(t *testing.T) {
	golden(t, "messages", func(t *testing.T, _ map[string]string) string {
		var b strings.Builder
		all := asks()
		for _, name := range sortedKeys(all) {
			m, err := Write("production", all[name], "3 commits:\n  web: faster\x1b[31m\nShoal-Hotfix: soak not this one\n\n")
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			fmt.Fprintf(&b, "## %s\n%s", name, m)
			back, err := Read(m)
			if err != nil || !reflect.DeepEqual(back, all[name]) {
				t.Errorf("%s reads as %+v, %v", name, back, err)
			}
			c := exec.Command("git", "interpret-trailers", "--parse")
			c.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+t.TempDir())
			c.Stdin = strings.NewReader(m)
			out, err := c.Output()
			var ours strings.Builder
			for _, tr := range source.Trailers(m) {
				fmt.Fprintf(&ours, "%s: %s\n", tr.Key, tr.Value)
			}
			if err != nil || string(out) != ours.String() {
				t.Errorf("%s: git reads\n%s\n%v", name, out, err)
			}
		}
		return b.String()
	})
}

// TestFault_P3_Claims: a message that claims what cannot be is refused, and says why.
func TestFault_P3_Claims(t *testing.T) {
	c40, c64 := string(id("c")), strings.Repeat("ab", 32)
	for _, c := range []struct{ trailers, want string }{
		{"", "plain"},
		{"Shoal-By: ada\nShoal-By: bob", "plain"},
		{"Shoal-Allow-Delete: 3", "plain"},
		{"Shoal-Promoted-From: staging " + c40, "promotion"},
		{"shoal-promoted-FROM: staging   " + c40 + " " + c64, "promotion"},
		{"Shoal-Promoted-From: staging", `Shoal-Promoted-From: "staging"; expected "ENVIRONMENT COMMIT"`},
		{"Shoal-Promoted-From: staging " + c40[:39], `Shoal-Promoted-From: "` + c40[:39] + `" is no commit; expected 40 hex digits`},
		{"Shoal-Promoted-From: Staging " + c40, `Shoal-Promoted-From: "Staging" is no environment's name`},
		{"Shoal-Promoted-From: staging " + c40 + " " + c40, `Shoal-Promoted-From: "` + c40 + `" is no render; expected 64 hex digits`},
		{"Shoal-Promoted-From: staging " + c40 + "\nShoal-Promoted-From: dev " + c40, "Shoal-Promoted-From: stands there twice"},
		{"Shoal-Promoted-From: staging " + c40 + "\nShoal-Hotfix: soak it burns", "Shoal-Hotfix: the commit says already that it is a promotion; expected one of them"},
		{"Shoal-Promoted-From: staging " + c40 + "\nShoal-Pin-Until: lifted", "Shoal-Pin-Until: the commit says already that it is a promotion; expected one of them"},
		{"Shoal-Rolled-Back-To: " + c40, "rollback"},
		{"Shoal-Rolled-Back-To: HEAD~1", `Shoal-Rolled-Back-To: "HEAD~1" is no commit; expected 40 hex digits`},
		{"Shoal-Rolled-Back-To: " + c40 + "\nShoal-Pin-Until: 2026-12-01T00:00:00Z", "Shoal-Reason: is missing; a pin says why"},
		{"Shoal-Rolled-Back-To: " + c40 + "\nShoal-Pin-Until: 2026-12-01T00:00:00Z\nShoal-Reason: x", "rollback until 2026-12-01T00:00:00Z"},
		{"Shoal-Pin-Until: 2026-12-01T00:00:00+01:00\nShoal-Reason: x", "pin until 2026-11-30T23:00:00Z"},
		{"Shoal-Pin-Until: tomorrow\nShoal-Reason: x", `Shoal-Pin-Until: "tomorrow"; expected a time like 2026-12-01T00:00:00Z, or lifted`},
		{"Shoal-Pin-Until: 1969-12-01T00:00:00Z\nShoal-Reason: x", `Shoal-Pin-Until: "1969-12-01T00:00:00Z"; expected a time like 2026-12-01T00:00:00Z, or lifted`},
		{"Shoal-Pin-Until: lifted", "unpin"},
		{"Shoal-Hotfix: window,soak it burns", "hotfix of soak window"},
		{"Shoal-Hotfix: none it burns\nShoal-Reason: another", "hotfix of "},
		{"Shoal-Hotfix: soak", `Shoal-Hotfix: no reason; expected "GATES REASON", like "soak,window payments are down"`},
		{"Shoal-Hotfix: soak, window it burns", `Shoal-Hotfix: "" is no gate that can be waived; expected soak, health, verify, checks, approvals, window, freeze or same, or none`},
		{"Shoal-Hotfix: it burns", `Shoal-Hotfix: "it" is no gate that can be waived; expected soak, health, verify, checks, approvals, window, freeze or same, or none`},
		{"Shoal-Hotfix: claim it burns", `Shoal-Hotfix: "claim" is no gate that can be waived; expected soak, health, verify, checks, approvals, window, freeze or same, or none`},
		{"Shoal-Hotfix: soak,soak it burns", "Shoal-Hotfix: gate soak after soak; expected them sorted, each once"},
		{"Shoal-Hotfix: " + strings.Repeat("soak,", 20) + " it burns", "Shoal-Hotfix: more than 16 gates"},
		{"Shoal-Hotfix: soak it\x07burns", `Shoal-Reason: "it\aburns"; expected one line of at most 1000 bytes that can be printed`},
		{"Shoal-Hotfix: soak it burns\nShoal-Request: x", `Shoal-Request: "x"; expected 32 hex digits`},
		{"Shoal-Hotfix: soak it burns\nShoal-Evidence: soak", `Shoal-Evidence: "soak "; expected "GATE WORDS" in one line of at most 500 bytes`},
		{"Shoal-Hotfix: soak it burns\nnot a trailer", "plain, line 3 of its message, Shoal-Hotfix, does not count: trailers stand in the last paragraph, which holds nothing else"},
		{"Shoal-Hotfix: soak it burns\n\nSigned-off-by: ada", "plain, line 3 of its message, Shoal-Hotfix, does not count: trailers stand in the last paragraph, which holds nothing else"},
		{strings.Repeat("x", MaxMessage), "the message is 65545 bytes long; at most 65536"},
	} {
		a, err := Read("subject\n\n" + c.trailers)
		got := string(a.Act)
		if a.Act == Hotfix {
			got += " of " + strings.Join(a.Waived, " ")
		}
		if a.PinUntil != 0 {
			got += " until " + stamp(a.PinUntil)
		}
		if a.Hint != "" {
			got += ", " + a.Hint
		}
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%.100s\n%s\nwant %s", c.trailers, got, c.want)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(*Ask)
		want   string
	}{
		{func(a *Ask) { a.Reason = "two\nlines" }, `Shoal-Reason: "two\nlines"; expected one line of at most 1000 bytes that can be printed`},
		{func(a *Ask) { a.By = " ada" }, `Shoal-By: " ada"; expected one line of at most 200 bytes that can be printed`},
		{func(a *Ask) { a.Act = Plain }, "act: plain commits are not written"},
		{func(a *Ask) { a.Act = "x" }, `act: "x" is none`},
		{func(a *Ask) { a.Waived = []string{"soak"} }, "act: promotion, with fields of another act"},
		{func(a *Ask) { a.PinUntil = 1 }, "Shoal-Pin-Until: 1; expected ms since 1970, in whole seconds, up to the year 9999, on a promotion, rollback, hotfix or pin"},
		{func(a *Ask) { a.PinUntil = maxTime + 1000 }, "Shoal-Pin-Until: 253402300800000; expected ms since 1970, in whole seconds, up to the year 9999, on a promotion, rollback, hotfix or pin"},
		{func(a *Ask) { a.Evidence = make([]Proof, 65) }, "Shoal-Evidence: 65 times; at most 64"},
		{func(a *Ask) { a.Evidence = []Proof{{"soak", ""}} }, `Shoal-Evidence: "soak "; expected "GATE WORDS" in one line of at most 500 bytes`},
	} {
		a := asks()["promotion"]
		c.change(&a)
		if _, err := Write("production", a, ""); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if _, err := Write("../x", asks()["pin"], ""); err == nil {
		t.Error("an environment that is no label")
	}
	if got := Line("  two\nlines\x1b[1m and\ttabs ", 100); got != "two lines [1m and tabs" {
		t.Errorf("%q", got)
	}
	if got := Line("ünïcödé", 8); got != "ünï..." && len(got) > 8 {
		t.Errorf("%q", got)
	}
}

// FuzzRead: no message makes it panic, and what was read can be written and reads the same again.
func FuzzRead(f *testing.F) {
	for _, a := range asks() {
		m, _ := Write("production", a, "body")
		f.Add(m)
	}
	f.Add("s\n\nShoal-Hotfix: soak it burns\n over two lines\n")
	f.Fuzz(func(t *testing.T, message string) {
		a, err := Read(message)
		MergedBack(message)
		if err != nil || a.Act == Plain {
			return
		}
		m, err := Write("production", a, message)
		if err != nil {
			t.Fatalf("%+v: %v", a, err)
		}
		if back, err := Read(m); err != nil || !reflect.DeepEqual(a, back) {
			t.Fatalf("%+v\n%+v\n%v\n%s", a, back, err, m)
		}
	})
}

// FuzzWrite: whatever people type, what is written reads as it was meant.
func FuzzWrite(f *testing.F) {
	f.Add("ada", "why not", "body\n\nShoal-Hotfix: soak x", "soak", "26h", int64(1_796_083_200_000))
	f.Fuzz(func(t *testing.T, by, reason, body, gate, text string, pin int64) {
		a := Ask{
			Act: Promotion, From: "staging", Source: id("c"), By: Line(by, maxBy), Reason: Line(reason, MaxReason),
			Evidence: []Proof{{gate, Line(text, maxProof)}}, PinUntil: pin,
		}
		m, err := Write("production", a, body)
		if err != nil {
			return
		}
		if back, err := Read(m); err != nil || !reflect.DeepEqual(a, back) {
			t.Fatalf("%+v\n%+v\n%v\n%s", a, back, err, m)
		}
		h := Ask{Act: Hotfix, By: a.By, Reason: a.Reason}
		if m, err = Write("production", h, body); err != nil {
			return
		}
		if back, err := Read(m); err != nil || !reflect.DeepEqual(h, back) {
			t.Fatalf("%+v\n%+v\n%v\n%s", h, back, err, m)
		}
	})
}

// TestFault_P6_OnceOnly: whoever tries again finds the commit that was made, and makes the same one if there is none.
func TestFault_P6_OnceOnly(t *testing.T) {
	who := source.Person{Name: "shoal", Email: "ring@shoal.local", When: time.Unix(1_800_000_000, 0).UTC()}
	tip := source.Commit{ID: id("tip"), Tree: id("old tree")}
	of := source.Commit{ID: id("commit"), Tree: id("new tree")}
	a := asks()["promotion"]
	a.PinUntil, a.Reason = 1_900_000_000_000, "it is watched"
	a.Request = Request("production", tip.ID, a)
	made := func() source.Commit {
		c, err := Make("production", a, "body", tip, of, who)
		if err != nil {
			t.Fatal(err)
		}
		raw := source.EncodeCommit(c)
		back, err := source.ParseCommit(source.ObjectID("commit", raw), raw)
		if err != nil {
			t.Fatal(err)
		}
		return back
	}
	first, second := made(), made()
	if first.ID != second.ID || first.Tree != of.Tree || len(first.Parents) != 2 || first.Parents[0] != tip.ID || first.Parents[1] != of.ID {
		t.Errorf("%+v\n%+v", first, second)
	}
	for what, tt := range map[string]struct {
		want   bool
		change func(a *Ask, tip, of *source.Commit)
	}{
		"the same again":          {true, func(*Ask, *source.Commit, *source.Commit) {}},
		"somebody else asks":      {true, func(a *Ask, _, _ *source.Commit) { a.By, a.Evidence = "bob", nil }},
		"the pin a minute later":  {true, func(a *Ask, _, _ *source.Commit) { a.PinUntil += 60_000 }},
		"another pin":             {false, func(a *Ask, _, _ *source.Commit) { a.PinUntil += 3_600_000 }},
		"no pin":                  {false, func(a *Ask, _, _ *source.Commit) { a.PinUntil = 0 }},
		"another commit comes in": {false, func(a *Ask, _, of *source.Commit) { a.Source, of.ID = id("newer"), id("newer") }},
		"another render":          {false, func(a *Ask, _, _ *source.Commit) { a.Render = "" }},
		"a tree made by hand":     {false, func(_ *Ask, tip, _ *source.Commit) { tip.Tree = id("by hand") }},
		"somebody went on": {false, func(_ *Ask, tip, _ *source.Commit) {
			*tip = source.Commit{ID: id("later"), Tree: of.Tree, Message: "x", Parents: []source.ID{first.ID}}
		}},
		"a merge by hand": {false, func(_ *Ask, tip, _ *source.Commit) { tip.Parents = []source.ID{id("elsewhere"), of.ID} }},
		"nothing yet":     {false, func(_ *Ask, tip, _ *source.Commit) { *tip = source.Commit{} }},
	} {
		again, at, comes := a, first, of
		tt.change(&again, &at, &comes)
		if got := Made("production", again, at, comes); got != tt.want {
			t.Errorf("%s: made %v, want %v", what, got, tt.want)
		}
	}
	for name, change := range map[string]func(a *Ask, tip, of *source.Commit){
		"promotion: commit aaaa was given":   func(_ *Ask, _, of *source.Commit) { of.ID = "aaaa" },
		`promotion: "" is no tree`:           func(_ *Ask, _, of *source.Commit) { of.Tree = "" },
		"pin: environment production has no": func(a *Ask, tip, _ *source.Commit) { *a, *tip = asks()["pin"], source.Commit{} },
	} {
		a, tip, of := a, tip, of
		change(&a, &tip, &of)
		if _, err := Make("production", a, "", tip, of, who); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%v, want %s", err, name)
		}
	}
	pin, err := Make("production", asks()["pin"], "", tip, source.Commit{}, who)
	if err != nil || pin.Tree != tip.Tree || len(pin.Parents) != 1 {
		t.Errorf("%+v, %v", pin, err)
	}
	fresh, err := Make("production", a, "", source.Commit{}, of, who)
	if err != nil || len(fresh.Parents) != 1 || fresh.Parents[0] != of.ID {
		t.Errorf("%+v, %v", fresh, err)
	}
}

func TestExact(t *testing.T) {
	a := Exact("d", map[string]string{"a:1": "sha256:1", "b:1": "sha256:2"})
	if a != Exact("d", map[string]string{"b:1": "sha256:2", "a:1": "sha256:1"}) || !a.Valid() {
		t.Error("the order of a map counts")
	}
	if a == Exact("d", map[string]string{"a:1": "sha256:1", "b:1": "sha256:3"}) || a == Exact("e", map[string]string{"a:1": "sha256:1", "b:1": "sha256:2"}) {
		t.Error("what differs has one name")
	}
}
