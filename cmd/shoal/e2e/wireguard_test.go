//go:build e2e

package e2e

import (
	"context"
	enc "encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tunnels are the processes of a machine that encrypt. The agent need not answer, if mark is set.
func (n *Node) tunnels() []int { return n.running("sh-" + n.mark + "-wg") }

// onTheWire counts for a while what a machine's cable carries: packets from pods to pods, or wrapped, and those of WireGuard.
// One that has a pod's address at one end only is shown.
func (n *Node) onTheWire(duration time.Duration) (plain, sealed int) {
	n.t.Helper()
	err := n.within(func() error {
		all := enc.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // nothing before it is bound
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		lan, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: lan.Index}); err != nil {
			return err
		}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
		b := make([]byte, 70<<10)
		for begun := time.Now(); time.Since(begun) < duration; {
			k, err := unix.Read(fd, b)
			if err != nil || k < 42 || b[12] != 8 || b[13] != 0 {
				continue
			}
			ip := b[14:k]
			switch {
			case ip[12] == 10 && ip[13] == 42 && ip[16] == 10 && ip[17] == 42, ip[9] == unix.IPPROTO_UDP && enc.BigEndian.Uint16(ip[22:]) == 4789:
				plain++
			case ip[12] == 10 && ip[13] == 42, ip[16] == 10 && ip[17] == 42:
				n.t.Logf("%s: beside: %v to %v, protocol %d, %x", n.name, net.IP(ip[12:16]), net.IP(ip[16:20]), ip[9], ip[20:])
			case ip[9] == unix.IPPROTO_UDP && enc.BigEndian.Uint16(ip[22:]) == 51820:
				sealed++
			}
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return plain, sealed
}

// again restarts a machine's agent with another --wireguard.
func (r *ring) again(n *Node, wireguard string) {
	r.t.Helper()
	n.Stop()
	n.Args = slices.DeleteFunc(n.Args, func(a string) bool { return strings.HasPrefix(a, "--wireguard=") })
	n.Args = append(n.Args, "--wireguard="+wireguard)
	n.Start()
	n.Eventually(30*time.Second, func() error { return r.whole(len(r.nodes)) })
}

// cost is what a process takes: processor time over a while, in thousandths of a core, and memory, in KiB.
func cost(t testing.TB, pid int, over time.Duration) (milliCPU int, pss int) {
	t.Helper()
	ticks := func() int {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(b)[strings.LastIndexByte(string(b), ')')+1:])
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		return user + system
	}
	before := ticks()
	time.Sleep(over)
	milliCPU = (ticks() - before) * 10 * 1000 / int(over.Milliseconds())
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			pss, _ = strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return milliCPU, pss
}

// A ring goes over to WireGuard node by node, then to nothing else, under requests to every node, and none fails; nor when an
// agent is killed, or the process that encrypts. Nothing is read on the cables then, and nothing is left by reset.
func TestFeature_Wireguard(t *testing.T) {
	r := newRing(t, 3).start()
	first, last := r.nodes[0], r.nodes[2]
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": replicated("one")}).Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	var loads []*load
	request := func() {
		for _, n := range r.nodes {
			loads = append(loads, n.load("http://"+n.address+":30080/readyz", 2))
		}
	}
	answered := func(when string) {
		t.Helper()
		t.Log(when)
		for _, l := range loads {
			l.end(t)
		}
		loads = nil
	}
	for _, n := range r.nodes {
		n.mark = n.instance()
		n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
	}
	request()
	if plain, _ := first.onTheWire(time.Second); plain == 0 {
		t.Error("without WireGuard nothing of pods is seen on the cable: the test is blind")
	}

	for i, n := range r.nodes {
		r.again(n, "on")
		others := []string{"n2, n3", "n3", ""}[i]
		n.Eventually(20*time.Second, func() error {
			text := strings.Join(n.Status().Warnings, "\n")
			if want := "packets between pods here and on " + others + " are not encrypted"; others != "" && !strings.Contains(text, want) || others == "" && strings.Contains(text, "encrypted") {
				return fmt.Errorf("warnings %q, others without it: %q", text, others)
			}
			return nil
		})
		if out, errs, code := first.Shoal("ring", "status"); code != 0 || others != "" && !strings.Contains(out, "wireguard: not on "+others) || others == "" && !strings.Contains(out, "wireguard: on all nodes") {
			t.Errorf("ring status: %s%s", out, errs)
		}
	}
	answered("to on, node by node")
	request()
	for _, n := range r.nodes {
		r.again(n, "strict")
	}
	answered("to strict, node by node")
	request()
	if plain, sealed := first.onTheWire(2 * time.Second); plain > 0 || sealed == 0 {
		t.Errorf("%d packets of pods in clear, %d encrypted", plain, sealed)
	}

	before := last.tunnels()
	if len(before) != 1 {
		t.Fatalf("processes that encrypt: %v", before)
	}
	last.Kill()
	last.Start()
	last.Eventually(30*time.Second, func() error { return r.whole(3) })
	if now := last.tunnels(); !slices.Equal(now, before) {
		t.Errorf("an agent was killed: process %v, before %v", now, before)
	}
	time.Sleep(2 * time.Second) // it has looked at everything
	answered("an agent is killed")
	request()
	_ = syscall.Kill(before[0], syscall.SIGKILL)
	last.Eventually(20*time.Second, func() error {
		now := last.tunnels()
		if len(now) != 1 || now[0] == before[0] {
			return fmt.Errorf("processes %v, killed was %v", now, before)
		}
		return nil
	})
	time.Sleep(2 * time.Second)
	for _, n := range r.nodes {
		if plain, sealed := n.onTheWire(time.Second); plain > 0 || sealed == 0 {
			t.Errorf("%s: %d packets of pods in clear, %d encrypted", n.name, plain, sealed)
		}
	}
	_, busy := cost(t, last.tunnels()[0], time.Second)
	answered("the process that encrypts is killed")
	if drift := strings.Count(last.output.String(), "WireGuard's process is gone"); drift != 1 {
		t.Errorf("that the process is gone is said %d times", drift)
	}
	if rounds(0, 1) > 0 {
		time.Sleep(35 * time.Second) // it gives its memory back
		cpu, pss := cost(t, last.tunnels()[0], 10*time.Second)
		t.Logf("the process at rest: %.1f %% of a core, %d KiB; under requests %d KiB", float64(cpu)/10, pss, busy)
		if cpu > 5 {
			t.Errorf("at rest it takes %d thousandths of a core", cpu)
		}
	}

	r.again(last, "off")
	last.Eventually(20*time.Second, func() error {
		if now := last.tunnels(); len(now) > 0 {
			return fmt.Errorf("off, and processes %v run", now)
		}
		return nil
	})
	for _, n := range r.nodes[:2] { // they are strict
		n.Eventually(20*time.Second, func() error {
			if text := strings.Join(n.Status().Warnings, "\n"); !strings.Contains(text, "pods on n3 are not reached from here") {
				return fmt.Errorf("warnings %q", text)
			}
			return nil
		})
	}
	r.again(last, "on")
	for _, n := range r.nodes {
		n.Stop()
		if out, err := n.command(context.Background(), binary(t), "reset", "--yes", "--data-dir", n.Data, "--run-dir", n.Run, "--log-dir", n.Logs).CombinedOutput(); err != nil {
			t.Errorf("reset: %v\n%s", err, out)
		}
		if left := n.left(n.mark); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if links := n.must("ip", "-o", "link"); strings.Contains(links, "sh-"+n.mark) {
			t.Errorf("left:\n%s", links)
		}
		if found, _ := filepath.Glob("/var/run/wireguard/sh-" + n.mark + "*"); len(found) > 0 {
			t.Errorf("left: %v", found)
		}
	}
}

// A port that somebody has is said at once, with what to do, and so are words that mean nothing.
func TestWireguardFlags(t *testing.T) {
	n := NewNode(t)
	for _, c := range []struct{ flag, want string }{
		{"--wireguard=yes", "--wireguard yes: expected off, on or strict"}, {"--wireguard-port=0", "--wireguard-port 0: expected 1 to 65535"},
	} {
		out, _ := exec.Command(binary(t), "agent", "--data-dir", n.Data, "--run-dir", n.Run, c.flag).CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %s", c.flag, out)
		}
	}
}
