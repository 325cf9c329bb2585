//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// harm is what a fault may cost.
type harm int

const (
	none      harm = iota // no request
	some                  // requests to pods of one machine
	takesNode             // a vote, and what runs there
)

// soakFault is one thing that can happen to a machine while another is well; what it returns takes it back.
type soakFault struct {
	name   string
	harm   harm
	inject func(s *soak, n, healthy *Node) (back func())
}

// soakFaults is the whole list, in an order that a seed relies on.
func soakFaults() []soakFault {
	kill := func(pids func(n *Node) []int) func(*soak, *Node, *Node) func() {
		return func(s *soak, n, _ *Node) func() {
			for _, pid := range pids(n) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return nil
		}
	}
	return []soakFault{
		{"kill agent", takesNode, func(_ *soak, n, _ *Node) func() { n.Kill(); return func() { n.Start() } }},
		{"kill containerd", none, kill(func(n *Node) []int { return []int{n.containerd()} })},
		{"kill guard", none, kill((*Node).guards)},
		{"kill tunnel", some, kill((*Node).tunnels)},
		{"kill shims", some, kill(func(n *Node) []int { return n.processes()["shim"] })},
		{"kill pods", some, kill(func(n *Node) []int { return n.running("serve") })},
		{"power off", takesNode, func(_ *soak, n, _ *Node) func() { n.powerOff(); return n.powerOn }},
		{"cut", takesNode, func(s *soak, n, _ *Node) func() {
			s.r.cable(n, "down")
			return func() { s.r.cable(n, "up") }
		}},
		{"deaf", takesNode, func(_ *soak, n, _ *Node) func() { n.deaf(); return n.hears }},
		{"deaf to datagrams", takesNode, func(_ *soak, n, _ *Node) func() {
			n.deaf("udp", "dport", "7946")
			return n.hears
		}},
		{"flap", takesNode, func(s *soak, n, _ *Node) func() {
			for _, state := range []string{"down", "up", "down", "up"} {
				s.r.cable(n, state)
				time.Sleep(time.Duration(200+s.random.IntN(800)) * time.Millisecond)
			}
			return nil
		}},
		{"halt", takesNode, func(_ *soak, n, _ *Node) func() {
			_ = n.agent.Process.Signal(syscall.SIGSTOP)
			return func() { _ = n.agent.Process.Signal(syscall.SIGCONT) }
		}},
		{"fill disk", takesNode, func(_ *soak, n, _ *Node) func() {
			filler := n.fill()
			return func() { n.must("rm", "-f", filler) }
		}},
		{"remove rules", some, func(_ *soak, n, _ *Node) func() {
			n.must("sh", "-c", "nft delete table ip shoal-"+n.mark+" || true")
			return nil
		}},
		{"remove links", some, func(_ *soak, n, _ *Node) func() {
			n.must("sh", "-c", "for l in $(ip -o link | grep -o ' sh-[^:@]*' | grep -v -e -node -e -peer -e -vx -e -wg); do ip link del $l; done; true")
			return nil
		}},
		{"set clock", none, func(s *soak, n, _ *Node) func() {
			n.setClock([]time.Duration{-time.Hour, -10 * time.Second, 20 * time.Second, time.Hour, 20 * 365 * 24 * time.Hour}[s.random.IntN(5)])
			return func() { n.setClock(0) }
		}},
		{"good commit", none, func(s *soak, _, healthy *Node) func() {
			s.greeting = fmt.Sprint("g", s.commits+1)
			s.push(healthy)
			return nil
		}},
		{"bad commit", none, func(s *soak, _, healthy *Node) func() {
			s.repo.Write("apps/web/web.cue", "package web\n\napp: web: replicas: \"three\"\n")
			s.pushAsIs(healthy)
			return nil // the next commit is good
		}},
		{"scale", none, func(s *soak, _, healthy *Node) func() {
			s.replicas = 2 + s.random.IntN(7)
			s.push(healthy)
			return func() { s.replicas = soakLevel }
		}},
		{"job", none, func(s *soak, _, healthy *Node) func() {
			s.repo.Write("apps/job/job.yaml", fmt.Sprintf("apiVersion: batch/v1\nkind: Job\nmetadata: {name: job-%d}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: run, image: 'shoal.local/probe:v1', args: [exit, -after, 500ms, '0']}]}}}\n", s.commits))
			s.push(healthy)
			return nil
		}},
		{"push image", none, func(s *soak, _, healthy *Node) func() {
			_, _, _ = healthy.Shoal("image", "push", imageLayout(s.t, "probe:v1"), "probe:v1") // whom it cannot be kept for refuses it
			return nil
		}},
		{"cordon", none, func(s *soak, n, healthy *Node) func() {
			_, _, _ = healthy.Shoal("cordon", n.name)
			return func() { s.restored(healthy, "uncordon", n.name) }
		}},
		{"drain", none, func(s *soak, n, healthy *Node) func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, binary(s.t), "--server", healthy.Socket(), "drain", n.name)
			_ = cmd.Run() // it goes on without who asked
			return func() { s.restored(healthy, "uncordon", n.name) }
		}},
		{"taint", none, func(s *soak, n, healthy *Node) func() {
			_, _, code := healthy.Shoal("taint", n.name, "soak:NoExecute")
			return func() {
				if code == 0 {
					s.restored(healthy, "taint", n.name, "soak-")
				}
			}
		}},
		{"leave and join", takesNode, func(s *soak, n, healthy *Node) func() {
			if _, _, code := n.Shoal("leave"); code != 0 {
				return nil // as when too few would be left
			}
			n.ended()
			return func() { s.join(n, healthy) }
		}},
		{"rotate keys", none, func(s *soak, _, healthy *Node) func() {
			_, _, _ = healthy.Shoal("ring", "rotate", []string{"keys", "authority"}[s.random.IntN(2)]) // may be refused while others are away
			return nil
		}},
	}
}

// restored carries out a command that is not done before it came through.
func (s *soak) restored(n *Node, args ...string) {
	s.t.Helper()
	n.Eventually(60*time.Second, func() error {
		if out, errs, code := n.Shoal(args...); code != 0 {
			return fmt.Errorf("%s: %s%s", strings.Join(args, " "), out, errs)
		}
		return nil
	})
}

// join takes a machine that has left into the ring again.
func (s *soak) join(n, healthy *Node) {
	s.t.Helper()
	var args []string
	for i := 0; i < len(n.Args); i++ {
		if n.Args[i] == "--join" || n.Args[i] == "--token" {
			i++
			continue
		}
		args = append(args, n.Args[i])
	}
	healthy.Eventually(60*time.Second, func() error {
		token, err := healthy.Client().CreateToken(context.Background(), time.Hour)
		if err == nil {
			n.Args = append(args, "--join", token.Address, "--token", token.Text)
		}
		return err
	})
	n.Start()
	n.mark = n.instance()
}

// push commits the app as it is to be, and pushes.
func (s *soak) push(n *Node) bool {
	s.repo.Write("apps/web/web.cue", s.web())
	return s.pushAsIs(n)
}

// pushAsIs pushes what is in the work tree. It tells whether the ring has taken it for sure: either the push ended well, or, where
// it was cut off while it showed the roll-out, the node says that the ref has moved.
func (s *soak) pushAsIs(n *Node) bool {
	s.commits++
	s.repo.git("add", "-A")
	s.repo.git("commit", "-q", "--allow-empty", "-m", fmt.Sprint("commit ", s.commits))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	cmd := n.command(ctx, "git", "-C", s.repo.Dir, "push", "-q", "http://127.0.0.1:7443/repo.git", "HEAD:main")
	cmd.Env = gitEnv()
	head := s.repo.Head()
	if cmd.Run() != nil {
		if tip, err := n.tip(); err != nil || tip != head {
			return false
		}
	}
	s.acked = head
	return true
}

// tip is where a node says that the branch stands.
func (n *Node) tip() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	cmd := n.command(ctx, "git", "ls-remote", "http://127.0.0.1:7443/repo.git", "refs/heads/main")
	cmd.Env = gitEnv()
	out, err := cmd.Output()
	tip, _, _ := strings.Cut(string(out), "\t")
	return tip, err
}
