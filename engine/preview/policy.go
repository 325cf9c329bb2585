package preview

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// Class chooses the values of previews, values/preview.cue, and their secrets, secrets/preview/. No environment has this name where there are
// previews: what is sealed for it would be theirs.
const Class = "preview"

// FromPulls is a Policy's From for open pull requests (or merge requests), as a forge lists them.
const FromPulls = "pulls"

// Policy is the previews of a repository, as its base says.
type Policy struct {
	From      string        `json:"from"`                // FromPulls, or a pattern of branches: "preview/*", "feature/**"
	Base      string        `json:"base"`                // branch that pull requests go to: "main"; "": any
	TTL       time.Duration `json:"ttl,omitempty"`       // how long a preview stays after its head was last pushed; 0: until it is closed
	Quota     int           `json:"quota"`               // previews in all; 0: none
	PerAuthor int           `json:"perAuthor,omitempty"` // previews of one author; 0: as many as Quota
	Idle      time.Duration `json:"idle,omitempty"`      // without a request for this long its pods stop until the next one; 0: never
	Drafts    bool          `json:"drafts,omitempty"`    // drafts get a preview too
	Pin       string        `json:"pin,omitempty"`       // label: TTL does not count; "": there is none
	Forks     Forks         `json:"forks,omitzero"`
	// Nodes are labels of the nodes that previews run on, Each is what one may ask for: resource -> quantity.
	Nodes map[string]string `json:"nodes,omitempty"`
	Each  map[string]string `json:"each,omitempty"`
}

// Forks says whether pull requests of forks get a preview.
type Forks struct {
	Approval string `json:"approval,omitempty"` // label by which a maintainer approves the head as it is; "": none get one
}

// Sandbox is what a preview must not have.
type Sandbox struct {
	NoSecrets  bool `json:"noSecrets,omitempty"`  // of the repository
	DenyEgress bool `json:"denyEgress,omitempty"` // by default: nothing but its own namespace and names
	Restricted bool `json:"restricted,omitempty"` // Pod Security Standard "restricted", without exceptions
}

// sandboxed is the sandbox of what strangers wrote.
var sandboxed = Sandbox{NoSecrets: true, DenyEgress: true, Restricted: true}

// Check says what is wrong with a policy: a line a field.
func (p Policy) Check() []string {
	var out []string
	bad := func(field, text string) { out = append(out, "previews."+field+": "+text) }
	if p.From != FromPulls && !patternOK(p.From) {
		bad("from", "expected "+FromPulls+", or a pattern of branches like preview/* or feature/**")
	}
	if p.Base != "" && source.CheckRefName(source.FullRefName(p.Base)) != nil {
		bad("base", "expected a branch like main")
	}
	if p.TTL < 0 {
		bad("ttl", "expected a duration like 72h")
	}
	if p.Idle < 0 {
		bad("idle", "expected a duration like 30m")
	}
	if p.Quota < 0 || p.Quota > MaxQuota {
		bad("quota", "expected 0 to 500")
	}
	if p.PerAuthor < 0 || p.PerAuthor > MaxQuota {
		bad("perAuthor", "expected 0 to 500")
	}
	for _, f := range kube.CheckNodes(p.Nodes) {
		bad(render.FieldPath("nodes", f.Path), f.Text)
	}
	for _, f := range kube.CheckQuota(p.Each) {
		bad(render.FieldPath("each", f.Path), f.Text)
	}
	return out
}

// MaxQuota bounds the previews of a repository.
const MaxQuota = 500

func patternOK(p string) bool {
	if p == "" || len(p) > 200 {
		return false
	}
	if _, err := path.Match(strings.TrimSuffix(p, "/**"), "x"); err != nil {
		return false
	}
	return !strings.Contains(strings.TrimSuffix(p, "/**"), "**")
}

// Fits says whether a branch is one of the policy's pattern.
func (p Policy) Fits(branch string) bool { return p.From != FromPulls && matches(p.From, branch) }

// matches says whether a branch is one of a pattern: "*" stands for anything but a slash, "/**" at the end for all below.
func matches(pattern, branch string) bool {
	below, deep := strings.CutSuffix(pattern, "/**")
	if !deep {
		ok, err := path.Match(pattern, branch)
		return ok && err == nil
	}
	parts := strings.Split(branch, "/")
	n := strings.Count(below, "/") + 1
	if len(parts) <= n {
		return false
	}
	ok, err := path.Match(below, strings.Join(parts[:n], "/"))
	return ok && err == nil
}

// Pull is an open pull request, or a branch that a pattern is asked about, as the forge or Git tells it.
type Pull struct {
	Number  int       `json:"number,omitempty"` // 0: a branch
	Branch  string    `json:"branch"`           // name of the head's branch, as its owner chose it
	Author  string    `json:"author"`
	Fork    bool      `json:"fork,omitempty"` // the head is in another repository
	Draft   bool      `json:"draft,omitempty"`
	Base    string    `json:"base"` // branch it goes to
	Head    source.ID `json:"head"`
	Opened  int64     `json:"opened"`  // ms; its place in the queue
	Updated int64     `json:"updated"` // when Head was pushed, ms
	Labels  []string  `json:"labels,omitempty"`
	// Approved is the head for which a maintainer set Forks.Approval; "": none did.
	Approved source.ID `json:"approved,omitempty"`
	Merge    Merged    `json:"merge,omitzero"`
}

// Merged is what became of merging a head with its base.
type Merged struct {
	Head      source.ID `json:"head,omitempty"` // the head that was merged; another than Pull.Head is out of date
	Base      source.ID `json:"base,omitempty"`
	Commit    source.ID `json:"commit,omitempty"` // the merge; "" if there is none
	Conflicts []string  `json:"conflicts,omitempty"`
	Why       string    `json:"why,omitempty"` // it cannot be made, and not for a conflict
}

// pinned says whether TTL does not count.
func (p Policy) pinned(pull Pull) bool { return p.Pin != "" && slices.Contains(pull.Labels, p.Pin) }
