package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Environment is what a render may know beside the commit: the facts behind CUE's tags.
type Environment struct {
	Name       string            // "dev", "production", "pr-12"; @tag(environment)
	Ref        string            // "refs/heads/main"; @tag(ref)
	Class      string            // chooses values/<class>.cue by @if(<class>); default Name
	Namespace  string            // of objects that name none; default Name
	Namespaces map[string]string // further namespaces objects may name: from -> to
	PR         string            // number of the pull request of a preview, or ""; @tag(pr)
	URL        string            // where the environment answers, or ""; @tag(url)
	Atomic     bool              // one app's error holds back the whole commit
	Allow      []string          // rules of admission that the repository's policy lifts here: "pod-security/privileged"
	NoSecrets  bool              // it gets none of what is sealed in secrets/, as a preview of a fork
	SecretsOf  string            // whose secrets/<SecretsOf>/ it gets: "preview" for previews; default Name
	DenyEgress bool              // its pods may speak to each other alone, as those of a preview of a fork
	Restricted bool              // pods are held to the Pod Security Standard "restricted", whatever Allow says
	Nodes      map[string]string // labels of the nodes that its pods may run on; none: every node
	Quota      map[string]string // what it may ask for in all, as Kubernetes' spec.hard: resource -> quantity

	Policy Policy // who may move it, and when: nothing that is rendered depends on it
}

// Policy is what shoal.cue says of an environment as far as promotion goes, for package promote to read.
type Policy struct {
	JSON  []byte         // after, promote, rollbackAfter, gates, hotfix, same: those that are set
	Lines map[string]int // of their fields in shoal.cue, by path: "environments.production.gates.soak"
	// Previews is what shoal.cue says of previews, for package preview to read: each environment of a repository has it; nil: nothing.
	Previews []byte
	// NodesAt and QuotaAt are where shoal.cue says Environment.Nodes and Quota: "environments.dev.nodes", "previews.each".
	NodesAt, QuotaAt string
}

// OfPreview is the policy of a preview, in a repository whose environments have p: none but where its limits stand.
func (p Policy) OfPreview() Policy {
	return Policy{Lines: p.Lines, NodesAt: "previews.nodes", QuotaAt: "previews.each"}
}

// Line is where a field stands in shoal.cue, or else the nearest above it that stands there; 0: none does.
func (p Policy) Line(path string) int {
	for path != "" {
		if n, ok := p.Lines[path]; ok {
			return n
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

// Object is one object as its author wrote it, before Kubernetes' defaulting: JSON, with the place to mend it.
type Object struct {
	JSON []byte // canonical: sorted keys, no white space
	File string // path in the repository
	Line int    // from 1

	place placer // nil in an object that came from another process
}

// App is what one apps/<name>/ evaluates to.
type App struct {
	Name     string
	Objects  []Object // sorted by kind, namespace, name
	Problems Problems // if any, Objects is nil
}

// Problem is one thing wrong with a manifest, at the place where its author can mend it.
type Problem struct {
	File string `json:"file"`           // path in the repository, slash-separated
	Line int    `json:"line,omitempty"` // from 1; 0 when the whole file is meant
	Path string `json:"path,omitempty"` // the field, "app.web.replicas"; empty if none
	Text string `json:"text"`           // what is wrong and what was expected, in the author's terms
	App  string `json:"app,omitempty"`  // the app held back by it; empty when it is the repository's
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	b.WriteString(": " + p.Text)
	return b.String()
}

// Error makes a Problem an error, so that errors.AsType finds it.
func (p Problem) Error() string { return p.String() }

// Problems is every fault found in a commit, one a line, sorted by place.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.AsType find each Problem.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// Sorted returns the problems by file, line, path and text, each once.
func (ps Problems) Sorted() Problems {
	out := slices.Clone(ps)
	slices.SortFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(out)
}
