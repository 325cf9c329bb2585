package nodeagent

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/shoal-dev/shoal/engine/wire"
)

// fence knows which addresses of pods the packet filter is to isolate, and which of them it does. A pod gets no link before its rule is
// in force. Safe for concurrent use: the loop sets it, those that make links ask.
type fence struct {
	mu              sync.Mutex
	wanted, inForce map[netip.Addr]bool
}

// want says what is to be isolated from now on.
func (f *fence) want(t *wire.Tables) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted = isolated(t)
}

// stands says that the packet filter has the rules of t.
func (f *fence) stands(t *wire.Tables) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inForce = isolated(t)
}

// fell says that nobody knows what the packet filter has.
func (f *fence) fell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inForce = nil
}

// check refuses an address that is to be isolated and is not.
func (f *fence) check(ip netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wanted[ip] && !f.inForce[ip] {
		return fmt.Errorf("%s is to speak to its own environment alone, and the packet filter does not see to it yet", ip)
	}
	return nil
}

func isolated(t *wire.Tables) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, i := range t.Isolated {
		for _, a := range i.From {
			out[a] = true
		}
	}
	return out
}
