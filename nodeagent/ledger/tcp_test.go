package ledger

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

// tcpRing finds nodes by their identities, as the true transport does.
type tcpRing struct {
	mu sync.Mutex
	at map[place.NodeID]net.Addr
}

type tcpLayer struct {
	net.Listener
	ring *tcpRing
	name place.NodeID
}

type nodeAddr place.NodeID

func (nodeAddr) Network() string  { return "node" }
func (a nodeAddr) String() string { return string(a) }

// Addr is the node's identity.
func (l tcpLayer) Addr() net.Addr { return nodeAddr(l.name) }

// Dial connects to a node by its identity.
func (l tcpLayer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	l.ring.mu.Lock()
	at := l.ring.at[place.NodeID(to)]
	l.ring.mu.Unlock()
	if at == nil {
		return nil, fmt.Errorf("no address of node %s", to)
	}
	return net.DialTimeout("tcp", at.String(), timeout)
}

func (r *tcpRing) transport(t *testing.T, name place.NodeID) raft.Transport {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.at[name] = l.Addr() // another one each time it starts
	r.mu.Unlock()
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: tcpLayer{l, r, name}, MaxPool: 3, Timeout: time.Second, Logger: library{log: toyOptions("").WithDefaults().Log},
	})
}

// Over raft's network transport: nodes that join late get a snapshot, every node appends, the leader is killed, and a
// node comes back under another address.
func TestOverTCP(t *testing.T) {
	ring := &tcpRing{at: map[place.NodeID]net.Addr{}}
	dir := t.TempDir()
	var mu sync.Mutex
	nodes := map[place.NodeID]*toyLedger{}
	get := func(n place.NodeID) *toyLedger {
		mu.Lock()
		defer mu.Unlock()
		return nodes[n]
	}
	open := func(n place.NodeID) *toyLedger {
		o := toyOptions(filepath.Join(dir, string(n)))
		o.Node, o.Transport = n, ring.transport(t, n)
		o.SnapshotEntries, o.SegmentSize = 40, 64<<10
		if n != "n1" {
			o.Genesis = nil
		}
		o.Forward = func(ctx context.Context, leader place.NodeID, raw [][]byte) error {
			if l := get(leader); l != nil {
				return l.Submit(ctx, n, raw)
			}
			return errors.New("connection refused")
		}
		l := openToy(t, o)
		mu.Lock()
		defer mu.Unlock()
		nodes[n] = l
		return l
	}
	await := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited a minute for %s", what)
			}
		}
	}
	first := open("n1")
	for n := range 200 {
		mustAppend(t, first, ref(fmt.Sprint(n), "", strings.Repeat("v", 2000)))
	}
	for _, n := range three[1:] {
		open(n)
		if err := first.AddMember(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	await("three voters", func() bool { return members(first) == "n1* n2* n3*" })
	for i, n := range three {
		mustAppend(t, get(n), ref("a", old(i), fmt.Sprint(i)))
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	mustAppend(t, get("n2"), ref("b", "", "1"))
	t.Logf("%v from the end of the leader to the next commit", time.Since(began))
	first = open("n1")
	mustAppend(t, first, ref("b", "1", "2"))
	await("one state", func() bool { return dump(get("n2")) == dump(first) && dump(get("n3")) == dump(first) })
}

// Followers hear of a commit when it is made; raft alone tells them 50 to 100 ms later.
func TestFollowersHearOfCommitsAtOnce(t *testing.T) {
	r := threeVoters(t, nil)
	var took []time.Duration
	for n := range 30 {
		began := time.Now()
		mustAppend(t, r.node("n3"), ref("a", old(n), fmt.Sprint(n)))
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	if took[10] > 40*time.Millisecond { // not the fastest: the leader asks everybody where they stand now and then
		t.Errorf("of 30 forwarded inputs, the eleventh fastest took %v", took[10])
	}
}
