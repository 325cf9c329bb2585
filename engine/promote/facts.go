package promote

import (
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// Facts is all that Judge knows beside the rules and the claim. Trees and parents are as Git has them, the rest as the
// ledger and the verified signatures say. Lists may come in any order.
type Facts struct {
	// Candidate is the commit that asks to come in; with ID "" it is only thought of, and its tree does not matter.
	Candidate Commit `json:"candidate"`
	// Active is what runs in the environment; ID "": nothing yet.
	Active Commit `json:"active"`
	// Of is the commit that Ask.Source names, for a hotfix the second parent of Candidate, if it has one.
	Of Commit `json:"of"`
	// Between is what each first-parent commit behind Active and before Candidate claims; one that cannot be read is Plain.
	Between []Ask `json:"between,omitempty"`
	// Runs is what the environments of `after` run and ran.
	Runs []Run `json:"runs,omitempty"`
	// Past is which commits were active here.
	Past []source.ID `json:"past,omitempty"`
	// Authors wrote, committed or signed a commit that would come in; users, as approvals name them.
	Authors   []string   `json:"authors,omitempty"`
	Approvals []Approval `json:"approvals,omitempty"`
	Evidence  []Evidence `json:"evidence,omitempty"`
	// ByGroups is which groups who asks is in: who signed Candidate; only where that is the ring itself, Ask.By.
	ByGroups []string `json:"byGroups,omitempty"`
	// Compared says that Differences holds what Same found between what would run here and the environment of same.as.
	Compared    bool         `json:"compared,omitempty"`
	Differences []Difference `json:"differences,omitempty"`
	// Pin, Owed and Undone follow from the environment's History.
	Pin    *Pinned  `json:"pin,omitempty"`
	Owed   []Debt   `json:"owed,omitempty"`
	Undone []Undone `json:"undone,omitempty"`
}

// Commit is what matters of a commit.
type Commit struct {
	ID      source.ID   `json:"id"`
	Tree    source.ID   `json:"tree,omitempty"`
	Parents []source.ID `json:"parents,omitempty"`
	Signer  string      `json:"signer,omitempty"` // user whose key signed it, verified; "" if nobody's did
}

// Run is a commit that an environment runs, or ran. Times are ms; 0 is never.
type Run struct {
	Environment string         `json:"environment"`
	Commit      source.ID      `json:"commit"`
	Tree        source.ID      `json:"tree"`
	Render      desired.Digest `json:"render"`            // Exact
	Since       int64          `json:"since"`             // when it was activated
	Healthy     int64          `json:"healthy,omitempty"` // since when all of it has been healthy without a break, up to now or Until; 0: it is not
	Until       int64          `json:"until,omitempty"`   // when another commit took its place; 0: it runs
	Ill         string         `json:"ill,omitempty"`     // what is not healthy
	Undone      string         `json:"undone,omitempty"`  // why its environment went back from it
}

// Approval is a user's signed word for a commit, verified: tag shoal/approve/<environment>/<commit>/<user>.
type Approval struct {
	User        string    `json:"user"`
	Groups      []string  `json:"groups,omitempty"`
	Environment string    `json:"environment"`
	Commit      source.ID `json:"commit"`
}

// Evidence is what a check or a verifying Job found on a render.
type Evidence struct {
	Gate        string         `json:"gate"` // "verify:smoke", "checks:latency"
	Environment string         `json:"environment"`
	Render      desired.Digest `json:"render"` // Exact
	Since       int64          `json:"since"`  // when it was found
	Expires     int64          `json:"expires,omitempty"`
	OK          bool           `json:"ok"`
	Signer      string         `json:"signer,omitempty"` // node
	Text        string         `json:"text,omitempty"`
}

// Pinned is a pin that stands.
type Pinned struct {
	Until  int64     `json:"until"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason"`
	Commit source.ID `json:"commit,omitempty"` // that pinned
}

// Debt is a hotfix that what comes in would take back.
type Debt struct {
	Commit source.ID `json:"commit"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason"`
	Waived []string  `json:"waived,omitempty"`
	When   int64     `json:"when"`
}

// Undone is a promotion that a rollback took back.
type Undone struct {
	Source source.ID `json:"source"` // the commit that had been promoted
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}
