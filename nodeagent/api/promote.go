package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/shoal-dev/shoal/engine/diff"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/promote"
)

// PromoteRequest asks for a commit on an environment's branch.
type PromoteRequest struct {
	Act         promote.Act `json:"act"`
	Environment string      `json:"environment"`
	From        string      `json:"from,omitempty"`        // promotion: the environment it comes from; "": the only one it may come from
	Source      string      `json:"source,omitempty"`      // commit, at least 4 hex digits; "": what From runs, or ran before
	By          string      `json:"by,omitempty"`          // who asks
	Reason      string      `json:"reason,omitempty"`      // one line
	PinFor      int64       `json:"pinFor,omitempty"`      // ms; 0: no pin
	Waive       []string    `json:"waive,omitempty"`       // hotfix: gates
	AllowDelete string      `json:"allowDelete,omitempty"` // a number, or "all": objects that may go
	DryRun      bool        `json:"dryRun,omitempty"`      // makes no commit
	// Render and Over are what was shown: what From ran at Source, and the commit of the branch that it was to come over, or
	// OverNothing. What is not so any more is refused. "": whatever it is.
	Render string `json:"render,omitempty"`
	Over   string `json:"over,omitempty"`
}

// OverNothing stands for the commit of a branch that there is not yet.
const OverNothing = "nothing"

// Promoted is what became of it.
type Promoted struct {
	Act         promote.Act     `json:"act"`
	Environment string          `json:"environment"`
	From        string          `json:"from,omitempty"`
	Ref         string          `json:"ref"`
	Active      string          `json:"active,omitempty"` // commit that runs in the environment
	Source      string          `json:"source,omitempty"` // that comes in
	Render      string          `json:"render,omitempty"` // what From ran at Source
	Over        string          `json:"over,omitempty"`   // commit of the branch that it comes over, or OverNothing
	Commit      string          `json:"commit,omitempty"` // that was made; "": none was
	Found       bool            `json:"found,omitempty"`  // Commit was there: a try before, or somebody at the same time, has made it
	By          string          `json:"by,omitempty"`     // who made what was found
	Already     bool            `json:"already,omitempty"`
	Coming      []ComingCommit  `json:"coming,omitempty"` // newest first, at most 100
	More        int             `json:"more,omitempty"`   // that are not listed
	Verdict     promote.Verdict `json:"verdict"`
	Report      *diff.Report    `json:"report,omitempty"` // in what it differs from what runs
}

// ComingCommit is one that comes in.
type ComingCommit struct {
	Commit  string `json:"commit"`
	Subject string `json:"subject"`
	Author  string `json:"author"`
}

// Envs is what the environments run and what is between them.
type Envs struct {
	Environments []EnvOf `json:"environments"`
}

// EnvOf is one environment.
type EnvOf struct {
	Name    string          `json:"name"`
	Ref     string          `json:"ref"`
	After   []string        `json:"after,omitempty"`
	Auto    bool            `json:"auto,omitempty"` // the ring promotes into it by itself
	Commit  string          `json:"commit,omitempty"`
	Subject string          `json:"subject,omitempty"`
	Act     promote.Act     `json:"act,omitempty"`     // what brought it in
	Since   int64           `json:"since,omitempty"`   // ms
	Healthy int64           `json:"healthy,omitempty"` // since when, ms; 0: it is not
	Ill     string          `json:"ill,omitempty"`
	Apps    []AppOf         `json:"apps,omitempty"`
	Pin     *promote.Pinned `json:"pin,omitempty"`
	Owed    []promote.Debt  `json:"owed,omitempty"` // hotfixes that are not merged back
	// Behind is what stands before it: for each environment in After, what it has that this one lacks.
	Behind []Behind `json:"behind,omitempty"`
	// Held is a commit that waits at the gates.
	Held    string          `json:"held,omitempty"`
	Verdict promote.Verdict `json:"verdict,omitzero"` // on it, or on what a promotion would bring
	Next    string          `json:"next,omitempty"`   // commit that a promotion would bring
	// Different are the fields in which it differs from the environment of same.as.
	As        string               `json:"as,omitempty"`
	Different []promote.Difference `json:"different,omitempty"`
}

// AppOf is an app in an environment.
type AppOf struct {
	Name   string `json:"name"`
	Commit string `json:"commit"`          // that last changed it there
	Ahead  bool   `json:"ahead,omitempty"` // an environment before it runs another state of it
}

// Behind is how far an environment lags behind one before it.
type Behind struct {
	Environment string `json:"environment"`
	Commits     int    `json:"commits"`
	Since       int64  `json:"since,omitempty"` // when the oldest of these was made, ms
}

// promoteBackend is what is asked about environments.
type promoteBackend interface {
	Promote(ctx context.Context, req PromoteRequest) (Promoted, error)
	Envs(ctx context.Context, environment string) (Envs, error)
	History(ctx context.Context, environment string, most int) ([]promote.Event, error)
	Previews(ctx context.Context) (Previews, error)
	WakePreview(ctx context.Context, name string) error
	Receipt(ctx context.Context, name string) (preview.Receipt, error)
}

// Previews are those that should be there, and the pull requests that have none.
type Previews struct {
	Previews []PreviewOf       `json:"previews"`
	Waiting  []preview.Waiting `json:"waiting,omitempty"`
}

// PreviewOf is one preview.
type PreviewOf struct {
	preview.Have
	Active   string   `json:"active,omitempty"` // commit that runs
	Ready    bool     `json:"ready"`
	Ill      string   `json:"ill,omitempty"`
	Problems []string `json:"problems,omitempty"`
	Ports    []string `json:"ports,omitempty"` // "web:30412"
	Names    []string `json:"names,omitempty"` // that its Services have in the ring as long as this commit is what runs, with their ports
}

func (s *Server) promotions(mux *http.ServeMux, b promoteBackend) {
	mux.HandleFunc("POST /v1/promote", s.answer(func(r *http.Request) (any, error) {
		var req PromoteRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		return b.Promote(r.Context(), req)
	}))
	mux.HandleFunc("GET /v1/previews", s.answer(func(r *http.Request) (any, error) { return b.Previews(r.Context()) }))
	mux.HandleFunc("GET /v1/previews/{name}/receipt", s.answer(func(r *http.Request) (any, error) { return b.Receipt(r.Context(), r.PathValue("name")) }))
	mux.HandleFunc("POST /v1/previews/{name}/wake", s.answer(func(r *http.Request) (any, error) {
		return struct{}{}, b.WakePreview(r.Context(), r.PathValue("name"))
	}))
	mux.HandleFunc("GET /v1/envs", s.answer(func(r *http.Request) (any, error) { return b.Envs(r.Context(), r.URL.Query().Get("environment")) }))
	mux.HandleFunc("GET /v1/environments/{name}/history", s.answer(func(r *http.Request) (any, error) {
		const most = 500
		return b.History(r.Context(), r.PathValue("name"), most)
	}))
}

// Promote has a commit made that moves an environment, or says why not.
func (c *Client) Promote(ctx context.Context, req PromoteRequest) (p Promoted, err error) {
	return p, c.post(ctx, "promote", req, &p)
}

// Envs asks what the environments run; of one, or of all for "".
func (c *Client) Envs(ctx context.Context, environment string) (e Envs, err error) {
	return e, c.get(ctx, "envs", url.Values{"environment": {environment}}, &e)
}

// History asks what happened to an environment, by its branch, newest first.
func (c *Client) History(ctx context.Context, environment string) (events []promote.Event, err error) {
	return events, c.get(ctx, "environments/"+url.PathEscape(environment)+"/history", url.Values{}, &events)
}

// Previews asks which previews there are.
func (c *Client) Previews(ctx context.Context) (p Previews, err error) {
	return p, c.get(ctx, "previews", url.Values{}, &p)
}

// WakePreview has the pods of a preview start that sleeps.
func (c *Client) WakePreview(ctx context.Context, name string) error {
	return c.post(ctx, "previews/"+url.PathEscape(name)+"/wake", nil, &struct{}{})
}

// Receipt asks what is left of a preview that is gone.
func (c *Client) Receipt(ctx context.Context, name string) (r preview.Receipt, err error) {
	return r, c.get(ctx, "previews/"+url.PathEscape(name)+"/receipt", url.Values{}, &r)
}
