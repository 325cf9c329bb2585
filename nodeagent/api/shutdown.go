package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

type downBackend interface {
	// Shutdown ends what runs on this node, within grace, and returns when nothing does. Nothing is started afterwards.
	Shutdown(ctx context.Context, grace time.Duration) error
}

// shutdownRequest says how long it may take.
type shutdownRequest struct {
	GraceMS int64 `json:"graceMS"` // 0 to an hour
}

func (s *Server) down(mux *http.ServeMux, b downBackend) {
	mux.HandleFunc("POST /v1/shutdown", s.answer(func(r *http.Request) (any, error) {
		var req shutdownRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		grace := time.Duration(req.GraceMS) * time.Millisecond
		if grace < 0 || grace > time.Hour {
			return nil, fmt.Errorf("grace %s: expected 0s to 1h", grace)
		}
		return struct{}{}, b.Shutdown(r.Context(), grace)
	}))
}

// Shutdown ends what runs on this node, within grace.
func (c *Client) Shutdown(ctx context.Context, grace time.Duration) error {
	return c.post(ctx, "shutdown", shutdownRequest{grace.Milliseconds()}, &struct{}{})
}
