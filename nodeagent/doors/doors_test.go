package doors

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/wire"
)

// house is Doors with one door of one preview, and a Service that says each line back.
type house struct {
	*testing.T
	d     *Doors
	door  wire.Door
	wakes atomic.Int32
	fails atomic.Bool
	over  func() // ends Doors, and waits for all that they began
}

func newHouse(t *testing.T, opt Options) *house {
	t.Helper()
	service, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close() })
	go func() {
		for {
			c, err := service.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintf(c, "heard %s\n", lines.Text())
				}
			}()
		}
	}()
	free, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	h := &house{T: t, door: wire.Door{Preview: "pr-1", NodePort: uint16(port), Asleep: true, Service: netip.MustParseAddrPort(service.Addr().String())}}
	opt.Wake = func(_ context.Context, preview string) error {
		if h.wakes.Add(1); h.fails.Load() || preview != "pr-1" {
			return errors.New("no leader")
		}
		return nil
	}
	h.d = New(opt)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.d.Run(ctx) }()
	h.over = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("something that doors began does not end")
		}
	}
	t.Cleanup(h.over)
	h.set(func() {})
	return h
}

func (h *house) set(change func()) {
	change()
	h.d.Set([]wire.Door{h.door})
}

func (h *house) dial() (net.Conn, error) {
	return net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", h.door.NodePort), time.Second)
}

// ask opens a connection and says something.
func (h *house) ask(text string) net.Conn {
	h.Helper()
	c, err := h.dial()
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
	fmt.Fprintln(c, text)
	return c
}

// hears waits for an answer; "" if there comes none in time, or the error.
func (h *house) hears(c net.Conn, within time.Duration) string {
	_ = c.SetReadDeadline(time.Now().Add(within))
	line, err := bufio.NewReader(c).ReadString('\n')
	switch {
	case errors.Is(err, net.ErrClosed), err == nil:
		return line
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return ""
	}
	return err.Error()
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func (h *house) eventually(what string, ok func() bool) {
	h.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.Fatalf("never: %s", what)
		}
	}
}

// TestFeature_V5_AwakeOnRequest: connections to a preview that sleeps are held while it is woken, once for all of them, and are answered when it is
// there; from then on nobody comes by the door.
func TestFeature_V5_AwakeOnRequest(t *testing.T) {
	h := newHouse(t, Options{})
	first, second := h.ask("one"), h.ask("two")
	h.eventually("it is woken", func() bool { return h.wakes.Load() > 0 })
	if got := h.hears(first, 100*time.Millisecond); got != "" {
		t.Errorf("before it is awake: %q", got)
	}
	h.set(func() { h.door.Asleep = false })
	third := h.ask("three") // it starts
	if !h.d.Busy()["pr-1"] {
		t.Error("nobody waits for it")
	}
	h.set(func() { h.door.Served = true })
	for c, want := range map[net.Conn]string{first: "heard one\n", second: "heard two\n", third: "heard three\n"} {
		if got := h.hears(c, 2*time.Second); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if _, err := h.dial(); err == nil {
		t.Error("the door stands open though there are pods")
	}
	if n := h.wakes.Load(); n != 1 {
		t.Errorf("it was woken %d times", n)
	}
	fmt.Fprintln(first, "again")
	if got := h.hears(first, time.Second); got != "heard again\n" {
		t.Errorf("a connection that came by the door: %q", got)
	}
	_ = first.(*net.TCPConn).CloseWrite()
	if got := h.hears(first, time.Second); got != "EOF" {
		t.Errorf("an end that was told: %q", got)
	}
	_ = second.Close()
	_ = third.Close()
	h.eventually("nothing is held", func() bool { return len(h.d.Busy()) == 0 })

	h.set(func() { h.door.Asleep, h.door.Served = true, false })
	fourth := h.ask("four")
	h.eventually("it is woken again", func() bool { return h.wakes.Load() == 2 })
	h.set(func() { h.door.Asleep, h.door.Served = false, true })
	if got := h.hears(fourth, 2*time.Second); got != "heard four\n" {
		t.Errorf("the second time: %q", got)
	}
}

// TestFault_V5_DoorsAreBounded: so many connections of a preview, for so long; the ring is not asked more often than it must be, and is asked again
// if it does not answer; a preview that does not start refuses connections in the end, as any Service without pods.
func TestFault_V5_DoorsAreBounded(t *testing.T) {
	h := newHouse(t, Options{Each: 2, Hold: 3 * time.Second})
	h.fails.Store(true)
	begun := time.Now()
	held := []net.Conn{h.ask("one"), h.ask("two")}
	h.eventually("both are held", func() bool { h.d.mu.Lock(); defer h.d.mu.Unlock(); return h.d.total == 2 })
	if c, err := h.dial(); err == nil { // or it was reset before this one knew that it was there
		if got := h.hears(c, time.Second); got == "" || got == "heard three\n" {
			t.Errorf("one too many: %q", got)
		}
		_ = c.Close()
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("one too many: %v", err)
	}
	for _, c := range held {
		if got := h.hears(c, 5*time.Second); got == "" || time.Since(begun) < 2*time.Second {
			t.Errorf("after %s: %q", time.Since(begun), got)
		}
	}
	if n := h.wakes.Load(); n != 2 { // at once, and after 2 s
		t.Errorf("the ring was asked %d times", n)
	}
	h.eventually("nothing is left", func() bool { h.d.mu.Lock(); defer h.d.mu.Unlock(); return h.d.total == 0 && len(h.d.waking) == 0 })
	if c, err := h.dial(); err != nil {
		t.Error("a preview that sleeps still is not to be woken any more:", err)
	} else {
		_ = c.Close()
	}
	h.set(func() { h.door.Asleep = false })
	late := h.ask("late")
	if got := h.hears(late, 5*time.Second); got == "" {
		t.Errorf("a preview that does not start: %q", got)
	}
	h.eventually("connections are refused", func() bool {
		c, err := h.dial()
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

// TestFault_V5_NothingIsLeft: with the preview go its door, what is held there and what came through it; so it is when the agent ends.
func TestFault_V5_NothingIsLeft(t *testing.T) {
	for what, end := range map[string]func(*house){
		"the preview is gone":  func(h *house) { h.d.Set(nil) },
		"the agent ends":       func(h *house) { h.over() },
		"another has its port": func(h *house) { h.set(func() { h.door.Preview, h.door.Asleep = "pr-2", false }) },
		"its Service is another": func(h *house) {
			h.set(func() { h.door.Service = netip.MustParseAddrPort("127.0.0.9:1"); h.door.Asleep = false })
		},
		"it is gone, and awake so": func(h *house) { h.set(func() { h.door.Asleep = false }); h.d.Set(nil) },
	} {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t, Options{})
			h.set(func() { h.door.Served = true }) // it ends, and has pods
			through := h.ask("through")
			if got := h.hears(through, 2*time.Second); got != "heard through\n" {
				t.Fatalf("%q", got)
			}
			h.set(func() { h.door.Served = false })
			held := h.ask("held")
			h.eventually("both are there", func() bool { h.d.mu.Lock(); defer h.d.mu.Unlock(); return h.d.total == 2 })
			end(h)
			for _, c := range []net.Conn{through, held} {
				if got := h.hears(c, 2*time.Second); got == "" || got == "heard held\n" {
					t.Errorf("a connection is there still: %q", got)
				}
			}
			if _, err := h.dial(); err == nil {
				t.Error("the door is there still")
			}
			h.eventually("nothing is held", func() bool {
				h.d.mu.Lock()
				defer h.d.mu.Unlock()
				return h.d.total+len(h.d.held)+len(h.d.waiting)+len(h.d.waking) == 0
			})
			h.over()
		})
	}
}

// TestDoorOfAPortThatIsTaken: it is opened once the port is free.
func TestDoorOfAPortThatIsTaken(t *testing.T) {
	h := newHouse(t, Options{})
	h.d.Set(nil)
	h.eventually("the door is shut", func() bool { _, err := h.dial(); return err != nil })
	other, err := net.Listen("tcp4", fmt.Sprintf(":%d", h.door.NodePort))
	if err != nil {
		t.Fatal(err)
	}
	h.set(func() {})
	_ = other.Close()
	h.set(func() {})
	h.ask("one")
	h.eventually("it is woken", func() bool { return h.wakes.Load() == 1 })
}
