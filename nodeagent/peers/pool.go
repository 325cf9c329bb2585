package peers

import (
	"context"
	"net/http"
	"sync"

	"github.com/shoal-dev/shoal/engine/place"
)

// pool is one HTTP/2 connection to each node that is talked to. All requests to a node share it; while it is being
// dialled they wait. net/http's own pool would dial once for each request that comes before the first connection.
type pool struct {
	mu     sync.Mutex // guards byNode
	byNode map[place.NodeID]*line
}

// line is a connection, or the attempt at one.
type line struct {
	dialled chan struct{} // closed once the fields below are set
	conn    *http.ClientConn
	err     error
}

func newPool() *pool { return &pool{byNode: map[place.NodeID]*line{}} }

// get returns the connection to node, for which dial is called if there is none that works. A dial that somebody no
// longer waits for goes on for the others.
func (q *pool) get(ctx context.Context, node place.NodeID, dial func(*line)) (*http.ClientConn, error) {
	q.mu.Lock()
	l := q.byNode[node]
	if l == nil || l.broken() {
		l = &line{dialled: make(chan struct{})}
		q.byNode[node] = l
		dial(l)
	}
	q.mu.Unlock()
	select {
	case <-l.dialled:
		return l.conn, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// broken says whether the attempt is over and there is no connection, or it was closed.
func (l *line) broken() bool {
	select {
	case <-l.dialled:
		return l.err != nil || l.conn.Err() != nil
	default:
		return false
	}
}

// set ends the attempt, and forgets the connection once it is closed.
func (q *pool) set(node place.NodeID, l *line, conn *http.ClientConn, err error) {
	l.conn, l.err = conn, err
	close(l.dialled)
	if err != nil {
		q.forget(node, l)
		return
	}
	conn.SetStateHook(func(c *http.ClientConn) {
		if c.Err() != nil {
			q.forget(node, l)
		}
	})
}

func (q *pool) forget(node place.NodeID, l *line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.byNode[node] == l {
		delete(q.byNode, node)
	}
}

// RoundTrip sends one request on the node's connection. A connection that closes before the request has its place on it
// is dialled anew.
func (t toNode) RoundTrip(r *http.Request) (*http.Response, error) {
	p := t.peers
	if !p.Known(t.node) {
		return nil, &UnknownError{Node: t.node}
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = "https", string(t.node), ""
	for {
		conn, err := p.pool.get(r.Context(), t.node, func(l *line) { p.running.Go(func() { p.dialLine(t.node, l) }) })
		if err != nil {
			return nil, err
		}
		if err := conn.Reserve(); err != nil && conn.Err() != nil {
			continue // it was idle for too long just now
		}
		return conn.RoundTrip(r)
	}
}

func (p *Peers) dialLine(node place.NodeID, l *line) {
	ctx, cancel := context.WithTimeout(p.ctx, shakeTime)
	defer cancel()
	conn, err := p.client.NewClientConn(ctx, "https", string(node)+":443")
	p.pool.set(node, l, conn, err)
}
