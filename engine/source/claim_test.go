package source

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	ringA = "0123456789abcdef0123456789abcdef"
	ringB = "fedcba9876543210fedcba9876543210"
)

var (
	claimA = Claim{Read: true, ID: ID(strings.Repeat("a", 40)), Ring: ringA, By: "shoal on n1", When: 1}
	claimB = Claim{Read: true, ID: ID(strings.Repeat("b", 40)), Ring: ringB, By: "shoal on n9", When: 2}
	flawed = FlawedClaim(ID(strings.Repeat("c", 40)), "it is a blob")
)

// TestClaimStanding reads claims one after the other and says how ring A stands to the repository after each.
func TestClaimStanding(t *testing.T) {
	for _, s := range []struct {
		what  string
		reads []Claim
		want  string
	}{
		{"never read", nil, "unread"},
		{"a fresh repository", []Claim{Unclaimed}, "unclaimed"},
		{"claimed by this ring", []Claim{Unclaimed, claimA}, "claimed"},
		{"put back without the ref", []Claim{claimA, Unclaimed}, "unclaimed"},
		{"and claimed again", []Claim{claimA, Unclaimed, claimA}, "claimed"},
		{"taken over", []Claim{claimA, claimB}, "claimed by another ring, holds"},
		{"of another from the first", []Claim{claimB}, "claimed by another ring, holds"},
		{"of another, put back without the ref", []Claim{claimB, Unclaimed}, "given up, holds"},
		{"and read again", []Claim{claimB, Unclaimed, Unclaimed}, "given up, holds"},
		{"and claimed by this ring then", []Claim{claimB, Unclaimed, claimA}, "claimed"},
		{"and by the other", []Claim{claimB, Unclaimed, claimB}, "claimed by another ring, holds"},
		{"something else stands there", []Claim{flawed}, "claimed in vain, holds"},
		{"something else in place of ours", []Claim{claimA, flawed}, "claimed in vain, holds"},
		{"something else, and gone", []Claim{flawed, Unclaimed}, "given up, holds"},
		{"something else, and mended", []Claim{flawed, claimA}, "claimed"},
	} {
		var c Claim
		for _, now := range s.reads {
			c = c.Then(now)
			if err := c.Check(); err != nil {
				t.Errorf("%s: %+v: %v", s.what, c, err)
			}
		}
		got := c.Standing(ringA).String()
		if c.Standing(ringA).Holds() {
			got += ", holds"
		}
		if got != s.want {
			t.Errorf("%s: %s, want %s", s.what, got, s.want)
		}
	}
}

// TestClaimRoundTrip makes claims, one on the other, and reads them.
func TestClaimRoundTrip(t *testing.T) {
	when := time.Date(2026, 11, 22, 14, 0, 0, 0, time.FixedZone("", 3600))
	read := func(ring, by string, before Claim) (Claim, Commit) {
		raw := EncodeClaim(ring, by, when, before)
		id := ObjectID("commit", raw)
		c, err := ParseCommit(id, raw)
		if err != nil {
			t.Fatal(err)
		}
		return ParseClaim(id, raw), c
	}
	first, commit := read(ringA, "shoal on <n1>\n", Unclaimed)
	if first.Ring != ringA || first.By != "shoal on n1" || first.When != when.Unix() || first.Flaw != "" || len(commit.Parents) != 0 || commit.Tree != EmptyTree {
		t.Errorf("%+v, %+v", first, commit)
	}
	second, commit := read(ringB, "shoal on n9", first)
	if second.Ring != ringB || len(commit.Parents) != 1 || commit.Parents[0] != first.ID || commit.Subject() != "Claimed for ring fedcba98" {
		t.Errorf("%+v, %+v", second, commit)
	}
	for _, before := range []Claim{flawed, second.Then(Unclaimed)} { // there is no commit to descend from
		if _, commit := read(ringA, "shoal", before); len(commit.Parents) != 0 {
			t.Errorf("after %+v: parents %v", before, commit.Parents)
		}
	}
}

// TestClaimFlaws says what is wrong with what is no claim.
func TestClaimFlaws(t *testing.T) {
	commit := func(message string) string {
		return string(EncodeCommit(Commit{Tree: EmptyTree, Author: Person{Name: "A"}, Committer: Person{Name: "\x1b[31mred\u202e"}, Message: message}))
	}
	for _, s := range []struct{ raw, want string }{
		{commit("x\n\nShoal-Ring: " + ringA + "\n"), "ring 0123456789abcdef0123456789abcdef by [31mred"},
		{commit("x\n\nshoal-ring: " + ringA + "\n"), "ring 0123456789abcdef0123456789abcdef by [31mred"},
		{commit("x"), "its commit has no trailer Shoal-Ring"},
		{commit("Shoal-Ring: " + ringA), "its commit has no trailer Shoal-Ring"},
		{commit("x\n\nShoal-Ring: ABCD"), `Shoal-Ring: "ABCD" is no ring's identity; expected 32 hex digits`},
		{commit("x\n\nShoal-Ring: " + strings.ToUpper(ringB)), `Shoal-Ring: "FEDCBA9876543210FEDCBA9876543210" is no ring's identity; expected 32 hex digits`},
		{commit("x\n\nShoal-Ring: "), `Shoal-Ring: "" is no ring's identity; expected 32 hex digits`},
		{"garbage\x00", "commit cccccccccccc: offset 7: holds a NUL"},
		{commit(strings.Repeat("x", MaxClaim)), "it is longer than 65536 bytes"},
	} {
		c := ParseClaim(flawed.ID, []byte(s.raw))
		got := c.Flaw
		if c.Ring != "" {
			got = fmt.Sprintf("ring %s by %s", c.Ring, c.By)
		}
		if got != s.want || c.Check() != nil {
			t.Errorf("%.60q: %s, %v; want %s", s.raw, got, c.Check(), s.want)
		}
	}
	for _, c := range []Claim{
		{ID: "x", Read: true, Flaw: "y"},
		{ID: flawed.ID, Ring: ringA},
		{ID: flawed.ID, Read: true},
		{ID: flawed.ID, Read: true, Ring: "x"},
		{ID: flawed.ID, Read: true, Ring: ringA, Flaw: "x"},
		{Read: true, Gone: true},
		{Read: true, Ring: ringA},
		{ID: flawed.ID, Read: true, Ring: ringA, By: "\x1b"},
	} {
		if c.Check() == nil {
			t.Errorf("%+v hangs together", c)
		}
	}
}

func FuzzParseClaim(f *testing.F) {
	f.Add(EncodeClaim(ringA, "shoal on n1", time.Unix(1, 0), Unclaimed))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := ParseClaim(flawed.ID, raw)
		if err := c.Check(); err != nil || !c.Read || c.Standing(ringA) == Free || c.Standing(ringA) == Unread {
			t.Errorf("%+v: %v", c, err)
		}
	})
}
