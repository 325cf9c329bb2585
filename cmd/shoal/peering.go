package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/internal/wallclock"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/containers"
	"github.com/shoal-dev/shoal/nodeagent/githost"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
	"github.com/shoal-dev/shoal/nodeagent/identities"
	"github.com/shoal-dev/shoal/nodeagent/ledger"
	"github.com/shoal-dev/shoal/nodeagent/peers"
	"github.com/shoal-dev/shoal/nodeagent/registry"
	"github.com/shoal-dev/shoal/nodeagent/ring"
)

// What nodes ask of each other, beside what package peers does itself.
const (
	pathSubmit  = "/ledger/submit" // raw entries, to the leader
	pathBlobs   = "/content/blobs" // bytes by digest, to any node
	pathLease   = "/lease"         // a renewal, to the leader
	pathVote    = "/vote"          // a render, to the leader
	pathTake    = "/git/take"      // commits that the asking node has, to a voter
	pathForge   = "/git/forge"     // what a node has seen of the forge
	pathImage   = "/image"         // an image that the asking node has, to a voter
	pathWhere   = "/where"         // how far a node is
	pathKeys    = "/keys"          // a step of an exchange of keys
	pathRotate  = "/rotate"        // all steps, to the leader
	pathRingKey = "/ringkey"       // the public key that the ring signs by, to the leader
	pathPreview = "/previews"      // what a node knows of previews, or holds of one
	pathYield   = "/yield"         // a node is about to leave, to the leader
	pathSecret  = "/secret"        // the key of an environment that a pod of the asking node is of
)

// clusterLedger is the ledger that runs.
type clusterLedger = ledger.Ledger[*cluster.State, cluster.Outcome]

// peering is what other nodes ask for and are asked for before the parts that answer are open.
type peering struct {
	ledger     atomic.Pointer[clusterLedger]
	keeper     atomic.Pointer[nodeagent.Keeper]
	deployer   atomic.Pointer[nodeagent.Deployer]
	node       atomic.Pointer[nodeagent.Node]
	identities atomic.Pointer[identities.Store]
	containers atomic.Pointer[containers.Runtime]
	registry   atomic.Pointer[registry.Server] // for other nodes
	mirror     atomic.Pointer[gitsync.Mirror]
	git        atomic.Pointer[githost.Server] // the same, for other nodes
	ring       atomic.Pointer[ring.Ring]
	forge      atomic.Pointer[forge] // nil also where none is followed
}

// errNotYet says that a part of this node is not open yet.
var errNotYet = errors.New("this node is starting")

// openPeers makes this machine a node: of the ring whose token it was given, of the one it was in, or of one of its own.
func (m *machine) openPeers(ctx context.Context) error {
	dir := m.dir.Path("peers")
	at, err := m.ports()
	if err != nil {
		return err
	}
	member, err := peers.Membership(dir)
	if err != nil {
		return err
	}
	switch {
	case len(m.opt.join) > 0:
		if err := m.join(ctx, dir, member, at); err != nil {
			return err
		}
	case member == "":
		if err := m.beginRing(dir); err != nil {
			return err
		}
	}
	m.peers, err = peers.Open(peers.Options{
		Dir: dir, Key: m.dir.Node.Key, Listen: at.peer, Log: m.log, Known: m.knows, Members: m.members, Admit: m.admit,
		MayHold: m.votes, Keyring: m.gossipKeys, Now: wallclock.Now,
	})
	if err != nil {
		return err
	}
	m.onClose(m.peers.Close)
	m.peers.Handle("POST "+pathSubmit, answerPeer(m.submitted))
	m.peers.Handle("POST "+pathBlobs, answerPeer(m.blobsAsked))
	m.peers.Handle("POST "+pathLease, answerPeer(m.leaseAsked))
	m.peers.Handle("POST "+pathVote, answerPeer(m.voted))
	m.peers.Handle("POST "+pathTake, answerPeer(m.takeAsked))
	m.peers.Handle("POST "+pathForge, answerPeer(m.forgeAsked))
	m.peers.Handle(githost.Path+"/", http.HandlerFunc(m.gitAsked))
	m.peers.Handle("POST "+pathImage, answerPeer(m.imageAsked))
	m.peers.Handle("/v2/", http.HandlerFunc(m.storesAsked))
	m.peers.Handle("POST "+pathWhere, answerPeer(m.whereAsked))
	m.peers.Handle("POST "+pathKeys, answerPeer(m.keysAsked))
	m.peers.Handle("POST "+pathRotate, answerPeer(m.rotateAsked))
	m.peers.Handle("POST "+pathRingKey, answerPeer(m.ringKeyAsked))
	m.peers.Handle("POST "+pathPreview, answerPeer(m.previewsAsked))
	m.peers.Handle("POST "+pathYield, answerPeer(m.yieldAsked))
	m.peers.Handle("POST "+pathSecret, answerPeer(m.identityAsked))
	m.peers.Serve()
	return nil
}

// ports are where this node listens for others.
type ports struct{ peer, gossip netip.AddrPort }

func (m *machine) ports() (p ports, err error) {
	parse := func(flag, s string) (netip.AddrPort, error) {
		if strings.HasPrefix(s, ":") {
			s = m.address.String() + s
		}
		a, err := netip.ParseAddrPort(s)
		if err != nil {
			return a, usageError{fmt.Errorf("--%s %s: expected an address and port, such as 192.0.2.7:7946, or :7946", flag, s)}
		}
		return a, nil
	}
	if p.peer, err = parse("peers", m.opt.peers); err != nil {
		return p, err
	}
	p.gossip, err = parse("gossip", m.opt.gossip)
	return p, err
}

// beginRing makes a ring of which this node is the first.
func (m *machine) beginRing(dir string) error {
	if entries, err := os.ReadDir(filepath.Join(m.dir.Path("ledger"), "log")); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s holds a ledger and no certificate of its ring: restore %s, or begin with another data directory", m.opt.dataDir, dir)
	}
	identity := make([]byte, 16)
	rand.Read(identity)
	return peers.Begin(dir, hex.EncodeToString(identity), m.dir.Node.Key, wallclock.Now())
}

// join asks to be taken into the ring of the token. One that is in it already goes on.
func (m *machine) join(ctx context.Context, dir, member string, at ports) error {
	token, err := peers.ParseToken(m.opt.token)
	if err != nil {
		return usageError{fmt.Errorf("--token: %w", err)}
	}
	switch member {
	case token.Ring:
		if peers.JoinedBy(dir) == token.ID {
			return nil
		}
	case "":
	default:
		return fmt.Errorf("this node belongs to ring %.8s, the token is of ring %.8s: use another data directory, or `shoal leave` first", member, token.Ring)
	}
	reply, err := peers.Join(ctx, m.opt.join, token, peers.Joining{Dir: dir, Key: m.dir.Node.Key, Name: m.opt.name(), Peer: at.peer, Gossip: at.gossip, Engine: cluster.EngineVersion, Now: wallclock.Now})
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	m.joinedKeys = reply.Keys
	m.log.InfoContext(ctx, "joined", "ring", reply.Ring[:8], "members", len(reply.Members))
	return nil
}

// state calls f with the ledger's state; false while there is none.
func (m *machine) state(f func(*cluster.State)) bool {
	l := m.peering.ledger.Load()
	if l == nil || l.Applied() == 0 {
		return false
	}
	l.View(f)
	return true
}

// knows says whether a node is of the ring. One that left is as long as the leader sends it the ledger, so that it learns
// of it: that ends within a second.
func (m *machine) knows(id place.NodeID) (known bool) {
	m.state(func(s *cluster.State) { _, known = s.Nodes().Get(id) })
	return known || m.gets(id)
}

// gets says whether a node gets the ledger.
func (m *machine) gets(id place.NodeID) bool {
	l := m.peering.ledger.Load()
	return l != nil && slices.ContainsFunc(l.Members(), func(member ledger.Member) bool { return member.ID == id })
}

// members are the nodes of the ring, and where they are reached.
func (m *machine) members() (all []peers.Member) {
	m.state(func(s *cluster.State) {
		for n := range s.Nodes().Values() {
			all = append(all, peers.Member{ID: n.ID, Peer: netip.AddrPortFrom(n.Address, n.Peer), Gossip: netip.AddrPortFrom(n.Address, n.Gossip)})
		}
	})
	return all
}

// wanted are the nodes that belong to the ring.
func (m *machine) wanted() (all []place.NodeID) {
	m.state(func(s *cluster.State) {
		for id := range s.Nodes().All() {
			all = append(all, id)
		}
	})
	return all
}

// alive is what the gossip says.
func (m *machine) alive() map[place.NodeID]bool {
	if r := m.peering.ring.Load(); r != nil {
		return gossipPart{ring: r}.Alive()
	}
	return nil
}

// votes says whether a node is a voter.
func (m *machine) votes(id place.NodeID) bool {
	l := m.peering.ledger.Load()
	if l == nil {
		return false
	}
	for _, member := range l.Members() {
		if member.ID == id && member.Voter {
			return true
		}
	}
	return false
}

// admit takes a machine with a token into the ring.
func (m *machine) admit(ctx context.Context, r peers.JoinRequest) error {
	var grant *peers.Grant
	engine := 0
	if !m.state(func(s *cluster.State) {
		ring, _ := s.Ring()
		engine = ring.Engine
		if t, ok := s.Tokens().Get(r.TokenID); ok {
			grant = &peers.Grant{ID: t.ID, Hash: t.Hash, End: time.UnixMilli(t.Expires), UsedBy: t.Node}
		}
	}) {
		return errNotYet
	}
	if err := grant.Judge(r, wallclock.Now()); err != nil {
		return err
	}
	if r.Engine < engine { // it could not step the ring's entries
		return &peers.RefusedError{Text: fmt.Sprintf("the ring runs engine version %d, and the binary of %s does not know that: install a newer shoal there, and start it with the same token", engine, r.Name)}
	}
	out, err := m.ledger.Append(ctx, cluster.Input{Join: &cluster.Join{
		Token: r.TokenID, Node: r.Node, Name: r.Name, Key: publicKey(r.Key), Address: r.Peer.Addr(), Peer: r.Peer.Port(), Gossip: r.Gossip.Port(),
	}})
	if err != nil {
		return err
	}
	if out.Rejected != "" {
		return &peers.RefusedError{Text: out.Rejected}
	}
	return nil
}

// answerPeer answers a call of another node with JSON. The body is read into an In.
func answerPeer[In, Out any](f func(ctx context.Context, from place.NodeID, in In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil && r.ContentLength != 0 {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := f(r.Context(), peers.From(r), in)
		if err != nil {
			code := http.StatusConflict
			if errors.Is(err, ledger.ErrNotLeader) || errors.Is(err, nodeagent.ErrNotLeading) {
				code = http.StatusMisdirectedRequest
			}
			http.Error(w, err.Error(), code)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	})
}

// submitted takes entries of a node that does not lead.
func (m *machine) submitted(ctx context.Context, from place.NodeID, raw [][]byte) (struct{}, error) {
	l := m.peering.ledger.Load()
	if l == nil {
		return struct{}{}, errNotYet
	}
	return struct{}{}, l.Submit(ctx, from, raw)
}

// forward gives entries of this node to the one that leads.
func (m *machine) forward(ctx context.Context, leader place.NodeID, raw [][]byte) error {
	err := m.peers.Call(ctx, leader, pathSubmit, raw, nil)
	if call, ok := errors.AsType[*peers.CallError](err); ok && call.Status == http.StatusMisdirectedRequest {
		return fmt.Errorf("%w: %w", ledger.ErrNotLeader, err)
	}
	return err
}

// maxBlobs bounds how many blobs are asked for at once, and maxBlobBytes how many bytes are sent; the rest is asked for
// again.
const (
	maxBlobs     = 256
	maxBlobBytes = 8 << 20
)

// blobsAsked gives the bytes of digests, as far as this node has them and one answer takes them.
func (m *machine) blobsAsked(_ context.Context, _ place.NodeID, digests []desired.Digest) (found [][]byte, err error) {
	size := 0
	for _, d := range digests[:min(len(digests), maxBlobs)] {
		b, err := m.content.Get(d)
		if err != nil {
			continue
		}
		if size += len(b); size > maxBlobBytes && len(found) > 0 {
			break
		}
		found = append(found, b)
	}
	return found, nil
}

// fetch brings blobs from another node into the content store, which knows them by what they are.
func (m *machine) fetch(ctx context.Context, from place.NodeID, digests []desired.Digest) error {
	wanted := map[desired.Digest]bool{}
	for _, d := range digests {
		wanted[d] = true
	}
	for len(wanted) > 0 {
		ask := make([]desired.Digest, 0, maxBlobs)
		for d := range wanted {
			if ask = append(ask, d); len(ask) == maxBlobs {
				break
			}
		}
		var found [][]byte
		if err := m.peers.Call(ctx, from, pathBlobs, ask, &found); err != nil {
			return err
		}
		got := 0
		for _, b := range found {
			if d := desired.DigestOf(b); wanted[d] {
				delete(wanted, d)
				got++
			}
		}
		if got == 0 {
			return fmt.Errorf("node %s has none of %d blobs", from, len(ask))
		}
		if err := m.content.Put(ctx, found...); err != nil {
			return err
		}
	}
	return nil
}

// renewal is what a node says with the renewal of its lease.
type renewal struct {
	Wall int64 `json:"wall"` // what its clock says, ms since 1970
}

// leaseAsked grants a lease, if this node leads.
func (m *machine) leaseAsked(ctx context.Context, from place.NodeID, r renewal) (uint64, error) {
	m.clocks.note(from, r.Wall, deadline.Now())
	k := m.peering.keeper.Load()
	if k == nil {
		return 0, errNotYet
	}
	return k.Renew(ctx, from)
}

// clockOff is how far this node's clock is off the voters'.
func (m *machine) clockOff() (off time.Duration, known bool) {
	l := m.peering.ledger.Load()
	if l == nil {
		return 0, false
	}
	return m.clocks.off(m.dir.Node.ID, ringPart{m}.Voters(), wallclock.Now().UnixMilli(), deadline.Now())
}

// clocksAhead is how far the nodes' clocks are ahead of most voters', for the leader.
func (m *machine) clocksAhead() map[place.NodeID]int64 {
	return m.clocks.ahead(m.dir.Node.ID, ringPart{m}.Voters(), m.wanted(), wallclock.Now().UnixMilli(), deadline.Now())
}

// renewLease asks the leader, who may be this node.
func (m *machine) renewLease(ctx context.Context) (index uint64, err error) {
	mine := renewal{Wall: wallclock.Now().UnixMilli()}
	leader, known := m.ledger.Leader()
	switch {
	case !known:
		return 0, nodeagent.ErrNotLeading
	case leader == m.dir.Node.ID:
		return m.leaseAsked(ctx, leader, mine)
	}
	return index, m.peers.Call(ctx, leader, pathLease, mine, &index)
}

// voted takes the render of another node.
func (m *machine) voted(ctx context.Context, from place.NodeID, v nodeagent.Vote) (nodeagent.Decision, error) {
	d := m.peering.deployer.Load()
	switch {
	case d == nil:
		return nodeagent.Decision{}, errNotYet
	case !m.ledger.Leading():
		return nodeagent.Decision{}, ledger.ErrNotLeader
	}
	return d.Vote(ctx, from, v)
}

// gossipKeys are the keys of the gossip, the one to encrypt with first; none before it is open.
func (m *machine) gossipKeys() [][]byte {
	if r := m.peering.ring.Load(); r != nil {
		return r.Keys()
	}
	return nil
}

// whereAsked says how far this node is.
func (m *machine) whereAsked(context.Context, place.NodeID, struct{}) (api.NodeState, error) {
	n := m.peering.node.Load()
	if n == nil {
		return api.NodeState{}, errNotYet
	}
	return n.Where(), nil
}
