//go:build e2e

// Package e2e drives the shoal binary as a user would, on real containerd, nftables and Git. Every node runs in
// network and mount namespaces of its own, so that tests touch nothing of the machine they run on.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// binary is the shoal that `make build` made; SHOAL_BINARY names another.
func binary(t testing.TB) string {
	t.Helper()
	path := os.Getenv("SHOAL_BINARY")
	if path == "" {
		path = "../../../bin/shoal"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no binary to test: %v; run make build", err)
	}
	return path
}

// Node is one machine of a test: namespaces that outlive its agent, and a data directory.
type Node struct {
	t      testing.TB
	Data   string
	Run    string
	Logs   string
	Args   []string // further flags of the agent
	holder *exec.Cmd
	agent  *exec.Cmd
	exited chan struct{}
	output *output

	clientsMu sync.Mutex
	clients   []*api.Client // that were made; guarded by clientsMu

	name, address string   // as the agent is told
	env           []string // of the agent, beside the test's own
	binary        string   // of the agent; default: the one that is tested
	mark          string   // of its instance, where a test needs it while the agent does not answer
}

// output keeps what an agent printed, to be shown when its test fails.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// startHeld starts a process that dies with the test: Pdeathsig is of the thread that starts it, so this one stays.
func startHeld(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {}
	}()
	return <-started
}

// NewNode makes a machine without an agent. Everything of it is gone when the test ends.
func NewNode(t testing.TB, args ...string) *Node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("end-to-end tests need root")
	}
	run, err := os.MkdirTemp("/run", "sh-e2e-") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.MkdirTemp("", "sh-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{t: t, Data: filepath.Join(data, "data"), Run: run, Logs: filepath.Join(data, "logs"), Args: args, output: &output{}, name: "n1", address: "192.168.77.1"}
	n.holder = exec.Command("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", "ip link set lo up && echo up && exec sleep 100000")
	n.holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	up, err := n.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := startHeld(n.holder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.remove()
		for _, dir := range []string{run, data} {
			if err := os.RemoveAll(dir); err != nil {
				t.Errorf("left behind: %v", err)
			}
		}
	})
	if _, err := io.ReadFull(up, make([]byte, 3)); err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	// An address of its own, as a machine has: the pods' way out and the NodePorts' way in.
	n.must("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
	n.must("ip", "addr", "add", "192.168.77.1/24", "dev", "lan0")
	n.must("ip", "link", "set", "lan0", "up")
	n.must("ip", "link", "set", "lan1", "up")
	n.must("ip", "route", "add", "default", "via", "192.168.77.254")
	return n
}

// command is a command inside the node's namespaces.
func (n *Node) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	pid := fmt.Sprint(n.holder.Process.Pid)
	all := append([]string{"--net=/proc/" + pid + "/ns/net", "--mount=/proc/" + pid + "/ns/mnt", "--", name}, args...)
	return exec.CommandContext(ctx, "nsenter", all...)
}

func (n *Node) must(name string, args ...string) string {
	n.t.Helper()
	out, err := n.command(context.Background(), name, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Start starts the agent and waits until it answers.
func (n *Node) Start() *Node {
	n.t.Helper()
	n.StartWithoutWaiting()
	n.Eventually(60*time.Second, func() error {
		select {
		case <-n.exited:
			n.t.Fatalf("the agent ended\n%s", n.output)
		default:
		}
		_, err := n.Client().Status(context.Background())
		return err
	})
	return n
}

// StartWithoutWaiting starts the agent.
func (n *Node) StartWithoutWaiting() {
	n.t.Helper()
	cmd := n.command(context.Background(), cmp.Or(n.binary, binary(n.t)), append([]string{"agent"}, n.flags()...)...)
	cmd.Env = append(os.Environ(), n.env...)
	cmd.Stdout, cmd.Stderr = n.output, n.output
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.agent, n.exited = cmd, make(chan struct{})
	exited := n.exited
	go func() { _ = cmd.Wait(); close(exited) }()
}

// flags are those of the node's agent.
func (n *Node) flags() []string {
	return append([]string{
		"--data-dir", n.Data, "--run-dir", n.Run, "--log-dir", n.Logs, "--node-name", n.name, "--address", n.address,
		"--disk-pressure", "none", // how full the disk of the tests' host is decides nothing
	}, n.Args...)
}

// Kill ends the agent at once, as a crash does. nsenter execs, so the agent has the pid.
func (n *Node) Kill() {
	n.t.Helper()
	if n.agent == nil {
		return
	}
	_ = n.agent.Process.Kill()
	<-n.exited
	n.agent = nil
}

// Stop ends the agent politely.
func (n *Node) Stop() {
	n.t.Helper()
	if n.agent == nil {
		return
	}
	_ = n.agent.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.exited:
	case <-time.After(30 * time.Second):
		n.t.Errorf("the agent did not stop within 30 s\n%s", n.output)
		_ = n.agent.Process.Kill()
		<-n.exited
	}
	n.agent = nil
}

// Socket is where the agent answers.
func (n *Node) Socket() string { return filepath.Join(n.Run, "agent.sock") }

// Client asks the agent.
func (n *Node) Client() *api.Client {
	c := api.NewClient(n.Socket())
	n.clientsMu.Lock()
	defer n.clientsMu.Unlock()
	n.clients = append(n.clients, c)
	return c
}

// hangUp ends the connections that clients keep for their next question, as far as they are not in use.
func (n *Node) hangUp() {
	n.clientsMu.Lock()
	defer n.clientsMu.Unlock()
	for _, c := range n.clients {
		c.Close()
	}
	n.clients = nil
}

// Status is the agent's answer, or the end of the test.
func (n *Node) Status() api.Status {
	n.t.Helper()
	s, err := n.Client().Status(context.Background())
	if err != nil {
		n.t.Fatalf("status: %v\n%s", err, n.output)
	}
	return s
}

// Shoal runs a command line of ours against the node and returns what it printed and its exit status.
func (n *Node) Shoal(args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	return n.ShoalIn("", "", args...)
}

// ShoalIn is Shoal in a directory, with standard input.
func (n *Node) ShoalIn(dir, stdin string, args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := n.command(ctx, "sh", append([]string{"-c", `cd "$0" && exec "$@"`, cmp.Or(dir, "/"), binary(n.t)}, args...)...)
	cmd.Env = append(os.Environ(), "SHOAL_SERVER="+n.Socket())
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		n.t.Fatalf("shoal %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), 0
}

// Eventually waits for something to come true.
func (n *Node) Eventually(limit time.Duration, check func() error) {
	n.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("not within %s: %v\n%s", limit, err, n.describe())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// describe is what helps to understand a failure.
func (n *Node) describe() string {
	var b strings.Builder
	if s, err := n.Client().Status(context.Background()); err == nil {
		j, _ := json.MarshalIndent(s, "", " ")
		b.Write(j)
	}
	out := n.output.String()
	if len(out) > 20000 {
		out = "...\n" + out[len(out)-20000:]
	}
	return b.String() + "\n--- agent ---\n" + out
}

// within runs f on a thread inside the node's network namespace. A socket made there belongs there.
func (n *Node) within(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.holder.Process.Pid))
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

// Dial connects from inside the node.
func (n *Node) Dial(_ context.Context, network, address string) (conn net.Conn, err error) {
	err = n.within(func() error {
		conn, err = net.DialTimeout(network, address, 3*time.Second)
		return err
	})
	return conn, err
}

// HTTP is a client inside the node; each request has a connection of its own.
func (n *Node) HTTP() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: n.Dial, DisableKeepAlives: true}}
}

// Get fetches a page from inside the node.
func (n *Node) Get(url string) (string, error) {
	resp, err := n.HTTP().Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, b)
	}
	return string(b), err
}

// remove takes the node down: its agent, what it made, its namespaces.
func (n *Node) remove() {
	if n.t.Failed() {
		n.t.Logf("%s", n.describe())
	}
	n.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := n.command(ctx, binary(n.t), "reset", "--yes", "--data-dir", n.Data, "--run-dir", n.Run, "--log-dir", n.Logs).CombinedOutput()
	if err != nil {
		n.t.Errorf("shoal reset: %v\n%s", err, out)
	}
	_ = n.holder.Process.Kill()
	_ = n.holder.Wait()
}

// Reboot ends every process of the node at once and empties what lies in memory, as a power cut does.
func (n *Node) Reboot() {
	n.t.Helper()
	instance := n.instance()
	n.Kill()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for range 3 { // what a killed shim was about to start
		for _, dir := range dirs {
			cmdline, _ := os.ReadFile(dir + "/cmdline")
			cgroup, _ := os.ReadFile(dir + "/cgroup")
			if strings.Contains(string(cmdline), n.Run) || strings.Contains(string(cmdline), n.Data) || strings.Contains(string(cgroup), "shoal-"+instance) {
				var pid int
				if _, err := fmt.Sscan(filepath.Base(dir), &pid); err == nil && pid != n.holder.Process.Pid {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
		dirs, _ = filepath.Glob("/proc/[0-9]*")
	}
	n.clear(instance)
}

// clear takes away what an instance had in the kernel's memory and in its run directory.
func (n *Node) clear(instance string) {
	n.t.Helper()
	n.must("sh", "-c", `nft flush ruleset
for l in $(ip -o link | grep -o ' sh-[^:@]*'); do ip link del $l 2>/dev/null; done
awk '$5 ~ "^'"$0"'" {print $5}' /proc/self/mountinfo | sort -r | while read m; do umount -l "$m" 2>/dev/null; done
rm -rf "$0"/*
awk '$5 ~ "^'"$1"'" {print $5}' /proc/self/mountinfo | sort -r | while read m; do umount -l "$m" 2>/dev/null; done
find /sys/fs/cgroup -depth -type d -path "*shoal-$2*" -exec rmdir {} + 2>/dev/null
exit 0`, n.Run, n.Data, instance)
}
