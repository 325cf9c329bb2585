package peers

import (
	"context"
	"fmt"
	"net"

	"github.com/shoal-dev/shoal/engine/place"
)

// commands are connections over which a node passes on what people ask of pods that are on another: raw streams, since
// a terminal takes its connection over.
type commands struct {
	addr net.Addr
	*handoff
}

// Accept hides that the connection is one of TLS: net/http would look for the protocol that was agreed on, find that it is
// neither HTTP/1 nor HTTP/2, and hang up.
func (c *commands) Accept() (net.Conn, error) {
	conn, err := c.handoff.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{conn}, nil
}

func (c *commands) Close() error   { c.close(); return nil }
func (c *commands) Addr() net.Addr { return c.addr }

// Commands accepts what other nodes pass on.
func (p *Peers) Commands() net.Listener { return p.commands }

// DialCommands connects to a node's Commands, and to nobody who answers in its place.
func (p *Peers) DialCommands(ctx context.Context, node place.NodeID) (net.Conn, error) {
	c, err := p.dial(ctx, node, protoCommands)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", node, err)
	}
	return c, nil
}
