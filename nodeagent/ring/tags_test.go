package ring

import (
	"net/netip"
	"testing"
	"time"
)

// What a node says of itself reaches the others, also what it said while it was alone, and a later word replaces it.
func TestTell(t *testing.T) {
	key := NewKey()
	a := openWith(t, Options{Dir: t.TempDir(), Node: id(0), Keys: [][]byte{key}})
	if err := a.Tell(map[string]string{"forge": "reads"}); err != nil {
		t.Fatal(err)
	}
	b := openWith(t, Options{Dir: t.TempDir(), Node: id(1), Keys: [][]byte{key}, Join: []netip.AddrPort{a.Address()}})
	says := func() string {
		for _, m := range b.Members() {
			if m.ID == id(0) && m.Status == Alive {
				return m.Tags["forge"]
			}
		}
		return "not there"
	}
	until(t, "a is started anew", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return !a.alone && !a.moving
	})
	time.Sleep(300 * time.Millisecond)
	until(t, "what a said while it was alone", func() bool { return says() == "reads" && alive(a) == "ab" })
	if err := a.Tell(nil); err != nil {
		t.Fatal(err)
	}
	until(t, "what a says now", func() bool { return says() == "" })
}
