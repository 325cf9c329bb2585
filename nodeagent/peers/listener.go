package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// shakeTime bounds a handshake.
const shakeTime = 5 * time.Second

// keepAlive finds the other end of a raw stream gone within half a minute; HTTP/2 has pings of its own.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// accept takes connections until the listener is closed. Whoever sends no TLS, offers none of our protocols or is not
// known is dropped without an answer but TLS' alert.
func (p *Peers) accept() {
	config := p.serverConfig()
	lc := 5 * time.Millisecond
	for {
		c, err := p.listener.Accept()
		if err != nil {
			if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			p.opt.Log.Warn("connection not accepted, will retry", "err", err) // out of file descriptors
			if !p.sleep(lc) {
				return
			}
			lc = min(2*lc, time.Second)
			continue
		}
		lc = 5 * time.Millisecond
		w := p.wires.accepted(c)
		if w == nil {
			c.Close()
			continue
		}
		if t, ok := c.(*net.TCPConn); ok {
			t.SetKeepAliveConfig(keepAlive) //nolint:errcheck // a default is in force otherwise
		}
		p.running.Go(func() { p.welcome(w, config) })
	}
}

// welcome shakes hands and gives the connection to whom it is for.
func (p *Peers) welcome(w *wire, config *tls.Config) {
	conn := tls.Server(w, config)
	ctx, cancel := context.WithTimeout(p.ctx, shakeTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		p.opt.Log.Debug("connection refused", "from", w.RemoteAddr().String(), "err", err)
		w.Close()
		return
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol == protoJoin { // as good as in its handshake until it has sent something
		p.answerJoin(conn, w)
		return
	}
	node, _ := nodeIn(state.PeerCertificates[0], p.Ring()) // verified in the handshake
	p.wires.shaken(w, node)
	if !p.Known(node) { // it left during the handshake, and Recheck did not see it
		w.Close()
		return
	}
	switch state.NegotiatedProtocol {
	case protoRenew:
		p.answerRenewal(conn, node)
	case protoRaft:
		p.raft.put(conn)
	case protoCommands:
		p.commands.put(conn)
	case protoHTTP:
		p.incoming.put(conn)
	}
}

// dial opens a connection to a node for one protocol.
func (p *Peers) dial(ctx context.Context, node place.NodeID, protocol string) (*tls.Conn, error) {
	if !p.Known(node) {
		return nil, &UnknownError{Node: node}
	}
	addr, ok := p.address(node)
	if !ok {
		return nil, &net.AddrError{Err: "no address is known of this node", Addr: string(node)}
	}
	ctx, cancel := context.WithTimeout(ctx, shakeTime)
	defer cancel()
	d := net.Dialer{Timeout: dialTime, KeepAliveConfig: keepAlive}
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	w := p.wires.dialled(c)
	if w == nil {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	conn := tls.Client(w, p.clientConfig(protocol, node))
	if err := conn.HandshakeContext(ctx); err != nil {
		w.Close()
		return nil, err
	}
	p.wires.shaken(w, node)
	if !p.Known(node) {
		w.Close()
		return nil, &UnknownError{Node: node}
	}
	return conn, nil
}

// dialTime bounds the connect: in a ring a node answers within some round trips or not at all.
const dialTime = 2 * time.Second

// sleep waits; false if it is over.
func (p *Peers) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// handoff gives accepted connections to a server that wants a listener.
type handoff struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff { return &handoff{conns: make(chan net.Conn), over: make(chan struct{})} }

// put waits until somebody accepts c, or closes it when it is over.
func (h *handoff) put(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.over:
		c.Close()
	}
}

// Accept gives the next connection.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.over:
		return nil, net.ErrClosed
	}
}

func (h *handoff) close() { h.once.Do(func() { close(h.over) }) }
