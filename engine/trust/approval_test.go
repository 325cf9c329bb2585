package trust

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
)

// tagOf is a signed tag; signer "" leaves it unsigned.
func tagOf(t testing.TB, name string, commit source.ID, signer string) []byte {
	t.Helper()
	raw := fmt.Sprintf("object %s\ntype commit\ntag %s\ntagger Ada <ada@example.org> %d +0000\n\nlooks good\n", commit, name, noon.Unix())
	if signer != "" {
		armored, err := Sign([]byte(raw), signerOf(signer))
		if err != nil {
			t.Fatal(err)
		}
		raw += armored
	}
	return []byte(raw)
}

// TestFeature_P3_approvals says which approvals count.
func TestFeature_P3_approvals(t *testing.T) {
	const trust = `
groups:
  release: {environments: [production, staging]}
  dba: {environments: ["*"]}
principals:
  ada: {approve: [release, dba]}
  bob: [{approve: [release], environments: [], paths: []}]
  eve: {}
`
	commit, other := source.ObjectID("commit", []byte("1")), source.ObjectID("commit", []byte("2"))
	keys := keysOf(t, trust, "ada", "ada+", "bob", "eve")
	name := func(environment string, id source.ID, user string) string {
		return strings.TrimPrefix(ApprovalRef(environment, id, user), "refs/tags/")
	}
	good := name("production", commit, "ada")
	tagged := tagOf(t, good, commit, "ada")
	for _, c := range []struct {
		name string
		ref  string
		raw  []byte
		want string
	}{
		{"counts", good, tagged, "ada approves production [dba release]"},
		{"another key of hers", good, tagOf(t, good, commit, "ada+"), "ada approves production [dba release]"},
		{"for dev", name("dev", commit, "ada"), tagOf(t, name("dev", commit, "ada"), commit, "ada"), "ada approves dev [dba]"},
		{"who may sign nothing else", name("staging", commit, "bob"), tagOf(t, name("staging", commit, "bob"), commit, "bob"), "bob approves staging [release]"},
		{"no group", name("production", commit, "eve"), tagOf(t, name("production", commit, "eve"), commit, "eve"), "outside its rights: keys/trust.yaml gives eve no group that approves for production"},
		{"no group for dev", name("dev", commit, "bob"), tagOf(t, name("dev", commit, "bob"), commit, "bob"), "outside its rights: keys/trust.yaml gives bob no group that approves for dev"},
		{"unsigned", good, tagOf(t, good, commit, ""), "unsigned: is not signed"},
		{"unknown key", good, tagOf(t, good, commit, "new"), "unknown key: signed by key <new>, which is not in keys/"},
		{"in another's name", good, tagOf(t, good, commit, "bob"), "outside its rights: bob has signed it"},
		{"under another ref", name("production", other, "ada"), tagged, `malformed: the tag itself is named "` + good + `"`},
		{"of another commit", good, tagOf(t, good, other, "ada"), "malformed: it is a tag of commit " + other.Short()},
		{"changed", good, []byte(strings.Replace(string(tagged), "looks good", "looks bad!", 1)), "bad signature: its signature by key <ada> of ada does not cover its bytes"},
		{"signed twice", good, append(slices.Clip(tagged), tagged[strings.Index(string(tagged), "-----BEGIN"):]...), "malformed: more than one signature"},
		{"text behind", good, append(slices.Clip(tagged), "\nmore\n"...), `bad signature: its SSH signature: expected "-----END SSH SIGNATURE-----" on a line of its own last`},
		{"a second object", good, []byte("object " + string(other) + "\n" + string(tagged)), "malformed: 5 headers; expected object, type, tag, tagger"},
		{"a header more", good, []byte(strings.Replace(string(tagged), "\ntagger", "\ngpgsig x\ntagger", 1)), "malformed: 5 headers; expected object, type, tag, tagger"},
		{"of a tree", good, []byte(strings.Replace(string(tagged), "type commit", "type tree", 1)), "malformed: is no tag of a commit"},
		{"a short id", "shoal/approve/production/" + commit.Short() + "/ada", tagged, `malformed: "` + commit.Short() + `" is no full commit id`},
		{"a bad environment", "shoal/approve/Pro_d/" + string(commit) + "/ada", tagged, `malformed: "Pro_d" is no name of an environment`},
		{"another tag", "v1.0", tagged, "malformed: expected shoal/approve/<environment>/<commit>/<principal>"},
		{"too deep", good + "/x", tagged, "malformed: expected shoal/approve/<environment>/<commit>/<principal>"},
		{"nothing", good, nil, "malformed: no end of the header"},
		{"too long", good, append(slices.Clip(tagged), make([]byte, MaxObject)...), fmt.Sprintf("malformed: %d bytes long; at most %d", MaxObject+len(tagged), MaxObject)},
	} {
		a, err := ApprovalOf("refs/tags/"+c.ref, c.raw, keys, noon)
		got := fmt.Sprintf("%s approves %s %v", a.Principal, a.Environment, a.Groups)
		if err == nil && (a.Commit != commit || a.Tag != source.ObjectID("tag", c.raw) || !a.When.Equal(noon)) {
			t.Errorf("%s: %+v", c.name, a)
		}
		if err != nil {
			flaw, ok := errors.AsType[*Flaw](err)
			if !ok {
				t.Fatalf("%s: a %T", c.name, err)
			}
			_, why, _ := strings.Cut(flaw.Text, ": ")
			got = newHistory(t).names(flaw.Reason.String() + ": " + why)
		}
		if got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
	if a, err := ApprovalOf("refs/tags/"+good, tagged, keysOf(t, "", "ada"), noon); err != nil || a.Groups != nil {
		t.Errorf("without principals: %+v, %v", a, err)
	}
	if _, err := ApprovalOf("refs/tags/"+good, tagged, nil, noon); err == nil {
		t.Error("without keys/ it counts")
	}
	if _, err := ApprovalOf("refs/tags/"+good, tagged, keysOf(t, "", "bob"), noon); err == nil {
		t.Error("with a key that is no longer there it counts")
	}
}
