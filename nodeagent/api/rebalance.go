package api

import (
	"context"
	"net/http"
	"net/url"
)

// Rebalance is what a rebalance would do, or how far the one is that goes on.
type Rebalance struct {
	Moves []Move `json:"moves,omitempty"` // that are under way, or that would be made, in this order
	Going bool   `json:"going,omitempty"`
	Moved int    `json:"moved,omitempty"` // pods that were told to move so far
}

// Move is one pod that goes to another node.
type Move struct {
	Pod      string `json:"pod"`      // "dev/web-5d9c-x2x4z"
	Workload string `json:"workload"` // "Deployment dev/web"
	From     string `json:"from"`
	To       string `json:"to"`
	Why      string `json:"why"`
}

func (s *Server) rebalance(mux *http.ServeMux, b nodesBackend) {
	mux.HandleFunc("GET /v1/rebalance", s.answer(func(r *http.Request) (any, error) { return b.PlanRebalance(r.Context()) }))
	mux.HandleFunc("POST /v1/rebalance", s.answer(func(r *http.Request) (any, error) {
		return struct{}{}, b.Rebalance(r.Context(), r.URL.Query().Get("off") != "")
	}))
}

// PlanRebalance asks what a rebalance would do, or how far the one is that goes on.
func (c *Client) PlanRebalance(ctx context.Context) (r Rebalance, err error) {
	return r, c.get(ctx, "rebalance", url.Values{}, &r)
}

// Rebalance begins one, or ends the one that goes on.
func (c *Client) Rebalance(ctx context.Context, off bool) error {
	path := "rebalance"
	if off {
		path += "?off=1"
	}
	return c.post(ctx, path, nil, &struct{}{})
}
