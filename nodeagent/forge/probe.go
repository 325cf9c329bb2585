package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	probeBody = 64 << 10 // bytes of an answer
	probeTime = 10 * time.Second
)

// clue is a question that tells a kind of forge. None carries a token.
type clue struct {
	kind Kind
	base string // below the server's address
	path string
	is   func(status int, h http.Header, body []byte) bool
}

// clues in order: Gitea answers under no other forge's path.
var clues = []clue{
	{Gitea, "/api/v1", "/version", func(status int, _ http.Header, body []byte) bool {
		return status == http.StatusOK && versionOf(body) != ""
	}},
	{GitLab, "/api/v4", "/version", func(status int, h http.Header, body []byte) bool {
		refused := status == http.StatusUnauthorized && strings.Contains(string(body), `"401 Unauthorized"`)
		return begins(body, '{', "") == nil && (refused || status == http.StatusOK && h.Get("X-Gitlab-Meta") != "" && versionOf(body) != "")
	}},
	{GitHub, "/api/v3", "/meta", func(status int, h http.Header, body []byte) bool {
		known := h.Get("X-GitHub-Request-Id") != "" || h.Get("X-GitHub-Enterprise-Version") != ""
		return known && (status == http.StatusOK || status == http.StatusUnauthorized) && begins(body, '{', "") == nil
	}},
	// A Gitea that shows strangers nothing refuses its version, in its own way.
	{Gitea, "/api/v1", "/version", func(status int, _ http.Header, body []byte) bool {
		return (status == http.StatusForbidden || status == http.StatusUnauthorized) && strings.Contains(string(body), "/api/swagger")
	}},
}

// Probe finds the kind and the API's address of a forge whose name does not tell, by asking for its version without a
// token. A place whose kind is known is returned as it is. The forge may lie below the first part of the path, which
// is then taken off. h may be nil. An error says what was asked and what came; it may be worth a retry if the host
// could not be reached.
func Probe(ctx context.Context, p Place, h *http.Client) (Place, error) {
	if p.Kind != "" && p.Base != "" {
		return p, nil
	}
	scheme := "https://"
	if p.Plain {
		scheme = "http://"
	}
	servers := []Place{{Host: p.Host, Path: p.Path, Plain: p.Plain, Base: scheme + p.Host}}
	if below, rest, _ := strings.Cut(p.Path, "/"); strings.Contains(rest, "/") {
		servers = append(servers, Place{Host: p.Host, Path: rest, Plain: p.Plain, Base: scheme + p.Host + "/" + below})
	}
	h = careful(h)
	var faults []error
	for _, server := range servers {
		for _, c := range clues {
			if p.Kind != "" && p.Kind != c.kind && (p.Kind != Forgejo || c.kind != Gitea) {
				continue
			}
			found, err := ask(ctx, h, server, c)
			if err == nil {
				return found, nil
			}
			faults = append(faults, err)
		}
	}
	return Place{}, fmt.Errorf("find the kind of forge at %s: %w", p.Host, errors.Join(faults...))
}

// ask puts one question to one server.
func ask(ctx context.Context, h *http.Client, server Place, c clue) (Place, error) {
	address := server.Base + c.base + c.path
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return Place{}, errors.New("expected a host")
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "application/json")
	resp, err := h.Do(req)
	if err != nil {
		return Place{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, probeBody))
	if err != nil {
		return Place{}, fmt.Errorf("%s: %w", address, err)
	}
	if !c.is(resp.StatusCode, resp.Header, body) {
		return Place{}, fmt.Errorf("%s: status %d, not as %s answers", address, resp.StatusCode, c.kind)
	}
	found := Place{Kind: c.kind, Host: server.Host, Path: server.Path, Plain: server.Plain, Base: server.Base + c.base}
	if c.kind == Gitea && strings.Contains(versionOf(body), "+gitea-") {
		found.Kind = Forgejo // it adds the version of Gitea whose API it keeps to its own
	}
	if err := checkPath(found.Kind, found.Path); err != nil {
		return Place{}, err
	}
	return found, nil
}

// versionOf reads {"version": "..."}; "" if it is not that.
func versionOf(body []byte) string {
	var said struct {
		Version string `json:"version"`
	}
	if begins(body, '{', "") != nil || json.Unmarshal(body, &said) != nil {
		return ""
	}
	return said.Version
}
