package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Claim is how a ring stands to the repository that it follows.
type Claim struct {
	URL      string    `json:"url"` // of the repository, without secrets
	Ref      string    `json:"ref"` // that names its ring
	Ring     string    `json:"ring"`
	Standing string    `json:"standing"` // "claimed", "unclaimed", "claimed by another ring"
	Own      bool      `json:"own"`
	ID       string    `json:"id,omitempty"`     // what the ref stands for; "": it is not there
	Gone     bool      `json:"gone,omitempty"`   // it was there
	Holder   string    `json:"holder,omitempty"` // the ring that it names
	By       string    `json:"by,omitempty"`     // who made it
	Since    time.Time `json:"since,omitzero"`
	Flaw     string    `json:"flaw,omitempty"`    // why it names no ring
	Held     string    `json:"held,omitempty"`    // why this ring activates nothing
	Warning  string    `json:"warning,omitempty"` // what could go wrong although it does
}

// Shown is what a claim is taken over by: what stands at the ref.
func (c Claim) Shown() string {
	if c.Gone {
		return ""
	}
	return c.ID
}

func (s *Server) claims(mux *http.ServeMux, b nodesBackend) {
	mux.HandleFunc("GET /v1/claim", s.answer(func(r *http.Request) (any, error) { return b.Claim(r.Context()) }))
	mux.HandleFunc("POST /v1/claim", s.answer(func(r *http.Request) (any, error) {
		return b.TakeClaim(r.Context(), r.URL.Query().Get("shown"))
	}))
}

// Claim asks the repository's host whose it is.
func (c *Client) Claim(ctx context.Context) (out Claim, err error) {
	return out, c.get(ctx, "claim", nil, &out)
}

// TakeClaim claims the repository for the agent's ring, if what was shown still stands there.
func (c *Client) TakeClaim(ctx context.Context, shown string) (out Claim, err error) {
	return out, c.post(ctx, "claim?shown="+url.QueryEscape(shown), nil, &out)
}
