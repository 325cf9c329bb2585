package trust

import (
	"fmt"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// ApprovalRefs begins the names of the refs that hold approvals: refs/tags/shoal/approve/<environment>/<commit>/<principal>.
const ApprovalRefs = "refs/tags/shoal/approve/"

// Approval says that somebody wants a commit in an environment.
type Approval struct {
	Environment string
	Commit      source.ID
	Principal   string   // who; whether it is the promoter itself is for the caller to see
	Key         string   // Key.ID
	Groups      []string // in whose name, sorted; nil if keys/trust.yaml has no principals
	When        time.Time
	Tag         source.ID // the tag object
}

// ApprovalRef is the name of the ref of an approval.
func ApprovalRef(environment string, commit source.ID, principal string) string {
	return ApprovalRefs + environment + "/" + string(commit) + "/" + principal
}

// ApprovalOf reads the annotated tag that ref stands for. The tag must be named as ref is and point at the commit of its name, and be signed
// by a key that keys, which are those of the active tree, give to the principal of its name. The error is a *Flaw.
func ApprovalOf(ref string, raw []byte, keys *Keys, now time.Time) (Approval, error) {
	no := func(r Reason, format string, a ...any) (Approval, error) {
		return Approval{}, &Flaw{r, "approval " + cut(strings.TrimPrefix(ref, "refs/tags/")) + ": " + fmt.Sprintf(format, a...)}
	}
	if len(keys.Problems()) > 0 {
		return no(BrokenKeys, "keys/: %v", keys.Problems()[0])
	}
	rest, ok := strings.CutPrefix(ref, ApprovalRefs)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return no(Malformed, "expected %s<environment>/<commit>/<principal>", strings.TrimPrefix(ApprovalRefs, "refs/tags/"))
	}
	a := Approval{Environment: parts[0], Commit: source.ID(parts[1]), Tag: source.ObjectID("tag", raw)}
	switch err := CheckPrincipal(parts[2]); {
	case !environmentName(a.Environment):
		return no(Malformed, "%q is no name of an environment", cut(a.Environment))
	case !a.Commit.Valid():
		return no(Malformed, "%q is no full commit id", cut(parts[1]))
	case err != nil:
		return no(Malformed, "%v", err)
	}
	t, err := parseTag(raw)
	switch {
	case err != nil:
		return no(Malformed, "%v", err)
	case "refs/tags/"+t.name != ref:
		return no(Malformed, "the tag itself is named %q", cut(t.name))
	case t.object != a.Commit:
		return no(Malformed, "it is a tag of commit %s", t.object.Short())
	case t.signature == "":
		return no(Unsigned, "is not signed")
	}
	key, flaw := newRing([]*Keys{keys}).signer(t.payload, t.signature)
	if flaw == nil {
		flaw = key.good(t.tagger.When, now, 0)
	}
	if flaw != nil {
		return no(flaw.Reason, "%s", flaw.Text)
	}
	a.Principal, a.Key, a.When = key.Principal, key.ID, t.tagger.When
	if a.Principal != parts[2] {
		return no(Rights, "%s has signed it", a.Principal)
	}
	if a.Groups, ok = keys.Groups(a.Principal, a.Environment); !ok {
		return no(Rights, "keys/trust.yaml gives %s no group that approves for %s", a.Principal, a.Environment)
	}
	return a, nil
}

// environmentName holds a name to what a DNS label may be.
func environmentName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
