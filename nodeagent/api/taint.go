package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Taint is a change of a node's taints.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect,omitempty"` // with Off: "" is every effect
	Off    bool   `json:"off,omitempty"`    // it is to go
}

// maxTaints bounds the body of a request, in bytes.
const maxTaints = 64 << 10

func (s *Server) taints(mux *http.ServeMux, b nodesBackend) {
	mux.HandleFunc("POST /v1/nodes/{name}/taints", s.answer(func(r *http.Request) (any, error) {
		var changes []Taint
		if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxTaints)).Decode(&changes); err != nil {
			return nil, fmt.Errorf("taints: %w", err)
		}
		return struct{}{}, b.Taint(r.Context(), r.PathValue("name"), changes)
	}))
}

// Taint changes a node's taints, one after the other; it stops at the first that is refused.
func (c *Client) Taint(ctx context.Context, node string, changes []Taint) error {
	return c.post(ctx, "nodes/"+url.PathEscape(node)+"/taints", changes, &struct{}{})
}
