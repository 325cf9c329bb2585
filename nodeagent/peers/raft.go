package peers

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

// RaftStream carries raft between nodes. Addresses are NodeIDs; where a node is is looked up when it is dialled.
func (p *Peers) RaftStream() raft.StreamLayer { return p.raft }

type raftStream struct {
	peers *Peers
	*handoff
}

// Dial connects to a node, and to nobody who answers in its place.
func (s *raftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx := s.peers.ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	c, err := s.peers.dial(ctx, place.NodeID(address), protoRaft)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", address, err)
	}
	return c, nil
}

// Close takes no further connections; raft's transport calls it. What else Peers does goes on.
func (s *raftStream) Close() error {
	s.close()
	return nil
}

// Addr is this node's ID, as raft names it.
func (s *raftStream) Addr() net.Addr { return nodeAddr(s.peers.self) }

type nodeAddr place.NodeID

func (nodeAddr) Network() string  { return "shoal" }
func (a nodeAddr) String() string { return string(a) }
