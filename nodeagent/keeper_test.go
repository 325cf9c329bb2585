package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
)

// memRing is a ring of several nodes in memory, whose first leads.
type memRing struct {
	begun  time.Time
	events chan struct{}

	mu      sync.Mutex // guards what follows
	ring    *enginetest.Ring
	subs    []chan struct{}
	diary   []string
	alive   map[place.NodeID]bool
	leads   bool
	term    uint64
	refuses error // of Append
	verify  func() error
}

func newMemRing(t *testing.T, nodes int) *memRing {
	time.Sleep(time.Until(time.UnixMilli(enginetest.Epoch)))
	m := &memRing{begun: time.Now(), events: make(chan struct{}, 1), ring: enginetest.NewRing(t), alive: map[place.NodeID]bool{}, leads: true, term: 7}
	m.ring.Up(nodes)
	for i := range nodes {
		m.alive[enginetest.Node(i+1).ID] = true
	}
	return m
}

func (m *memRing) Append(_ context.Context, in cluster.Input) (cluster.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	word := in.String()
	if in.NodeDown != nil && in.NodeDown.Fenced {
		word += " fenced"
	}
	m.diary = append(m.diary, fmt.Sprintf("%s %s", time.Since(m.begun).Round(time.Millisecond), strings.ReplaceAll(word, "00000000000000", "")))
	if m.refuses != nil {
		return cluster.Outcome{}, m.refuses
	}
	m.ring.Now = time.Now().UnixMilli()
	out := m.ring.Step(in)
	for _, c := range m.subs {
		nudge(c)
	}
	return out, nil
}

func (m *memRing) View(f func(*cluster.State)) {
	m.mu.Lock()
	s := m.ring.State.Snapshot()
	m.mu.Unlock()
	f(s)
}

func (m *memRing) Changes() <-chan struct{} { return nil }

func (m *memRing) Subscribe() (<-chan struct{}, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{}, 1)
	m.subs = append(m.subs, c)
	return c, func() {}
}

func (m *memRing) Leads() (term uint64, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.term, m.leads
}

func (m *memRing) Verify(context.Context) (uint64, error) {
	if m.verify != nil {
		if err := m.verify(); err != nil {
			return 0, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ring.State.Index(), nil
}

func (m *memRing) Alive() map[place.NodeID]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.alive)
}

func (m *memRing) Events() <-chan struct{} { return m.events }

// set changes what the gossip says of a node; "": it has not heard of it.
func (m *memRing) set(n int, what string) {
	m.mu.Lock()
	id := enginetest.Node(n).ID
	if m.alive[id] = what == "alive"; what == "" {
		delete(m.alive, id)
	}
	m.mu.Unlock()
	nudge(m.events)
}

func (m *memRing) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := strings.Join(m.diary, "; ")
	m.diary = nil
	return s
}

// bootTime is a clock that does not begin at 1970.
func bootTime() int64 { return time.Now().UnixMilli() - enginetest.Epoch + 1_000_000 }

// keep runs a keeper, and has the nodes of renewing renew each second as long as the gossip says that they are there.
func (m *memRing) keep(t *testing.T, renewing ...int) *Keeper {
	k := NewKeeper(KeeperOptions{
		Node: enginetest.Node(1).ID, Ledger: m, Members: m, Now: bootTime, Up: func() cluster.NodeUp { return *enginetest.Node(1) },
		Heard: func() map[place.NodeID]time.Duration { return nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = k.Run(ctx) })
	for _, n := range renewing {
		running.Go(func() {
			for ctx.Err() == nil {
				if m.Alive()[enginetest.Node(n).ID] {
					_, _ = k.Renew(ctx, enginetest.Node(n).ID)
				}
				time.Sleep(time.Second)
			}
		})
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	synctest.Wait()
	return k
}

func TestKeeper(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes int
		play  func(t *testing.T, m *memRing)
		want  string
	}{
		{"a ring of one says nothing", 1, func(t *testing.T, m *memRing) { m.keep(t, 1); time.Sleep(time.Hour) }, ""},
		{"all is well", 3, func(t *testing.T, m *memRing) { m.keep(t, 1, 2, 3); time.Sleep(time.Minute) }, "0s lead in term 7"},
		{"a lost node, then its lease", 3, func(t *testing.T, m *memRing) {
			m.keep(t, 1, 2, 3)
			time.Sleep(10*time.Second + 500*time.Millisecond)
			m.set(2, "failed")
			time.Sleep(time.Minute)
		}, "0s lead in term 7; 10.5s node down 02; 18.8s node down 02 fenced"},
		{"one that gossips and does not renew", 3, func(t *testing.T, m *memRing) { m.keep(t, 1, 3); time.Sleep(time.Minute) }, "0s lead in term 7; 8.8s node down 02; 8.8s node down 02 fenced"},
		{"one that a new leader never heard of", 3, func(t *testing.T, m *memRing) {
			m.set(2, "")
			m.keep(t, 1, 3)
			time.Sleep(time.Minute)
		}, "0s lead in term 7; 5s node down 02; 8.8s node down 02 fenced"},
		{"one that joins, and the gossip takes a while", 2, func(t *testing.T, m *memRing) {
			m.keep(t, 1, 2, 3)
			time.Sleep(10 * time.Second)
			up := enginetest.Node(3)
			_, _ = m.Append(context.Background(), cluster.Input{NodeUp: up})
			time.Sleep(3 * time.Second)
			m.set(3, "alive")
			time.Sleep(time.Minute)
		}, "0s lead in term 7; 10s node up n3"},
		{"one that returns, and the gossip takes a while", 2, func(t *testing.T, m *memRing) {
			m.keep(t, 1, 2)
			m.set(2, "failed")
			time.Sleep(10 * time.Second)
			_, _ = m.Append(context.Background(), cluster.Input{NodeUp: enginetest.Node(2)})
			time.Sleep(3 * time.Second)
			m.set(2, "alive")
			time.Sleep(time.Minute)
		}, "0s lead in term 7; 0s node down 02; 8.8s node down 02 fenced; 10s node up n2"},
		{"a new leader grants anew", 3, func(t *testing.T, m *memRing) {
			m.keep(t, 1, 3)
			time.Sleep(8 * time.Second)
			m.mu.Lock()
			m.leads = false
			m.mu.Unlock()
			m.set(3, "alive")
			time.Sleep(time.Second)
			m.mu.Lock()
			m.leads, m.term = true, 8
			m.mu.Unlock()
			m.set(3, "alive")
			time.Sleep(time.Minute)
		}, "0s lead in term 7; 9s lead in term 8; 17.8s node down 02; 17.8s node down 02 fenced"},
		{"an announced restart", 2, func(t *testing.T, m *memRing) {
			m.keep(t, 1, 2)
			_, _ = m.Append(context.Background(), cluster.Input{From: cluster.From{Node: enginetest.Node(2).ID}, Restarting: &cluster.Restarting{Until: enginetest.Epoch + 30_000}})
			m.set(2, "failed")
			time.Sleep(20 * time.Second)
			m.set(2, "alive")
			time.Sleep(time.Minute)
		}, "0s lead in term 7; 0s restarting 02"},
		{"an announced restart that does not end", 2, func(t *testing.T, m *memRing) {
			m.keep(t, 1, 2)
			_, _ = m.Append(context.Background(), cluster.Input{From: cluster.From{Node: enginetest.Node(2).ID}, Restarting: &cluster.Restarting{Until: enginetest.Epoch + 30_000}})
			m.set(2, "failed")
			time.Sleep(time.Minute)
		}, "0s lead in term 7; 0s restarting 02; 30s node down 02; 35.2s node down 02 fenced"},
		{"this node was given up, and returns", 2, func(t *testing.T, m *memRing) {
			m.keep(t, 1, 2)
			_, _ = m.Append(context.Background(), cluster.Input{NodeDown: &cluster.NodeDown{ID: enginetest.Node(1).ID, Term: m.term}})
			time.Sleep(time.Minute)
		}, "0s lead in term 7; 0s node down 01; 0s node up n1"},
		{"the ledger takes nothing", 2, func(t *testing.T, m *memRing) {
			m.keep(t, 1, 2)
			m.mu.Lock()
			m.refuses = errors.New("no majority")
			m.mu.Unlock()
			m.set(2, "failed")
			time.Sleep(2500 * time.Millisecond)
			m.mu.Lock()
			m.refuses = nil
			m.mu.Unlock()
			time.Sleep(time.Second)
		}, "0s lead in term 7; 0s node down 02; 1s node down 02; 2s node down 02; 3s node down 02"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemRing(t, c.nodes)
				c.play(t, m)
				synctest.Wait()
				if got := m.said(); got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			})
		})
	}
}

// A renewal that is answered while the end of the lease is on its way into the ledger would give one pod two holders.
func TestNoRenewalWhileItsEndIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemRing(t, 2)
		k := m.keep(t)
		m.mu.Lock()
		m.refuses = errors.New("slow")
		m.mu.Unlock()
		time.Sleep(9 * time.Second)
		if _, err := k.Renew(context.Background(), enginetest.Node(2).ID); err == nil || !strings.Contains(err.Error(), "on its way") {
			t.Errorf("renewed: %v", err)
		}
		m.mu.Lock()
		m.refuses = nil
		m.mu.Unlock()
		time.Sleep(2 * time.Second)
		if index, err := k.Renew(context.Background(), enginetest.Node(2).ID); err != nil || index != m.ring.State.Index() {
			t.Errorf("after its end was applied: %d, %v", index, err)
		}
		m.mu.Lock()
		m.leads = false
		m.mu.Unlock()
		if _, err := k.Renew(context.Background(), enginetest.Node(2).ID); !errors.Is(err, ErrNotLeading) {
			t.Errorf("by one that does not lead: %v", err)
		}
	})
}

func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemRing(t, 1)
		file := filepath.Join(t.TempDir(), "lease")
		var mu sync.Mutex
		reached := true
		open := func() (*Leases, func()) {
			l, err := NewLeases(LeasesOptions{Node: enginetest.Node(1).ID, Ledger: m, Now: bootTime, File: file, Renew: func(ctx context.Context) (uint64, error) {
				mu.Lock()
				defer mu.Unlock()
				if !reached {
					return 0, errors.New("nobody answers")
				}
				return m.ring.State.Index(), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = l.Run(ctx) }()
			synctest.Wait()
			return l, func() { cancel(); <-done; _ = l.Close() }
		}
		cut := func(yes bool) { mu.Lock(); reached = !yes; mu.Unlock() }
		l, stop := open()
		is := func(when, want string) {
			t.Helper()
			synctest.Wait()
			got := l.Lease(m.ring.State.Index())
			if got.NoStart != (got.Why != "") {
				t.Errorf("%s: nothing is started: %v, because of %q", when, got.NoStart, got.Why)
			}
			if got := fmt.Sprintf("{Stop:%v Grace:%d NoStart:%v}", got.Stop, got.Grace, got.NoStart); got != want {
				t.Errorf("%s: %s, want %s", when, got, want)
			}
		}
		const held, over = "{Stop:false Grace:0 NoStart:false}", "{Stop:true Grace:0 NoStart:true}"
		const resumed = "{Stop:false Grace:0 NoStart:true}"
		is("alone", held)
		cut(true)
		time.Sleep(time.Hour)
		is("alone, nobody to ask", held)
		_, _ = m.Append(context.Background(), cluster.Input{NodeUp: enginetest.Node(2)})
		is("a second node", held)
		time.Sleep(4900 * time.Millisecond)
		is("nobody answers", "{Stop:true Grace:2 NoStart:true}")
		cut(false)
		time.Sleep(time.Second)
		is("saved", held)
		cut(true)
		stop()
		time.Sleep(time.Second)
		l, stop = open()
		is("a new agent goes on with the lease, and starts nothing under it", resumed)
		time.Sleep(8 * time.Second)
		is("over", over)
		stop()
		l, stop = open()
		defer func() { stop() }()
		is("a new agent does not begin one", over)
		cut(false)
		time.Sleep(2 * time.Second)
		is("granted anew", held)
	})
}
