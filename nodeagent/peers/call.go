package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

const (
	callTime  = 10 * time.Second // of a Call whose context has no deadline
	idleTime  = 15 * time.Second // then a connection nobody uses is closed
	maxAnswer = 64 << 20         // of a Call, in bytes

	// A connection on which nothing came for quiet is pinged, and closed if no answer comes for pong. So calls to a node
	// that vanished without a word fail after 1.5 s. Less would take a starved neighbour for a dead one.
	quiet = 500 * time.Millisecond
	pong  = time.Second
)

// CallError is the answer of a node that did not do what was asked.
type CallError struct {
	Node   place.NodeID
	Status int // of HTTP
	Text   string
}

func (e *CallError) Error() string { return fmt.Sprintf("node %s: %s", e.Node, e.Text) }

// newTransport makes connections for the pool: the host of an address is the NodeID.
func (p *Peers) newTransport() *http.Transport {
	var only http.Protocols
	only.SetHTTP2(true)
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return p.dial(ctx, place.NodeID(host), protoHTTP)
		},
		Protocols:              &only,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: quiet, PingTimeout: pong, WriteByteTimeout: 10 * time.Second},
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

// Client speaks HTTP/2 to one node, whatever host its requests name. All requests to a node share a connection; the
// caller bounds them by their contexts.
func (p *Peers) Client(node place.NodeID) *http.Client {
	return &http.Client{
		Transport:     toNode{p, node},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type toNode struct {
	peers *Peers
	node  place.NodeID
}

// Call posts in as JSON to path at a node and reads its answer into out; nil sends or reads nothing. It gives up
// with ctx, or after 10 s if that has no deadline. An answer other than 2xx is a *CallError.
func (p *Peers) Call(ctx context.Context, node place.NodeID, path string, in, out any) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTime)
		defer cancel()
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("call %s: %w", path, err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://node"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := p.Client(node).Transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("call %s at node %s: %w", path, node, err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("call %s at node %s: %w", path, node, err)
	case len(b) > maxAnswer:
		return fmt.Errorf("call %s at node %s: the answer has more than %d bytes", path, node, maxAnswer)
	case answer.StatusCode/100 != 2:
		return fmt.Errorf("call %s: %w", path, &CallError{Node: node, Status: answer.StatusCode, Text: string(bytes.TrimSpace(b))})
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("call %s at node %s: answer: %w", path, node, err)
	}
	return nil
}

// IsUnreachable says whether err means that a node gave no answer, rather than one that was no.
func IsUnreachable(err error) bool {
	_, answered := errors.AsType[*CallError](err)
	return err != nil && !answered
}
