package ring

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// ids of test nodes.
func id(n int) place.NodeID { return place.NodeID(strings.Repeat(string(rune('a'+n)), 16)) }

// openWith opens a node by options; what tests always want is filled in.
func openWith(t testing.TB, o Options) *Ring {
	t.Helper()
	if o.Ring == "" {
		o.Ring = "one"
	}
	if !o.Bind.IsValid() {
		o.Bind = netip.MustParseAddrPort("127.0.0.1:0")
	}
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// alive are the members that r finds alive, as text.
func alive(r *Ring) string {
	var s strings.Builder
	for _, m := range r.Members() {
		if m.Status == Alive {
			s.WriteByte(m.ID[0])
		}
	}
	return s.String()
}

// until waits until cond is true.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}

// several opens n nodes that found each other.
func several(t *testing.T, n int) (rings []*Ring, dirs []string) {
	t.Helper()
	key := NewKey()
	var join []netip.AddrPort
	all := ""
	for i := range n {
		dirs = append(dirs, t.TempDir())
		rings = append(rings, openWith(t, Options{Dir: dirs[i], Node: id(i), Keys: [][]byte{key}, Join: join}))
		join = []netip.AddrPort{rings[0].Address()}
		all += string(rune('a' + i))
	}
	for _, r := range rings {
		until(t, "all found each other", func() bool { return alive(r) == all })
	}
	return rings, dirs
}

func TestJoinByOptions(t *testing.T) {
	rings, dirs := several(t, 3)
	if err := rings[0].Broadcast("tip", []byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, rings[2], "message tip")
	if err := rings[2].Close(); err != nil {
		t.Fatal(err)
	}
	openWith(t, Options{Dir: dirs[2], Node: id(2)}) // the keys are kept, and the members
	until(t, "it is back", func() bool { return alive(rings[0]) == "abc" })
	if _, err := Open(Options{Dir: t.TempDir(), Node: id(4), Ring: "one", Join: []netip.AddrPort{rings[0].Address()}}); err == nil || !strings.Contains(err.Error(), "without the ring's keys") {
		t.Errorf("join without keys: %v", err)
	}
	known := func() []netip.AddrPort { return []netip.AddrPort{rings[0].Address()} }
	if _, err := Open(Options{Dir: t.TempDir(), Node: id(4), Ring: "one", Known: known}); err == nil || !strings.Contains(err.Error(), "without the ring's keys") {
		t.Errorf("others are known, without keys: %v", err)
	}
	if _, err := Open(Options{Dir: t.TempDir(), Node: id(4), Ring: "one", Keys: [][]byte{{1}}}); err == nil || !strings.Contains(err.Error(), "key 1 has 1 bytes, expected 32") {
		t.Errorf("a short key: %v", err)
	}
}

func TestAdvertise(t *testing.T) {
	a := openWith(t, Options{Dir: t.TempDir(), Node: id(0), Bind: netip.MustParseAddrPort("0.0.0.0:0"), Advertise: netip.MustParseAddrPort("127.0.0.1:0")})
	if at := a.Address(); at.Addr() != netip.MustParseAddr("127.0.0.1") || at.Port() == 0 {
		t.Errorf("reached at %s", at)
	}
	b := openWith(t, Options{Dir: t.TempDir(), Node: id(1), Keys: a.Keys(), Join: []netip.AddrPort{a.Address()}})
	until(t, "they found each other", func() bool { return alive(a) == "ab" && alive(b) == "ab" })
	if _, err := Open(Options{Dir: t.TempDir(), Node: id(4), Ring: "one", Bind: netip.MustParseAddrPort("[::]:0")}); err == nil || !strings.Contains(err.Error(), "needs an Advertise address") {
		t.Errorf("no address: %v", err)
	}
}

// closeAll closes the rings, as a power cut does: without a word.
func closeAll(t *testing.T, rings []*Ring) {
	t.Helper()
	for _, r := range rings {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFault_N8_AllRestartWithoutASeed(t *testing.T) {
	rings, dirs := several(t, 4)
	var at []netip.AddrPort
	for _, r := range rings {
		at = append(at, r.Address())
	}
	closeAll(t, rings)
	for _, i := range []int{2, 0, 3, 1} { // each finds nobody at first, but the last
		rings[i] = openWith(t, Options{Dir: dirs[i], Node: id(i), Bind: at[i]})
	}
	for _, r := range rings {
		until(t, "all are back", func() bool { return alive(r) == "abcd" })
	}
}

func TestFault_N9_TheLedgersAddressesAreUsed(t *testing.T) {
	rings, dirs := several(t, 2)
	if err := rings[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dirs[1], "members"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	openWith(t, Options{Dir: dirs[1], Node: id(1), Known: func() []netip.AddrPort { return []netip.AddrPort{rings[0].Address()} }})
	until(t, "it is back", func() bool { return alive(rings[0]) == "ab" })
}

// Every node comes back at another address; nobody takes that for a conflict, and nothing is shut down.
func TestFault_N10_AllAddressesChanged(t *testing.T) {
	rings, dirs := several(t, 3)
	closeAll(t, rings)
	var mu sync.Mutex
	var ledger []netip.AddrPort
	known := func() []netip.AddrPort {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(ledger)
	}
	for i := range rings {
		rings[i] = openWith(t, Options{Dir: dirs[i], Node: id(i), Known: known})
	}
	time.Sleep(time.Second) // they look where nobody is
	mu.Lock()
	for _, r := range rings {
		ledger = append(ledger, r.Address())
	}
	mu.Unlock()
	for _, r := range rings {
		r.Seek()
	}
	for _, r := range rings {
		until(t, "all are back", func() bool { return alive(r) == "abc" })
	}
}

// One node restarts at another address before the others noticed that it was gone.
func TestFault_N10_OneAddressChanged(t *testing.T) {
	rings, dirs := several(t, 3)
	if err := rings[2].Close(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	c := openWith(t, Options{Dir: dirs[2], Node: id(2)})
	for _, r := range rings[:2] {
		until(t, "it is known at its new address", func() bool {
			return slices.ContainsFunc(r.Members(), func(m Member) bool { return m.ID == id(2) && m.Status == Alive && m.Address == c.Address() })
		})
	}
	t.Logf("known at the new address after %s", time.Since(begun))
	if c.besides() {
		t.Error("it fell silent")
	}
}

func TestFault_N11_AClonedDisk(t *testing.T) {
	rings, dirs := several(t, 3)
	for _, r := range rings { // they run for long already
		r.twins.mu.Lock()
		r.twins.opened, r.twins.after = time.Now().Add(-time.Hour), 2*time.Second
		r.twins.mu.Unlock()
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dirs[2])); err != nil {
		t.Fatal(err)
	}
	c := openWith(t, Options{Dir: copied, Node: id(2), Known: func() []netip.AddrPort { return []netip.AddrPort{rings[0].Address()} }})
	c.twins.mu.Lock()
	c.twins.after = 2 * time.Second
	c.twins.mu.Unlock()
	e := await(t, c, "twin node cccccccccccccccc is claimed by "+rings[2].Address().String()+" and by "+c.Address().String())
	if !e.Twins.Second {
		t.Error("the second is not told that it is")
	}
	until(t, "the second is silent", c.besides)
	e = await(t, rings[0], "twin ")
	if e.Twins.Second || e.Twins.Known != rings[2].Address() || e.Twins.Other != c.Address() {
		t.Errorf("the others are told %s", e)
	}
	for _, r := range rings {
		if got := alive(r); got != "abc" {
			t.Errorf("alive: %s", got)
		}
		if r.besides() {
			t.Error("an older node fell silent")
		}
	}
	// The older one goes: its clone does not take its place.
	if err := rings[2].Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "its place is empty", func() bool { return alive(rings[0]) == "ab" })
	time.Sleep(time.Second)
	if got := alive(rings[0]); got != "ab" {
		t.Errorf("the clone is in: %s", got)
	}
}

func TestFault_N12_KeysAreExchanged(t *testing.T) {
	rings, dirs := several(t, 3)
	old, fresh := rings[0].Keys()[0], NewKey()
	heard := func() {
		t.Helper()
		for i, from := range rings {
			name := fmt.Sprintf("word-%d-%d", i, time.Now().UnixNano())
			if err := from.Broadcast(name, nil); err != nil {
				t.Fatal(err)
			}
			for _, r := range rings {
				await(t, r, "message "+name)
			}
		}
	}
	if err := rings[0].UseKey(fresh); err == nil {
		t.Error("a key that is not installed is used")
	}
	for _, r := range rings {
		if err := r.InstallKey(fresh); err != nil {
			t.Fatal(err)
		}
		heard()
	}
	if err := rings[0].InstallKey(NewKey()); err == nil || !strings.Contains(err.Error(), "remove the old one first") {
		t.Errorf("a third key: %v", err)
	}
	for i, r := range rings {
		if i == 1 { // killed in the middle
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			rings[1] = openWith(t, Options{Dir: dirs[1], Node: id(1)})
			r = rings[1]
			until(t, "it is back", func() bool { return alive(rings[0]) == "abc" && alive(r) == "abc" })
		}
		if err := r.UseKey(fresh); err != nil {
			t.Fatal(err)
		}
		if err := r.RemoveKey(fresh); err == nil {
			t.Error("the key in use was removed")
		}
		heard()
	}
	off := rings[2] // misses the last step, and a whole further exchange
	if err := off.Close(); err != nil {
		t.Fatal(err)
	}
	rings = rings[:2]
	for _, r := range rings {
		if err := r.RemoveKey(old); err != nil {
			t.Fatal(err)
		}
		if got := r.Keys(); len(got) != 1 || !bytes.Equal(got[0], fresh) {
			t.Errorf("keys %x", got)
		}
		heard()
	}
	last := NewKey()
	for _, step := range [][][]byte{{fresh, last}, {last, fresh}, {last}} {
		for _, r := range rings {
			if err := r.SetKeys(step); err != nil {
				t.Fatal(err)
			}
			if got := r.Keys(); len(got) != len(step) || !bytes.Equal(got[0], step[0]) {
				t.Errorf("keys %x, set %x", got, step)
			}
		}
		heard()
	}
	off = openWith(t, Options{Dir: dirs[2], Node: id(2)})
	until(t, "its packets are counted and dropped", func() bool { return rings[0].Refused()+rings[1].Refused() > 0 })
	if err := off.SetKeys(rings[0].Keys()); err != nil { // it gets them over its wires
		t.Fatal(err)
	}
	until(t, "it is back", func() bool { return alive(rings[0]) == "abc" && alive(off) == "abc" })
	if b, err := os.ReadFile(filepath.Join(dirs[2], "keyring")); err != nil || bytes.Count(b, []byte("=")) != 1 {
		t.Errorf("keyring file %s, %v", b, err)
	}
}

func TestKeysAreSetWhateverWasThere(t *testing.T) {
	r := openWith(t, Options{Dir: t.TempDir(), Node: id(0)})
	k := [][]byte{NewKey(), NewKey(), NewKey(), NewKey()}
	for _, want := range [][][]byte{{k[0]}, {k[1], k[0]}, {k[0], k[1]}, {k[2], k[3]}, {k[3]}, {k[0], k[3]}, {k[1], k[2]}} {
		if err := r.SetKeys(want); err != nil {
			t.Fatal(err)
		}
		onDisk, err := readKeys(r.opt.path("keyring"))
		if err != nil || !slices.EqualFunc(r.Keys(), want, bytes.Equal) || !slices.EqualFunc(onDisk, want, bytes.Equal) {
			t.Errorf("keys %x, on disk %x, want %x: %v", r.Keys(), onDisk, want, err)
		}
	}
	for _, bad := range [][][]byte{{}, {k[0], k[1], k[2]}, {k[0][:31]}} {
		if err := r.SetKeys(bad); err == nil {
			t.Errorf("%d keys were taken", len(bad))
		}
	}
}

// Members that failed are forgotten by serf after a day; here they are looked for all the same.
func TestFault_N4_SeparatedForLongerThanSerfRemembers(t *testing.T) {
	key := NewKey()
	dirs := []string{t.TempDir(), t.TempDir()}
	a := openWith(t, Options{Dir: dirs[0], Node: id(0), Keys: [][]byte{key}, forget: 200 * time.Millisecond})
	b := openWith(t, Options{Dir: dirs[1], Node: id(1), Keys: [][]byte{key}, Join: []netip.AddrPort{a.Address()}})
	until(t, "they found each other", func() bool { return alive(a) == "ab" && alive(b) == "ab" })
	at := b.Address()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "serf forgot it", func() bool { return len(a.Members()) == 1 })
	if err := os.Remove(filepath.Join(dirs[1], "members")); err != nil {
		t.Fatal(err)
	}
	openWith(t, Options{Dir: dirs[1], Node: id(1), Bind: at}) // it knows nobody: the other one has to look
	until(t, "it was found", func() bool { return alive(a) == "ab" })
}

func TestWhoLeftIsNotLookedFor(t *testing.T) {
	rings, _ := several(t, 2)
	if err := rings[1].Leave(); err != nil {
		t.Fatal(err)
	}
	await(t, rings[0], "left ")
	if err := rings[1].Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "nobody is missing", func() bool { missing, alone := rings[0].missing(); return len(missing) == 0 && alone })
}

// Strangers that send megabytes without a key are cut off: what is kept of them has a bound, and goes with them. Memory is not
// measured while they send, since how much of it is garbage depends on the collector.
func TestFault_N14_TooMuchIsDropped(t *testing.T) {
	r := openWith(t, Options{Dir: t.TempDir(), Node: id(0)})
	before := heap()
	const many = 20
	var most int64
	for _, say := range []int{20 << 20, 7 << 20} { // more than one stream may bring; and what only all of them may not, from who then waits
		var senders sync.WaitGroup
		for range many {
			senders.Go(func() { pour(t, r.Address(), say) })
		}
		done := make(chan struct{})
		go func() { senders.Wait(); close(done) }()
		for over := false; !over; {
			select {
			case <-done:
				over = true
			case <-time.After(time.Millisecond):
				most = max(most, r.brought.Load())
			}
		}
	}
	// Each stream may be in the middle of a read, of less than 1 MiB, when the sum is passed.
	if limit := int64(maxBrought + many<<20); most > limit {
		t.Errorf("%d MiB were kept at once", most>>20)
	}
	t.Logf("at most %d MiB at once; %d refused", most>>20, r.Refused())
	if r.Refused() < many+many/2 {
		t.Errorf("%d refused", r.Refused())
	}
	until(t, "what they brought is gone", func() bool { return r.brought.Load() == 0 && heap() < before+8<<20 })
	for _, b := range [][]byte{make([]byte, 1400), {9, 1, 2}, bytes.Repeat([]byte{7}, 60000), append([]byte{244, 3}, "one\x09garbage"...), append([]byte{244, 3}, "two"...)} {
		c, err := net.Dial("udp", r.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write(b)
		c.Close()
	}
	b := openWith(t, Options{Dir: t.TempDir(), Node: id(1), Keys: r.Keys(), Join: []netip.AddrPort{r.Address()}})
	until(t, "a node still gets in", func() bool { return alive(r) == "ab" && alive(b) == "ab" })
}

// pour begins a state of 20 MiB, says so much of it, and waits for two seconds to be cut off.
func pour(t *testing.T, to netip.AddrPort, say int) {
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	head := append([]byte{244, 3}, "one"...)                     // the label
	head = append(head, 10)                                      // encrypted
	head = binary.BigEndian.AppendUint32(head, 20*1024*1024-100) // as much as memberlist takes
	c.Write(head)
	chunk := make([]byte, 64<<10)
	for range say / len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			return
		}
	}
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	c.Read(chunk)
}

// heap is what is in use, garbage apart.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A ring of one sleeps: no look for others, no gossip.
func TestARingOfOneIsSilent(t *testing.T) {
	r := openWith(t, Options{Dir: t.TempDir(), Node: id(0)})
	await(t, r, "joined")
	if missing, alone := r.missing(); len(missing) > 0 || !alone || !r.alone {
		t.Errorf("missing %v, alone %v", missing, alone)
	}
}

func TestReadSeen(t *testing.T) {
	text := "alive: bbbb 10.0.0.2:7946\nclock: 12\nalive: cccc [fd00::1]:7946\nalive: aaaa 10.0.0.1:7946\nnot-alive: bbbb\nalive: dddd nonsense\nalive: \n: \nwhat\n"
	if got := fmt.Sprint(readSeen(text, "aaaa")); got != "map[cccc:[fd00::1]:7946]" {
		t.Error(got)
	}
}

func FuzzReadSeen(f *testing.F) {
	f.Add("alive: bbbb 10.0.0.2:7946\nnot-alive: bbbb\n")
	f.Fuzz(func(t *testing.T, text string) {
		for id, a := range readSeen(text, "aaaa") {
			if id == "aaaa" || !a.IsValid() {
				t.Errorf("%s at %v", id, a)
			}
		}
	})
}
