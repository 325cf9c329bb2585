package peers

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// Member is a node of the ring, and where it is reached now.
type Member struct {
	ID     place.NodeID   `json:"id"`
	Peer   netip.AddrPort `json:"peer"`   // its peers' listener
	Gossip netip.AddrPort `json:"gossip"` // its gossip
}

// JoinRequest is what a machine with a token asks for. Its key is proven, its token's secret is not: Admit compares.
type JoinRequest struct {
	Node    place.NodeID
	Name    string // of people: a DNS label; must be free, or that of this very node
	Key     ed25519.PublicKey
	Peer    netip.AddrPort // where it says it is reached
	Gossip  netip.AddrPort
	TokenID string
	Hash    string         // compare with Token.Hash by SameHash
	Remote  netip.AddrPort // where the request came from
	Engine  int            // the newest engine version that its binary says it knows; 0: it says none
}

// RefusedError is an answer that stays the same however often and whomever one asks. The text says what is wrong and
// what to do; it is shown to the user at the machine that asked.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// Options say who this node is and what it needs of others. The funcs are called by many goroutines at once and must
// answer from memory, but for Admit.
type Options struct {
	Dir    string             // required: a directory of its own; Begin or Join filled it
	Key    ed25519.PrivateKey // required: the node's key
	Listen netip.AddrPort     // default 127.0.0.1:7947; port 0 takes any

	// Known says whether a node is of the ring: the ledger has it, and it did not leave. Required. As long as it denies
	// this node itself, the ledger has not caught up, and the members named in the answer to the join count too.
	Known func(place.NodeID) bool

	// Members are the nodes that are in the ring with their addresses, this one included. Required.
	Members func() []Member

	// Address is where a node's peers' listener is reached now. Default: as Members says.
	Address func(place.NodeID) (netip.AddrPort, bool)

	// MayHold says whether a node may have the keys of the authorities: the voters. Default: none but who has them.
	MayHold func(place.NodeID) bool

	// Admit uses up the token of r and takes the node into the ledger, so that Known holds here when it returns. The same
	// node with the same token again is no error: the answer may have been lost. A refusal is a *RefusedError; any
	// other error means that it may work later, or at another node. It should look before it appends: strangers call it.
	// Default: refuses all.
	Admit func(ctx context.Context, r JoinRequest) error

	// Keyring are the gossip keys, the one to encrypt with first. Default: none.
	Keyring func() [][]byte

	Grace   time.Duration    // how long after its end a certificate can be renewed; default 30 days
	MaxBody int64            // of a request between nodes, in bytes; default 64 MiB
	Now     func() time.Time // default time.Now
	Log     *slog.Logger     // default: discard
}

// WithDefaults returns a copy with the defaults filled in.
func (o Options) WithDefaults() Options {
	if !o.Listen.IsValid() {
		o.Listen = netip.MustParseAddrPort("127.0.0.1:7947")
	}
	if o.Address == nil {
		members := o.Members
		o.Address = func(id place.NodeID) (netip.AddrPort, bool) { return addressIn(members(), id) }
	}
	if o.MayHold == nil {
		o.MayHold = func(place.NodeID) bool { return false }
	}
	if o.Admit == nil {
		o.Admit = func(context.Context, JoinRequest) error {
			return &RefusedError{Text: "this node admits nobody: ask another node of the ring"}
		}
	}
	if o.Keyring == nil {
		o.Keyring = func() [][]byte { return nil }
	}
	if o.Grace == 0 {
		o.Grace = 30 * 24 * time.Hour
	}
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Check joins what is wrong with the options.
func (o Options) Check() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("peers: Dir is required"))
	}
	if len(o.Key) != ed25519.PrivateKeySize {
		errs = append(errs, errors.New("peers: Key is required"))
	}
	if o.Known == nil || o.Members == nil {
		errs = append(errs, errors.New("peers: Known and Members are required"))
	}
	if o.Grace < 0 || o.MaxBody < 0 {
		errs = append(errs, errors.New("peers: Grace and MaxBody must not be negative"))
	}
	return errors.Join(errs...)
}

func addressIn(members []Member, id place.NodeID) (netip.AddrPort, bool) {
	for _, m := range members {
		if m.ID == id {
			return m.Peer, m.Peer.IsValid()
		}
	}
	return netip.AddrPort{}, false
}
