//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// inPod runs f on a thread inside the network namespace of a pod. A socket made there belongs there.
func (n *Node) inPod(uid string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/root%s", n.holder.Process.Pid, filepath.Join(n.Run, "c/pods", uid, "ns/net")))
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// lookups ask a pod's resolver for a name all the time, as a C library does: a question that nobody answers is asked once
// more after 5 s, and one that is refused has failed, for there is no other resolver.
type lookups struct {
	stop chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex // guards what follows
	asked int
	longest
	failed error // the first failure
}

// longest is the slowest answer since it was last asked for.
type longest struct {
	took time.Duration
	at   time.Time // when it came
}

const lookupPatience = 5 * time.Second

func (n *Node) lookups(uid, name, want string) *lookups {
	l := &lookups{stop: make(chan struct{})}
	for range 4 {
		var packets net.Conn
		if err := n.inPod(uid, func() (err error) { packets, err = net.Dial("udp", "10.43.0.10:53"); return err }); err != nil {
			n.t.Fatal(err)
		}
		l.done.Go(func() {
			defer packets.Close()
			for {
				select {
				case <-l.stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				begun := time.Now()
				l.note(begun, ask(packets, name, want))
			}
		})
	}
	return l
}

func (l *lookups) note(begun time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if took := time.Since(begun); took > l.took {
		l.longest = longest{took, time.Now()}
	}
	if err != nil && l.failed == nil {
		l.failed = fmt.Errorf("%s: %w", begun.Format(time.StampMilli), err)
	}
}

// slowest is the slowest answer since it was last asked for, and when it came.
func (l *lookups) slowest() longest {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.longest
	l.longest = longest{}
	return s
}

// end stops them and fails the test if any failed.
func (l *lookups) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.done.Wait()
	if l.failed != nil || l.asked < 100 {
		t.Errorf("of %d lookups the first that failed: %v", l.asked, l.failed)
	}
}

func ask(c net.Conn, name, want string) (err error) {
	for range 2 {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		conn := &dns.Conn{Conn: c}
		_ = conn.SetDeadline(time.Now().Add(lookupPatience))
		if err = conn.WriteMsg(q); err != nil {
			return err
		}
		for {
			var a *dns.Msg
			a, err = conn.ReadMsg()
			if err == nil && a.Id != q.Id {
				continue // to a question that was given up
			}
			if err == nil {
				return answered(a, want)
			}
			break
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return err
}

func answered(a *dns.Msg, want string) error {
	for _, rr := range a.Answer {
		if a, ok := rr.(*dns.A); ok && a.A.String() == want {
			return nil
		}
	}
	return fmt.Errorf("the answer is %s", a)
}

// Pods ask for names all the time while the agent, which answers, is killed, restarted, and exchanged for another binary:
// questions wait in its socket until the next one is there, and none fails.
func TestFault_W13_NamesWhileTheAgentRestarts(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	n.Repository(map[string]string{"apps/web/web.cue": replicated("one")}).Push("one")
	n.Eventually(soon, func() error { return n.podsReady(3) })
	pod := n.Status().Pods[0]
	const name = "web.dev.svc.cluster.local."
	address := ""
	if err := n.inPod(pod.UID, func() error {
		a, err := dns.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), "10.43.0.10:53")
		if err != nil || len(a.Answer) != 1 {
			return fmt.Errorf("%v: %w", a, err)
		}
		address = a.Answer[0].(*dns.A).A.String()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "shoal")
	if out, err := n.command(t.Context(), "cp", binary(t), other).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l := n.lookups(pod.UID, name, address)
	defer func() {
		if l != nil {
			l.end(t)
		}
	}()
	n.Stop() // the agent that has containerd hold the sockets ends as well
	n.Start()
	var killed, told times
	round := func(gaps *times, end func()) {
		time.Sleep(200 * time.Millisecond)
		l.slowest()
		end()
		begun := time.Now()
		n.Start()
		time.Sleep(200 * time.Millisecond)
		s := l.slowest()
		*gaps = append(*gaps, s.at.Sub(begun))
	}
	for range rounds(3, 10) {
		round(&killed, n.Kill)
	}
	for i := range rounds(3, 10) {
		round(&told, func() {
			n.Stop()
			if i == 1 {
				n.binary = other
			}
		})
	}
	// One that is not told and not missed: it hangs, is killed, and comes back.
	_ = n.agent.Process.Signal(syscall.SIGSTOP)
	time.Sleep(300 * time.Millisecond)
	round(&killed, n.Kill)
	// TCP as well: who connects while nobody accepts waits.
	n.Kill()
	waiting := make(chan error, 1)
	go func() {
		var c net.Conn
		err := n.inPod(pod.UID, func() (err error) { c, err = net.DialTimeout("tcp", "10.43.0.10:53", time.Second); return err })
		if err == nil {
			defer c.Close()
			err = ask(c, name, address)
		}
		waiting <- err
	}()
	time.Sleep(100 * time.Millisecond)
	n.Start()
	if err := <-waiting; err != nil {
		t.Errorf("over TCP: %v", err)
	}
	l.end(t)
	t.Logf("%d lookups; from the start of the next agent until the last that waited was answered: after kill -9 %s; after SIGTERM %s", l.asked, killed, told)
	for what, gaps := range map[string]times{"killed": killed, "told to end": told} {
		if fast := gaps.middle(); fast > time.Second {
			t.Errorf("an agent that was %s: %s", what, gaps)
		}
	}
	l = nil
}
