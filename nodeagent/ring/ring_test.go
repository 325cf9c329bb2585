package ring

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

func open(t testing.TB, dir string, id place.NodeID, ring string) *Ring {
	t.Helper()
	r, err := Open(Options{Dir: dir, Node: id, Ring: ring, Bind: netip.MustParseAddrPort("127.0.0.1:0")})
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

// await takes events until one reads as want.
func await(t *testing.T, r *Ring, want string) Event {
	t.Helper()
	var seen []string
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e := <-r.Events():
			if strings.HasPrefix(e.String(), want) {
				return e
			}
			seen = append(seen, e.String())
		case <-deadline:
			t.Fatalf("no event %q; saw %q", want, seen)
		}
	}
}

func TestRingOfOne(t *testing.T) {
	r := open(t, t.TempDir(), "aaaaaaaaaaaaaaaa", "one")
	await(t, r, "joined aaaaaaaaaaaaaaaa")
	members := r.Members()
	if len(members) != 1 || members[0].Status != Alive || members[0].Address != r.Address() {
		t.Errorf("members %+v", members)
	}
	if err := r.Broadcast("rendered", []byte("digest")); err != nil {
		t.Fatal(err)
	}
	if e := await(t, r, "message rendered"); string(e.Payload) != "digest" {
		t.Errorf("payload %q", e.Payload)
	}
	if err := r.Broadcast("rendered", make([]byte, 10<<10)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("10 KiB: %v", err)
	}
	if err := r.Broadcast("rendered", make([]byte, MaxMessage-len("rendered"))); err != nil {
		t.Errorf("the largest message: %v", err)
	}
	if err := r.Leave(); err != nil {
		t.Errorf("leave: %v", err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	r := open(t, t.TempDir(), "aaaaaaaaaaaaaaaa", "one")
	_, err := Open(Options{Dir: t.TempDir(), Node: "bbbbbbbbbbbbbbbb", Ring: "one", Bind: r.Address()})
	if err == nil || !strings.Contains(err.Error(), r.Address().String()+" is taken") {
		t.Errorf("second on one port: %v", err)
	}
}

// share gives dir the keyring of r, as joining does.
func share(t *testing.T, r *Ring, dir string) {
	t.Helper()
	b, err := os.ReadFile(r.opt.path("keyring"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keyring"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMembersComeGoAndComeBack(t *testing.T) {
	a := open(t, t.TempDir(), "aaaaaaaaaaaaaaaa", "one")
	dir := t.TempDir()
	share(t, a, dir)
	b := open(t, dir, "bbbbbbbbbbbbbbbb", "one")
	if n, err := b.Join(a.Address()); n != 1 || err != nil {
		t.Fatalf("join: %d, %v", n, err)
	}
	await(t, a, "joined bbbbbbbbbbbbbbbb")
	if err := a.Broadcast("tip", []byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, b, "message tip")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "failed bbbbbbbbbbbbbbbb")
	b = open(t, dir, "bbbbbbbbbbbbbbbb", "one") // another port: it finds the ring by its file, and is known by its ID
	await(t, a, "joined bbbbbbbbbbbbbbbb")
	await(t, b, "joined aaaaaaaaaaaaaaaa")
	if err := b.Leave(); err != nil {
		t.Fatal(err)
	}
	await(t, a, "left bbbbbbbbbbbbbbbb")
	if got := len(a.Members()); got != 2 {
		t.Errorf("%d members remembered, want 2", got)
	}
}

func TestRingsStayApart(t *testing.T) {
	a := open(t, t.TempDir(), "aaaaaaaaaaaaaaaa", "one")
	dir := t.TempDir()
	share(t, a, dir)
	if _, err := open(t, dir, "bbbbbbbbbbbbbbbb", "two").Join(a.Address()); err == nil {
		t.Error("a node of another ring joined by the same key")
	}
	if _, err := open(t, t.TempDir(), "cccccccccccccccc", "one").Join(a.Address()); err == nil {
		t.Error("a node with another key joined")
	}
	if got := len(a.Members()); got != 1 {
		t.Errorf("%d members, want 1", got)
	}
}

func TestFault_N9_SavedMembersAreGarbage(t *testing.T) {
	for name, garbage := range map[string][]byte{
		"zeros": make([]byte, 4096), "empty": nil, "noise": []byte("\x00\xff\xfenoise\n"), "words": []byte("what is this\n"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "members")
			if err := os.WriteFile(path, garbage, 0o600); err != nil {
				t.Fatal(err)
			}
			r := open(t, dir, "aaaaaaaaaaaaaaaa", "one")
			await(t, r, "joined aaaaaaaaaaaaaaaa")
			kept, err := os.ReadFile(path + ".damaged")
			if bytes.ContainsRune(garbage, 0) && (err != nil || !bytes.Equal(kept, garbage)) {
				t.Errorf("kept %q, %v", kept, err)
			}
		})
	}
}

func TestKeyringThatCannotBeReadIsKept(t *testing.T) {
	for name, text := range map[string]string{
		"garbage": "\x00\x00", "none": "[]", "short": `["AAAA"]`, "no base64": `["!"]`,
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "keyring")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: dir, Node: "a", Ring: "one"}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if b, _ := os.ReadFile(path); string(b) != text {
			t.Errorf("%s: keyring is %q now", name, b)
		}
	}
}

func TestSlowConsumerLosesEventsOnce(t *testing.T) {
	q := newEvents()
	for range 3 * keepEvents {
		q.put(Event{Kind: Message, Name: "x"})
	}
	all := q.take()
	if len(all) > keepEvents || all[0].Kind != Lost {
		t.Errorf("%d events wait, the first is %v", len(all), all[0])
	}
}

// BenchmarkIdle reports what a ring of one costs, in thousandths of a percent of a core.
func BenchmarkIdle(b *testing.B) {
	open(b, b.TempDir(), "aaaaaaaaaaaaaaaa", "one")
	time.Sleep(time.Second)
	for b.Loop() {
		before, at := cpu(b), time.Now()
		time.Sleep(5 * time.Second)
		b.ReportMetric(float64(cpu(b)-before)/float64(time.Since(at))*100, "%core")
	}
}

func cpu(b testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
