package ring

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// Many nodes join within ten seconds, and half of them vanish at once: all that are there know it soon, and each of
// them has no more to hear than some events for each node that came or went.
func TestFault_N16(t *testing.T) {
	many, within := 40, 3*time.Second
	switch {
	case underRace:
		many = 16 // ten times slower
	case os.Getenv("FULL") != "":
		many, within = 100, 10*time.Second
	}
	key := NewKey()
	all := make([]*Ring, many)
	var join []netip.AddrPort
	begun, cpuBegun := time.Now(), cpu(t)
	heard := make([]map[Kind]int, many)
	var mu sync.Mutex           // guards heard and ledger
	var ledger []netip.AddrPort // as every node's has it
	known := func() []netip.AddrPort {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(ledger)
	}
	for i := range all {
		all[i] = openWith(t, Options{Dir: t.TempDir(), Node: place.NodeID(fmt.Sprintf("%016d", i)), Keys: [][]byte{key}, Join: join, Known: known})
		join = []netip.AddrPort{all[0].Address()}
		mu.Lock()
		heard[i] = map[Kind]int{}
		ledger = append(ledger, all[i].Address())
		mu.Unlock()
		for _, r := range all[:i] {
			r.Seek()
		}
		go func() { // ends with the ring
			for e := range all[i].Events() {
				mu.Lock()
				heard[i][e.Kind] += max(len(e.Members), 1)
				mu.Unlock()
			}
		}()
		time.Sleep(time.Until(begun.Add(within * time.Duration(i+1) / time.Duration(many))))
	}
	count := func(r *Ring) (n int) {
		for _, m := range r.Members() {
			if m.Status == Alive {
				n++
			}
		}
		return n
	}
	await := func(rings []*Ring, want int) time.Duration {
		t.Helper()
		from := time.Now()
		for i, r := range rings {
			for n := count(r); n != want; n = count(r) {
				if time.Since(from) > 2*time.Minute {
					t.Fatalf("node %d finds %d alive, not %d", i, n, want)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		return time.Since(from)
	}
	joined := await(all, many)
	cpuJoined := cpu(t)
	t.Logf("%d nodes joined in %s, and all knew all %s later; %s of CPU a node", many, within, joined.Round(10*time.Millisecond), ((cpuJoined - cpuBegun) / time.Duration(many)).Round(time.Millisecond))
	time.Sleep(time.Second)
	most := 0
	mu.Lock()
	for i, h := range heard {
		if h[Dead] > 2*many || h[Lost] > 0 || h[Joined] > 3*many {
			t.Errorf("node %d heard %v", i, h)
		}
		most = max(most, h[Dead])
		heard[i] = map[Kind]int{}
	}
	mu.Unlock()
	t.Logf("meanwhile a node heard %d times at most that one failed, and was there again: all of them share the processors of this machine", most)
	stay, vanish := all[:many/2], all[many/2:]
	var closing sync.WaitGroup
	for _, r := range vanish {
		closing.Go(func() { _ = r.Close() })
	}
	closing.Wait()
	gone := await(stay, many/2)
	t.Logf("%d vanished, and all others knew it %s later; %s of CPU a node", many/2, gone.Round(10*time.Millisecond), ((cpu(t) - cpuJoined) / time.Duration(many)).Round(time.Millisecond))
	time.Sleep(time.Second)
	mu.Lock()
	defer mu.Unlock()
	for i, h := range heard[:many/2] {
		if h[Dead] > 2*many || h[Joined] > 2*many || h[Lost] > 0 {
			t.Errorf("node %d heard %v", i, h)
		}
	}
}
