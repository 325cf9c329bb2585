package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Ring is the list of nodes.
type Ring struct {
	Ring   string `json:"ring"`
	Engine int    `json:"engine"` // version in force
	Claim  *Claim `json:"claim,omitempty"`
	Nodes  []Node `json:"nodes"`
}

// Node is one machine of the ring.
type Node struct {
	Name    string            `json:"name"`
	ID      string            `json:"id"`
	Address string            `json:"address"`
	Key     string            `json:"key,omitempty"` // public, base64
	Zone    string            `json:"zone,omitempty"`
	Arch    string            `json:"arch,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Taints  []string          `json:"taints,omitempty"`       // "key=value:Effect"
	Short   string            `json:"diskPressure,omitempty"` // how its disk is short; "": it has room
	// ClockAhead is by how many ms its clock was ahead of most voters' when it was found to be wrong, negative if it was
	// behind; 0: it is right.
	ClockAhead int64 `json:"clockAhead,omitempty"`

	State    string    `json:"state"` // "Ready", "NotReady", "Lost" (its lease is over), "Joining", "Restarting", "Unsteady"
	Cordoned bool      `json:"cordoned,omitempty"`
	Draining bool      `json:"draining,omitempty"`
	Voter    bool      `json:"voter,omitempty"`
	Leader   bool      `json:"leader,omitempty"`
	Self     bool      `json:"self,omitempty"` // it is the one that was asked
	Pods     int       `json:"pods"`           // that have not ended
	PodCIDR  string    `json:"podCIDR"`
	Engine   int       `json:"engine"` // highest version it knows
	Joined   time.Time `json:"joined"`
	// WireGuard is the UDP port of its WireGuard; 0: packets between its pods and those of other nodes are not encrypted.
	WireGuard uint16     `json:"wireguard,omitempty"`
	Now       *NodeState `json:"now,omitempty"` // nil: it was not asked, or did not answer
}

// Astray says how a clock is that is so many ms ahead of most voters': "5m0s ahead of most voters'".
func Astray(ahead int64) string {
	off, way := time.Duration(ahead)*time.Millisecond, "ahead of"
	if off < 0 {
		off, way = -off, "behind"
	}
	if off >= time.Minute {
		off = off.Round(time.Second)
	} else {
		off = off.Round(100 * time.Millisecond)
	}
	return off.String() + " " + way + " most voters'"
}

// NodeState is how far a node is.
type NodeState struct {
	Version      string                      `json:"version"`
	Index        uint64                      `json:"index"`              // of the last entry applied
	StateHash    string                      `json:"stateHash"`          // equal on nodes that have applied the same
	Leader       string                      `json:"leader,omitempty"`   // id of the node that it follows, itself if it leads
	HoldsKey     bool                        `json:"holdsKey,omitempty"` // of the ring's authority: it can take machines in
	Keys         Keys                        `json:"keys"`
	Forge        *Forge                      `json:"forge,omitempty"` // nil: it follows none
	Environments map[string]EnvironmentState `json:"environments,omitempty"`
}

// Forge is how a node stands to the forge that it follows.
type Forge struct {
	Polls   bool   `json:"polls"`             // it looks at it regularly
	Ago     int64  `json:"ago"`               // ms since what it has was read there; negative: it never was
	By      string `json:"by,omitempty"`      // the node that read it
	Problem string `json:"problem,omitempty"` // why this node could not read it, if it could not
}

// Keys are the keys of a node, by names that tell nothing of them.
type Keys struct {
	Gossip      []string `json:"gossip,omitempty"`      // the one that is written by first; two while they are exchanged
	Exchange    string   `json:"exchange,omitempty"`    // which of them an exchange leads to
	Authorities []string `json:"authorities,omitempty"` // pins of those that are trusted, the one that signs first
	SignedBy    string   `json:"signedBy,omitempty"`    // pin of the one that signed the node's certificate
}

// Rotation is an exchange of keys that is over.
type Rotation struct {
	What  string   `json:"what"` // "keys" or "authority"
	From  string   `json:"from"`
	To    string   `json:"to"`
	Nodes []string `json:"nodes"`          // that have the new one
	Away  []string `json:"away,omitempty"` // that were down, and take it over when they return
}

// EnvironmentState is what a node itself made of the newest commit it has seen of an environment.
type EnvironmentState struct {
	Commit  string `json:"commit"`
	Digest  string `json:"digest,omitempty"` // of its render
	Problem string `json:"problem,omitempty"`
}

// Token lets one machine join.
type Token struct {
	Text    string    `json:"text"`
	Address string    `json:"address"` // where to use it: the peers' port of the node that made it
	Expires time.Time `json:"expires"`
}

// nodesBackend is the part of Backend that is about nodes.
type nodesBackend interface {
	Ring(ctx context.Context, look bool) (Ring, error) // look: each node says how far it is
	CreateToken(ctx context.Context, life time.Duration) (Token, error)
	Change(ctx context.Context, node, what string) error
	Taint(ctx context.Context, node string, changes []Taint) error
	Rotate(ctx context.Context, what string) (Rotation, error)
	Claim(ctx context.Context) (Claim, error)
	TakeClaim(ctx context.Context, shown string) (Claim, error)
	RingKey(ctx context.Context) (RingKey, error)
	PlanRebalance(ctx context.Context) (Rebalance, error)
	Rebalance(ctx context.Context, off bool) error
}

func (s *Server) nodes(mux *http.ServeMux, b nodesBackend) {
	mux.HandleFunc("GET /v1/ring", s.answer(func(r *http.Request) (any, error) {
		return b.Ring(r.Context(), r.URL.Query().Get("look") != "")
	}))
	mux.HandleFunc("POST /v1/tokens", s.answer(func(r *http.Request) (any, error) {
		life, err := time.ParseDuration(r.URL.Query().Get("ttl"))
		if err != nil {
			return nil, fmt.Errorf("ttl: %w", err)
		}
		return b.CreateToken(r.Context(), life)
	}))
	s.taints(mux, b)
	s.claims(mux, b)
	s.ringKey(mux, b)
	s.rebalance(mux, b)
	mux.HandleFunc("POST /v1/rotate/{what}", s.answer(func(r *http.Request) (any, error) { return b.Rotate(r.Context(), r.PathValue("what")) }))
	mux.HandleFunc("POST /v1/nodes/{name}/{what}", s.answer(func(r *http.Request) (any, error) {
		return struct{}{}, b.Change(r.Context(), r.PathValue("name"), r.PathValue("what"))
	}))
}

// Ring asks for the nodes.
func (c *Client) Ring(ctx context.Context, look bool) (r Ring, err error) {
	q := url.Values{}
	if look {
		q.Set("look", "1")
	}
	return r, c.get(ctx, "ring", q, &r)
}

// CreateToken asks for a token.
func (c *Client) CreateToken(ctx context.Context, life time.Duration) (t Token, err error) {
	return t, c.post(ctx, "tokens?ttl="+url.QueryEscape(life.String()), nil, &t)
}

// Change does something to a node: "cordon", "uncordon", "drain" or "remove".
func (c *Client) Change(ctx context.Context, node, what string) error {
	return c.post(ctx, "nodes/"+url.PathEscape(node)+"/"+what, nil, &struct{}{})
}

// Rotate exchanges keys on all nodes: "keys" or "authority".
func (c *Client) Rotate(ctx context.Context, what string) (r Rotation, err error) {
	return r, c.post(ctx, "rotate/"+url.PathEscape(what), nil, &r)
}

// post sends in as JSON, nothing if it is nil.
func (c *Client) post(ctx context.Context, path string, in, into any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return c.do(r, into)
}
