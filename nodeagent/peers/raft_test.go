package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func raftAddress(m *machine) raft.ServerAddress { return raft.ServerAddress(m.id()) }

// raftNode runs the true raft over the wires of m.
func raftNode(t *testing.T, m *machine) (*raft.Raft, *raft.InmemStore) {
	t.Helper()
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(m.id())
	c.LogOutput = io.Discard
	trans := raft.NewNetworkTransport(m.RaftStream(), 2, 2*time.Second, io.Discard)
	if trans.LocalAddr() != raftAddress(m) {
		t.Errorf("raft calls itself %s", trans.LocalAddr())
	}
	store := raft.NewInmemStore()
	r, err := raft.NewRaft(c, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), trans)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
		trans.Close()
	})
	return r, store
}

func TestRaftRunsOverTheWires(t *testing.T) {
	a := begin(t)
	nodes := []*machine{a, a.join("b"), a.join("c")}
	var servers []raft.Server
	var rafts []*raft.Raft
	for _, n := range nodes {
		r, _ := raftNode(t, n)
		rafts = append(rafts, r)
		servers = append(servers, raft.Server{ID: raft.ServerID(n.id()), Address: raftAddress(n)})
	}
	if err := rafts[0].BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		t.Fatal(err)
	}
	var leader *raft.Raft
	await(t, "a leader", func() bool {
		for _, r := range rafts {
			if r.State() == raft.Leader {
				leader = r
				return true
			}
		}
		return false
	})
	for i := range 10 {
		if err := leader.Apply(fmt.Append(nil, i), 5*time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "all have the entries", func() bool {
		for _, r := range rafts {
			if r.AppliedIndex() < leader.AppliedIndex() {
				return false
			}
		}
		return true
	})
}

func TestConnectionsToNodesThatLeftAreClosed(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	for _, c := range [][2]*machine{{a, b}, {b, a}} {
		if err := c[0].Call(context.Background(), c[1].id(), "/greet", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	out, err := a.RaftStream().Dial(raftAddress(b), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := b.RaftStream().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := out.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1)
	if _, err := io.ReadFull(in, buf); err != nil {
		t.Fatal(err)
	}
	a.book.remove(b.id())
	if err := b.Call(context.Background(), a.id(), "/greet", nil, nil); err == nil {
		t.Error("a node that left was answered on an old connection")
	}
	a.Recheck()
	in.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := in.Read(buf); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("raft goes on: %v", err)
	}
	await(t, "a holds no connection", func() bool { open, _ := a.wires.count(); return open == 0 })
	c, err := b.RaftStream().Dial(raftAddress(a), time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(5 * time.Second)) // TLS 1.3 tells of a refusal only now
	if _, err := c.Read(buf); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a node that left connected: %v", err)
	}
}

// relay passes bytes on until it is told to swallow them, like a switch that died.
type relay struct {
	net.Listener
	to    netip.AddrPort
	mute  atomic.Bool
	mu    sync.Mutex
	conns []net.Conn
}

func newRelay(t *testing.T, to netip.AddrPort) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, to: to}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to.String())
			if err != nil {
				c.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, c, d)
			r.mu.Unlock()
			running.Go(func() { r.pass(c, d) })
			running.Go(func() { r.pass(d, c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		running.Wait()
	})
	return r
}

func (r *relay) pass(from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			to.Close()
			return
		}
		if !r.mute.Load() {
			to.Write(b[:n])
		}
	}
}

// A node that vanishes without a word, in the middle of a call, is noticed by pings.
func TestFault_N1_ABlackHoledPeerIsNoticed(t *testing.T) {
	a := begin(t)
	b := a.join("b").greets()
	b.Handle("POST /hang", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	r := newRelay(t, b.Addr())
	a.book.put(Member{ID: b.id(), Peer: r.Addr().(*net.TCPAddr).AddrPort()})
	if err := a.Call(context.Background(), b.id(), "/greet", nil, nil); err != nil {
		t.Fatal(err)
	}
	if ago, ok := a.Answered()[b.id()]; !ok || ago > 5*time.Second {
		t.Errorf("it has answered: %v, %s ago", ok, ago)
	}
	if _, ok := b.Answered()[a.id()]; ok {
		t.Error("a question is taken for an answer")
	}
	time.AfterFunc(100*time.Millisecond, func() { r.mute.Store(true) })
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := a.Call(ctx, b.id(), "/hang", nil, nil)
	d := time.Since(begun)
	if err == nil || !IsUnreachable(err) || ctx.Err() != nil || d > 5*time.Second {
		t.Errorf("%s: %v", d, err)
	}
	t.Logf("noticed %s after the last byte", d-100*time.Millisecond)
	if ago, ok := a.Answered()[b.id()]; ok && ago < d-time.Second {
		t.Errorf("it is said to have answered %s ago", ago)
	}
	begun = time.Now()
	if err := a.Call(ctx, b.id(), "/greet", nil, nil); err == nil || time.Since(begun) > shakeTime+time.Second {
		t.Errorf("dialled anew for %s: %v", time.Since(begun), err)
	}
}

// Who talks to nobody holds no connection.
func TestIdleConnectionsAreClosed(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	a.client.IdleConnTimeout, b.client.IdleConnTimeout = 300*time.Millisecond, 300*time.Millisecond
	talk(t, a, b)
	if open, _ := a.wires.count(); open == 0 {
		t.Error("connections are not kept between calls")
	}
	await(t, "all are closed", func() bool {
		x, _ := a.wires.count()
		y, _ := b.wires.count()
		return x+y == 0
	})
}

// Calls share connections, also when many begin at once.
func TestManyCallsShareConnections(t *testing.T) {
	a := begin(t)
	b := a.join("b").greets()
	var calls sync.WaitGroup
	for range 200 {
		calls.Go(func() {
			var got string
			if err := a.Call(context.Background(), b.id(), "/greet", nil, &got); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if open, _ := b.wires.count(); open > 1 {
		t.Errorf("%d connections", open)
	}
	r, err := a.Client(b.id()).Post("https://any/greet", "", bytes.NewReader(nil))
	if err != nil || r.StatusCode != http.StatusOK || r.ProtoMajor != 2 {
		t.Fatalf("client: %v, %v", r, err)
	}
	r.Body.Close()
}
