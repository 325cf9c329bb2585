package api

import (
	"context"
	"net/http"
)

// RingKey is the public key of the ring, which signs the commits that it makes.
type RingKey struct {
	Principal   string `json:"principal"`   // as whom it is to be listed
	Fingerprint string `json:"fingerprint"` // "SHA256:..."
	Line        string `json:"line"`        // of keys/signers
}

func (s *Server) ringKey(mux *http.ServeMux, b nodesBackend) {
	mux.HandleFunc("GET /v1/ringkey", s.answer(func(r *http.Request) (any, error) { return b.RingKey(r.Context()) }))
}

// RingKey asks for the key that the ring signs by.
func (c *Client) RingKey(ctx context.Context) (out RingKey, err error) {
	return out, c.get(ctx, "ringkey", nil, &out)
}
