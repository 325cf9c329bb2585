package peers

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// wire is one TCP connection, below TLS. It leaves its list when it is closed, whoever closes it.
type wire struct {
	net.Conn
	of   *wires
	addr netip.Addr // of the other end
	once sync.Once

	ours bool         // this node dialled: what comes in is an answer
	last atomic.Int64 // when something came in, ns since of.begun; 0: nothing did

	node place.NodeID // guarded by of.mu; "" until the handshake is over
}

// Read notes when an answer came.
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 && w.ours {
		w.last.Store(int64(time.Since(w.of.begun)))
	}
	return n, err
}

// Close closes the connection; a second call does nothing.
func (w *wire) Close() error {
	var err error
	w.once.Do(func() {
		w.of.remove(w)
		err = w.Conn.Close()
	})
	return err
}

const (
	// maxShaking is how many connections may be in their handshake; a further one ends the oldest, which either is
	// about to succeed in a moment or is an idler.
	maxShaking = 256
	// maxShakingOf is how many of them may come from one address.
	maxShakingOf = 64
)

// wires are this node's open connections. What is in its handshake stands in shaking, by age.
type wires struct {
	begun time.Time

	mu      sync.Mutex // guards all below
	all     map[*wire]bool
	shaking []*wire
	closed  bool
}

func newWires() *wires { return &wires{begun: time.Now(), all: map[*wire]bool{}} }

// dialled adds a connection that this node opened; nil if nothing may be opened any more.
func (ws *wires) dialled(c net.Conn) *wire {
	w := &wire{Conn: c, of: ws, ours: true}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.closed {
		return nil
	}
	ws.all[w] = true
	return w
}

// accepted adds a connection of a stranger; nil if it has to go.
func (ws *wires) accepted(c net.Conn) *wire {
	w := &wire{Conn: c, of: ws}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		w.addr = a.AddrPort().Addr()
	}
	ws.mu.Lock()
	var oldest *wire
	same := 0
	for _, s := range ws.shaking {
		if s.addr == w.addr {
			same++
		}
	}
	if ws.closed || same >= maxShakingOf {
		ws.mu.Unlock()
		return nil
	}
	if len(ws.shaking) >= maxShaking {
		oldest = ws.shaking[0]
	}
	ws.all[w] = true
	ws.shaking = append(ws.shaking, w)
	ws.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return w
}

// shaken says that the handshake is over and who is at the other end.
func (ws *wires) shaken(w *wire, node place.NodeID) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.node = node
	ws.settle(w)
}

// settle takes w from those in their handshake.
func (ws *wires) settle(w *wire) {
	for i, s := range ws.shaking {
		if s == w {
			ws.shaking = append(ws.shaking[:i], ws.shaking[i+1:]...)
			return
		}
	}
}

func (ws *wires) remove(w *wire) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.all, w)
	ws.settle(w)
}

// closeIf closes the connections to nodes of which gone is true.
func (ws *wires) closeIf(gone func(place.NodeID) bool) (closed int) {
	ws.mu.Lock()
	byNode := map[place.NodeID][]*wire{}
	for w := range ws.all {
		if w.node != "" {
			byNode[w.node] = append(byNode[w.node], w)
		}
	}
	ws.mu.Unlock()
	for node, list := range byNode {
		if gone(node) {
			for _, w := range list {
				w.Close()
				closed++
			}
		}
	}
	return closed
}

// answered says how long ago nodes answered on connections that this node opened and that stand.
func (ws *wires) answered() map[place.NodeID]time.Duration {
	now := time.Since(ws.begun)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ago := map[place.NodeID]time.Duration{}
	for w := range ws.all {
		last := time.Duration(w.last.Load())
		if w.node == "" || last == 0 {
			continue
		}
		if before, ok := ago[w.node]; !ok || now-last < before {
			ago[w.node] = max(now-last, 0)
		}
	}
	return ago
}

// closeAll closes every connection and refuses further ones.
func (ws *wires) closeAll() {
	ws.mu.Lock()
	ws.closed = true
	var list []*wire
	for w := range ws.all {
		list = append(list, w)
	}
	ws.mu.Unlock()
	for _, w := range list {
		w.Close()
	}
}
