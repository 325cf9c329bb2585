package promote

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// Make is the commit that carries an ask out on top of tip, the commit its environment's ref stands for; a zero tip: there
// is no such ref yet. of is the commit that comes in: what Ask.Source names, or the change of a hotfix; it does not matter
// for a pin. The tree IS that of of, never a merge, so that nothing made by hand slips in. The same arguments give the same
// bytes, who's time among them, and so the same id.
func Make(environment string, a Ask, body string, tip, of source.Commit, who source.Person) (source.Commit, error) {
	message, err := Write(environment, a, body)
	if err != nil {
		return source.Commit{}, err
	}
	c := source.Commit{Tree: of.Tree, Author: who, Committer: who, Message: message}
	if tip.ID != "" {
		c.Parents = append(c.Parents, tip.ID)
	}
	switch a.Act {
	case Promotion, Rollback:
		if of.ID != a.Source {
			return source.Commit{}, fmt.Errorf("%s: commit %s was given for %s", a.Act, of.ID.Short(), a.Source.Short())
		}
		if a.Act == Promotion {
			c.Parents = append(c.Parents, of.ID)
		}
	case Hotfix:
		c.Parents = append(c.Parents, of.ID)
	case Pin, Unpin, Plain:
		c.Tree = tip.Tree
	}
	if tip.ID == "" && a.Act != Promotion {
		return source.Commit{}, fmt.Errorf("%s: environment %s has no commit yet", a.Act, environment)
	}
	if !c.Tree.Valid() {
		return source.Commit{}, fmt.Errorf("%s: %q is no tree", a.Act, clip(string(c.Tree), 64))
	}
	return c, nil
}

// Request names an act: what is asked of which tip. Whoever tries again, because an answer was lost or a leader died, comes
// to the same name, and finds by it whether the commit was made (Made).
func Request(environment string, tip source.ID, a Ask) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "shoal request 1\n%q %q %q %q %q %q %d %q\n", environment, tip, a.Act, a.From, a.Source, a.Waived, a.PinUntil, a.Render))
	return hex.EncodeToString(sum[:16])
}

// sameTry is by how much the pins of two tries may differ, ms: who says "for 24h" again says another time.
const sameTry = 10 * 60 * 1000

// Made tells whether tip, the newest commit of an environment's branch, is what a asks for: somebody has made it on the commit before it for
// the same request. Its tree is to be that of of, the commit that comes in.
func Made(environment string, a Ask, tip, of source.Commit) bool {
	if a.Act != Promotion && a.Act != Rollback && a.Act != Hotfix || tip.ID == "" || tip.Tree != of.Tree {
		return false
	}
	found, err := Read(tip.Message)
	if err != nil || found.Act != a.Act || found.Request == "" {
		return false
	}
	before := source.ID("")
	parents := tip.Parents
	if a.Act != Rollback { // the last one is what comes in
		if len(parents) == 0 || parents[len(parents)-1] != of.ID {
			return false
		}
		parents = parents[:len(parents)-1]
	}
	if len(parents) > 0 {
		before = parents[0]
	}
	if d := a.PinUntil - found.PinUntil; a.PinUntil != 0 && found.PinUntil != 0 && d >= -sameTry && d <= sameTry {
		a.PinUntil = found.PinUntil
	}
	return Request(environment, before, a) == found.Request
}

// Exact names what an environment runs at a commit: its render and the digests that its images' tags were resolved to
// when it was activated. Evidence and promotions are of this, so a tag that moves is something else than was tested.
func Exact(d desired.Digest, images map[string]string) desired.Digest {
	var b strings.Builder
	fmt.Fprintf(&b, "shoal exact 1\n%s\n", d)
	for _, ref := range slices.Sorted(maps.Keys(images)) {
		fmt.Fprintf(&b, "%q %q\n", ref, images[ref])
	}
	return desired.DigestOf([]byte(b.String()))
}
