package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/shoal-dev/shoal/engine/diff"
	"github.com/shoal-dev/shoal/engine/render"
)

// PlanRequest asks what would happen if an environment came to a tree of manifests; without one, of what runs.
type PlanRequest struct {
	Environment string `json:"environment,omitempty"` // "": the one that follows To's branch, else the first by name
	From        *Tree  `json:"from,omitempty"`        // what To is compared with; nil: what runs
	To          *Tree  `json:"to,omitempty"`
	// Objects are those of the trees that the agent's mirror does not have: Lacking tells.
	Objects []GitObject `json:"objects,omitempty"`
	// Without asks what would happen next if these nodes were lost; "1", "2" or "any" for every loss of one node, of one or
	// two, or of one.
	Without []string `json:"without,omitempty"`
}

// Tree names a tree of manifests: by its id, or by a revision that the agent's mirror knows.
type Tree struct {
	Name     string `json:"name,omitempty"`     // what people call it: "main", "the working tree"
	Revision string `json:"revision,omitempty"` // a branch, a tag, or an id or its first digits, if Root is ""
	Root     string `json:"root,omitempty"`     // the id of the directory that has shoal.cue
	Commit   string `json:"commit,omitempty"`   // "": it is none yet
	Branch   string `json:"branch,omitempty"`   // "refs/heads/main", if it was named by one
	Message  string `json:"message,omitempty"`  // the commit's, for its trailers
}

// GitObject is a tree or a blob, as Git has it.
type GitObject struct {
	Kind string `json:"kind"` // "tree" or "blob"
	Data []byte `json:"data"`
}

// Plan is what would be done.
type Plan struct {
	Environment string       `json:"environment"`
	Declared    []string     `json:"declared,omitempty"`   // environments that there would be, by name
	Undeclared  []string     `json:"undeclared,omitempty"` // environments that run and would not be declared any more
	Commit      string       `json:"commit,omitempty"`     // that was asked about; "": a working tree
	FromCommit  string       `json:"fromCommit,omitempty"`
	From        string       `json:"from"`             // D that runs
	To          string       `json:"to"`               // D that was asked about
	Digest      string       `json:"digest,omitempty"` // of the plan: the changes of objects, sorted; as in Report
	Report      *diff.Report `json:"report,omitempty"`
	Objects     []Change     `json:"objects"`
	Pods        []Change     `json:"pods"`
	Unchanged   int          `json:"unchanged"` // pods that go on untouched
	Actions     []Action     `json:"actions,omitempty"`
	Losses      []Loss       `json:"losses,omitempty"` // that were asked about, the worst first
	Note        string       `json:"note,omitempty"`   // why none of it would happen now

	Held     []string        `json:"held,omitempty"`     // apps that would stay at their last good objects
	Problems render.Problems `json:"problems,omitempty"` // why they would, or why all would
	Warnings render.Problems `json:"warnings,omitempty"` // allowed, and probably not meant
}

// planBackend answers what would be done.
type planBackend interface {
	Plan(ctx context.Context, req PlanRequest) (Plan, error)
	// Lacking returns those of some Git objects that the mirror does not have.
	Lacking(ctx context.Context, ids []string) ([]string, error)
}

// Plan asks what would happen.
func (c *Client) Plan(ctx context.Context, req PlanRequest) (p Plan, err error) {
	return p, c.post(ctx, "plan", req, &p)
}

// Lacking asks which of some Git objects, named by their ids, the agent's mirror does not have.
func (c *Client) Lacking(ctx context.Context, ids []string) (lacking []string, err error) {
	return lacking, c.post(ctx, "objects/lacking", ids, &lacking)
}

// plansAtOnce bounds the memory that plans take: each may bring as much as a request is long.
const plansAtOnce = 2

func (s *Server) plans(mux *http.ServeMux, b planBackend) {
	turns := make(chan struct{}, plansAtOnce)
	mux.HandleFunc("POST /v1/plan", s.answer(func(r *http.Request) (any, error) {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
		var req PlanRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		return b.Plan(r.Context(), req)
	}))
	mux.HandleFunc("POST /v1/objects/lacking", s.answer(func(r *http.Request) (any, error) {
		var ids []string
		if err := json.NewDecoder(r.Body).Decode(&ids); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		return b.Lacking(r.Context(), ids)
	}))
}
