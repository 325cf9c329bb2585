package nodeagent

import (
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// unreadText is of a ring that has nothing yet, and has not seen its repository: what was pushed to it by hand may be another's.
const unreadText = "the repository was not read yet, so nobody knows whether another ring runs it"

// heldText says why a ring activates nothing; "" if it does. It is one paragraph, the same on all nodes, and ends in what is to
// be done.
func heldText(c source.Claim, ring string) string {
	this := fmt.Sprintf("This ring, %.8s, renders and plans, and activates nothing; what it runs goes on. ", ring)
	switch c.Standing(ring) {
	case source.Foreign:
		return fmt.Sprintf("the repository is claimed by %s. %sTo have it run here, and nothing new there: shoal ring claim", holder(c), this)
	case source.Unclear:
		return fmt.Sprintf("%s of the repository names no ring: %s (expected a commit with the trailer %s: <identity>), so another may run it. %sTo put a claim of this ring in its place: shoal ring claim",
			source.ClaimRef, c.Flaw, source.TrailerRing, this)
	case source.Orphan:
		was := "named no ring"
		if c.Ring != "" {
			was = "was the claim of " + holder(c)
		}
		return fmt.Sprintf("%s of the repository %s, and is gone: nobody has said that it may run here. %sTo have it run here: shoal ring claim", source.ClaimRef, was, this)
	}
	return ""
}

func holder(c source.Claim) string {
	return fmt.Sprintf("ring %.8s (by %s, since %s)", c.Ring, c.By, time.Unix(c.When, 0).UTC().Format("2006-01-02 15:04 UTC"))
}

// freeText warns of a repository that nobody has claimed; failing is why this node could not, if it tried.
func freeText(failing error) string {
	const means = "another ring with the same repository would run everything a second time. Who may write there claims it by what this prints: shoal ring claim --print"
	if failing == nil {
		return "no ring has claimed the repository yet: " + means
	}
	return fmt.Sprintf("the repository could not be claimed for this ring (%v). It runs, but %s", failing, means)
}
