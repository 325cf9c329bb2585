//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// ring is several machines on one switch, each in namespaces of its own.
type ring struct {
	t      testing.TB
	nodes  []*Node
	holder *exec.Cmd // of the switch
}

// newRing makes count machines without agents.
func newRing(t testing.TB, count int, args ...string) *ring {
	t.Helper()
	r := &ring{t: t}
	for i := range count {
		n := NewNode(t, args...)
		n.name, n.address = fmt.Sprintf("n%d", i+1), fmt.Sprintf("192.168.77.%d", i+1)
		r.nodes = append(r.nodes, n)
	}
	r.plugIn()
	return r
}

// plugIn makes a namespace with a bridge, and plugs all machines into it.
func (r *ring) plugIn() {
	r.t.Helper()
	r.holder = exec.Command("unshare", "--net", "sleep", "100000")
	r.holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startHeld(r.holder); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.holder.Process.Kill(); _ = r.holder.Wait() })
	time.Sleep(100 * time.Millisecond) // until it has unshared
	r.inSwitch("ip", "link", "add", "br0", "type", "bridge")
	r.inSwitch("ip", "link", "set", "br0", "up")
	for _, n := range r.nodes {
		r.plug(n)
	}
}

// plug has a machine's cable lead to the switch.
func (r *ring) plug(n *Node) {
	r.t.Helper()
	port := "port-" + n.name
	n.must("ip", "addr", "flush", "dev", "lan0")
	n.must("ip", "addr", "add", n.address+"/24", "dev", "lan0")
	n.must("ip", "route", "add", "default", "via", "192.168.77.254")
	n.must("ip", "link", "set", "lan1", "name", port, "netns", fmt.Sprint(r.holder.Process.Pid))
	r.inSwitch("ip", "link", "set", port, "master", "br0")
	r.inSwitch("ip", "link", "set", port, "up")
}

func (r *ring) inSwitch(args ...string) {
	r.t.Helper()
	all := append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", r.holder.Process.Pid), "--"}, args...)
	if out, err := exec.Command("nsenter", all...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// start starts the first machine's agent, and has the others join.
func (r *ring) start() *ring {
	r.t.Helper()
	r.nodes[0].Start()
	for _, n := range r.nodes[1:] {
		token, err := r.nodes[0].Client().CreateToken(context.Background(), time.Hour)
		if err != nil {
			r.t.Fatal(err)
		}
		n.Args = append(n.Args, "--join", token.Address, "--token", token.Text)
		n.Start()
	}
	r.nodes[0].Eventually(30*time.Second, func() error { return r.whole(len(r.nodes)) })
	return r
}

// whole tells whether so many nodes are ready, as many of them vote as may, and all have the same state.
func (r *ring) whole(count int) error {
	list, err := r.nodes[0].Client().Ring(context.Background(), true)
	if err != nil {
		return err
	}
	ready, voters, hashes := 0, 0, map[string]bool{}
	for _, n := range list.Nodes {
		if n.State == "Ready" || n.State == "Unsteady" { // it was lost, and is there again
			ready++
		}
		if n.Voter {
			voters++
		}
		if n.Now != nil {
			hashes[fmt.Sprint(n.Now.Index, n.Now.StateHash)] = true
		}
	}
	want := min(count-1+count%2, 5)
	if ready != count || voters != want || len(hashes) != 1 {
		return fmt.Errorf("%d of %d nodes are ready, %d vote, states %v", ready, count, voters, hashes)
	}
	return nil
}

// powerOff kills all that runs on a machine, at once.
func (n *Node) powerOff() {
	n.t.Helper()
	n.mark = n.instance()
	n.must("ip", "link", "set", "lan0", "down") // what dies sends no farewell
	n.killAll()
	n.Kill()
	n.Eventually(10*time.Second, func() error { // who was killed is there for a while, and may have started others before
		if left := n.killAll(); len(left) > 0 {
			return fmt.Errorf("still running: %q", left)
		}
		return nil
	})
}

// killAll kills what runs on a machine, and says what that is.
func (n *Node) killAll() (found []string) {
	for _, dir := range n.runningOn(n.mark) {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil || strings.Contains(string(status), "\nState:\tZ") { // it has ended
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			found = append(found, dir+" "+string(status[:min(len(status), 200)]))
		}
	}
	return found
}

// powerOn is for a machine that has lost its power.
func (n *Node) powerOn() {
	n.t.Helper()
	n.clear(n.mark)
	n.must("ip", "link", "set", "lan0", "up")
	n.must("ip", "route", "replace", "default", "via", "192.168.77.254")
	n.Start()
}

// settled waits until all nodes are there, have one state, and so many pods are ready.
func (r *ring) settled(pods int) {
	r.t.Helper()
	r.nodes[0].Eventually(60*time.Second, func() error {
		if err := r.whole(len(r.nodes)); err != nil {
			return err
		}
		return ready(r.nodes[0].Status(), pods)
	})
}

// smallDisks puts the data of machines that were not started yet on disks of 512 MiB.
func (r *ring) smallDisks() *ring {
	for _, n := range r.nodes {
		n.must("mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", filepath.Dir(n.Data))
	}
	return r
}

// fill fills the disk of a machine's data with a file, which it returns.
func (n *Node) fill() (filler string) {
	filler = filepath.Join(filepath.Dir(n.Data), "filler")
	_, _ = n.command(context.Background(), "dd", "if=/dev/zero", "of="+filler, "bs=1M").CombinedOutput() // until it is full
	return filler
}

// lead has a node lead the ring: agents that lead are restarted until it does.
func (r *ring) lead(n *Node) {
	r.t.Helper()
	for range 30 {
		r.nodes[0].Eventually(30*time.Second, func() error { return r.whole(len(r.nodes)) })
		name := r.leader()
		if name == n.name {
			return
		}
		leader, _ := r.around(name)
		leader.Stop()
		leader.Start()
	}
	r.t.Fatalf("%s does not come to lead", n.name)
}

// podsOn counts the ready pods of each node.
func podsOn(s api.Status) map[string]int {
	out := map[string]int{}
	for _, p := range s.Pods {
		if p.Ready == p.Containers {
			out[p.Node]++
		}
	}
	return out
}

// Three machines by one command each: a push to any of them runs on all, and answers on each.
func TestFeature_R1_ThreeNodes(t *testing.T) {
	r := newRing(t, 3).start()
	first := r.nodes[0]
	first.Image("probe:v1")
	first.Repository(map[string]string{"apps/web/web.cue": strings.Replace(webApp("probe:v1", "one"), "image:", "replicas: 3\n\timage:", 1)}).Push("first")
	first.Eventually(60*time.Second, func() error {
		on := podsOn(first.Status())
		if len(on) != 3 {
			return fmt.Errorf("ready pods on each node: %v", on)
		}
		return nil
	})
	for _, n := range r.nodes {
		n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
	}
	for _, p := range first.Status().Pods { // asked of a node that does not have it, as often as not
		if out, errs, code := first.Shoal("logs", "-n", p.Namespace, p.Name); code != 0 || out == "" {
			t.Errorf("log of %s on %s: %q %q", p.Name, p.Node, out, errs)
		}
		if out, errs, code := first.Shoal("exec", "-n", p.Namespace, p.Name, "--", "/probe", "env"); code != 0 || !strings.Contains(out, "GREETING=one") {
			t.Errorf("exec in %s on %s: %q %q", p.Name, p.Node, out, errs)
		}
	}
	first.Eventually(10*time.Second, func() error { return r.whole(3) })
}

// strictApp may run once only.
const strictApp = `package one

import "shoal.dev/schema"

schema.#Package

app: one: {
	image: "shoal.local/probe:v1"
	args: ["serve"]
	strict: true
	ports: http: 8080
	readinessProbe: httpGet: {path: "/readyz", port: 8080}
}
`

// nodeOf is where the pod is whose name begins so.
func nodeOf(s api.Status, prefix string) string {
	for _, p := range s.Pods {
		if strings.HasPrefix(p.Name, prefix) {
			return p.Node
		}
	}
	return ""
}

// around is a machine by its name, and the others.
func (r *ring) around(name string) (one *Node, rest []*Node) {
	r.t.Helper()
	for _, n := range r.nodes {
		if n.name == name {
			one = n
		} else {
			rest = append(rest, n)
		}
	}
	if one == nil {
		r.t.Fatalf("no machine is called %q", name)
	}
	return one, rest
}

// leader is the name of the node that leads.
func (r *ring) leader() string {
	r.t.Helper()
	name, err := r.nodes[0].leads()
	if err != nil {
		r.t.Fatal(err)
	}
	return name
}

// cable plugs a machine in, or out.
func (r *ring) cable(n *Node, state string) {
	r.t.Helper()
	r.inSwitch("ip", "link", "set", "port-"+n.name, state)
}

// readyOff tells whether so many pods whose names begin so are ready on other nodes than one.
func (n *Node) readyOff(node, prefix string, want int) error {
	s, err := n.Client().Status(context.Background())
	if err != nil {
		return err
	}
	got := 0
	for _, p := range s.Pods {
		if strings.HasPrefix(p.Name, prefix) && p.Node != node && p.Ready == p.Containers {
			got++
		}
	}
	if got != want {
		return fmt.Errorf("%d of %d pods of %s are ready off %s: %v", got, want, prefix, node, podsOn(s))
	}
	return nil
}

// runs tells whether a process of a container runs on this machine, by a word of its environment.
func (n *Node) runs(word string) bool {
	n.t.Helper()
	for _, dir := range n.runningOn(n.mark) {
		if b, err := os.ReadFile(dir + "/environ"); err == nil && strings.Contains(string(b), word) {
			return true
		}
	}
	return false
}

// A machine without its cable for half a minute: it keeps its stateless pods and stops what may run once before that runs
// elsewhere; the majority goes on. With the cable back all have one state, and everything runs as often as it should.
func TestFeature_R3_Partition(t *testing.T) {
	r := newRing(t, 3).start()
	first := r.nodes[0]
	first.Image("probe:v1")
	first.Repository(map[string]string{
		"apps/web/web.cue": strings.Replace(webApp("probe:v1", "one"), "image:", "replicas: 3\n\timage:", 1),
		"apps/one/one.cue": strings.Replace(strictApp, "strict:", "env: ALONE: \"yes\"\n\tstrict:", 1),
	}).Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 4) })
	cut, rest := r.around(nodeOf(first.Status(), "one-"))
	for _, n := range r.nodes {
		n.mark = n.Status().NodeID[:6]
		n.Eventually(10*time.Second, func() error { // before it is cut off, a node knows that its own pod is ready
			return errors.Join(ready(n.Status(), 4), n.answers(page+"/env", "GREETING=one"))
		})
	}
	if !cut.runs("ALONE=yes") {
		t.Fatal("the witness does not see the process")
	}
	r.cable(cut, "down")
	begun := time.Now()
	stopped, started := time.Duration(0), time.Duration(0)
	for deadline := begun.Add(60 * time.Second); started == 0 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		here := cut.runs("ALONE=yes")
		there := rest[0].runs("ALONE=yes") || rest[1].runs("ALONE=yes")
		if here && there {
			t.Fatalf("two run at once %s after the cut", time.Since(begun))
		}
		if !here && stopped == 0 {
			stopped = time.Since(begun)
		}
		if there {
			started = time.Since(begun)
		}
	}
	t.Logf("stopped on %s after %s, runs elsewhere after %s", cut.name, stopped.Round(time.Millisecond), started.Round(time.Millisecond))
	if stopped == 0 || started == 0 {
		t.Fatal("it was not stopped, or does not run elsewhere")
	}
	if err := cut.answers(page+"/env", "GREETING=one"); err != nil {
		t.Errorf("what is stateless on the machine that was cut off: %v", err)
	}
	rest[0].Eventually(30*time.Second, func() error { return rest[0].readyOff(cut.name, "web-", 3) })
	r.cable(cut, "up")
	first.Eventually(60*time.Second, func() error {
		if err := r.whole(3); err != nil {
			return err
		}
		return ready(first.Status(), 4)
	})
	for _, n := range r.nodes {
		n.Eventually(10*time.Second, func() error { return n.answers(page+"/env", "GREETING=one") })
	}
}

// ready tells whether so many pods are.
func ready(s api.Status, want int) error {
	got := 0
	for _, p := range s.Pods {
		if p.Ready == p.Containers {
			got++
		}
	}
	if got != want {
		return fmt.Errorf("%d of %d pods are ready: %v", got, want, podsOn(s))
	}
	return nil
}

// keptOn is an app whose pod is on one node alone.
func keptOn(node, greeting string) string {
	return webApp("probe:v1", greeting) + fmt.Sprintf(`app: web: objects: "deployment/web": spec: template: spec: nodeSelector: "kubernetes.io/hostname": %q`+"\n", node)
}

// A push to one node starts a process on another: the time from the push's arrival until the process there says that it
// listens. The pod is kept on another node than the one that is pushed to.
func TestFeature_R1_PushToAnotherNode(t *testing.T) {
	r := newRing(t, 3).start()
	first, other := r.nodes[0], r.nodes[1]
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{"apps/web/web.cue": keptOn("n2", "zero")})
	repo.Push("zero")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 1) })
	var took times
	for i := range rounds(5, 40) {
		repo.Write("apps/web/web.cue", keptOn("n2", fmt.Sprint("push", i)))
		said := repo.Push("next")
		received, err := first.pushReceived()
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, other.firstWords("web", received).Sub(received))
		if i == 0 {
			t.Logf("as the pusher sees it:\n%s", said)
		}
	}
	t.Logf("push to listening process on another node: %s", took)
	if most := slices.Max(took); most > 20*time.Second {
		t.Errorf("%s is more than ten times the goal", most)
	}
}
