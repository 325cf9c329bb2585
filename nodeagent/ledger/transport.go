package ledger

import (
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// streams is how many connections are kept to a node.
	streams = 3
	// streamPatience bounds a dial, and each message but a snapshot's, which gets it anew for every 256 KiB.
	streamPatience = 5 * time.Second
)

// NewTransport carries raft over streams to nodes that are dialled by their identity.
func NewTransport(s raft.StreamLayer, log *slog.Logger) raft.Transport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: streams, Timeout: streamPatience, Logger: library{log: log, name: "raft transport"},
	})
}
