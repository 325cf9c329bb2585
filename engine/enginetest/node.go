package enginetest

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
)

// nodeModel is the one machine: an agent that looks at the State and reports, and pods that live without it.
type nodeModel struct {
	s      *Sim
	procs  map[string]*process // by pod id
	down   int64               // the agent is not there until then
	report []cluster.Phase     // not yet submitted, in order
	sendAt int64
}

// process is a pod on the machine.
type process struct {
	pod      *control.Pod // as it was when it started
	state    procState
	at       int64 // of the next change; 0: none comes by itself
	restarts int32
	over     bool // its containers have ended; its address is still there
}

type procState string

const (
	starting procState = "starting"
	running  procState = "running"
	ready    procState = "ready"
	ended    procState = "ended"  // well
	failed   procState = "failed" // badly
	stopping procState = "stopping"
)

// next is the true time of the next event here.
func (n *nodeModel) next() int64 {
	at := int64(math.MaxInt64)
	for _, p := range n.procs {
		if p.at != 0 {
			at = min(at, p.at)
		}
	}
	if len(n.report) > 0 {
		at = min(at, max(n.sendAt, n.down))
	}
	if n.down > n.s.now {
		at = min(at, n.down)
	}
	return at
}

// run changes the processes whose time has come, then sends reports.
func (n *nodeModel) run() error {
	for _, id := range n.ids() {
		if p := n.procs[id]; p.at != 0 && p.at <= n.s.now {
			n.change(id, p)
		}
	}
	if n.down == n.s.now {
		n.down = 0
		n.look()
	}
	if len(n.report) > 0 && n.sendAt <= n.s.now && n.down <= n.s.now {
		send := n.report
		n.report = nil
		for i := range send {
			n.s.submit(cluster.Input{Phase: &send[i]})
		}
	}
	return n.check()
}

func (n *nodeModel) ids() []string {
	ids := make([]string, 0, len(n.procs))
	for id := range n.procs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// look brings the machine to what the State says.
func (n *nodeModel) look() {
	s := n.s
	if n.down > s.now {
		return
	}
	for pod := range s.State.PodsOn(Node(1).ID) {
		p, here := n.procs[string(pod.ID)]
		switch {
		case pod.Deleting != 0 && !here:
			n.gone(pod)
		case pod.Deleting != 0 && p.state != stopping:
			if s.Plant == Deaf {
				continue
			}
			p.state, p.at = stopping, s.now+s.between(1, min(pod.Grace*1000, 20_000)+1)
			if s.Plant == EarlyRemoved {
				n.gone(pod)
			}
		case pod.Deleting != 0 || here || pod.Finished != 0:
		default:
			s.Stats.Started++
			n.procs[string(pod.ID)] = &process{pod: pod, state: starting, at: s.now + s.between(20, 3000)}
		}
	}
}

// change takes a process one step further.
func (n *nodeModel) change(id string, p *process) {
	s := n.s
	image := n.image(p.pod)
	isJob := p.pod.Owner.Key.Kind == "Job"
	switch p.state {
	case starting:
		p.state, p.at = running, s.now+s.between(50, 5000)
		if isJob {
			p.at = s.now + s.between(500, 150_000)
		}
		if image == "bad" {
			p.at = 0
		}
	case running:
		switch {
		case isJob && image == "flaky" && s.chance(40):
			p.state, p.at, p.over = failed, 0, true
		case isJob:
			p.state, p.at, p.over = ended, 0, true
		default:
			p.state, p.at = ready, 0
			if !s.calm && s.chance(30) {
				p.at = s.now + s.between(1000, 600_000)
			}
		}
	case ready: // it crashes, and its agent starts it again
		p.restarts++
		p.state, p.at = running, s.now+s.between(100, 20_000)
	case stopping:
		delete(n.procs, id)
		if pod, ok := s.State.Pod(p.pod.ID); ok {
			n.gone(pod)
		}
		return
	}
	n.tell(p)
}

func (n *nodeModel) image(p *control.Pod) string {
	t, err := n.s.State.TemplateOf(p.Object, n.s.Content)
	if err != nil {
		panic(err)
	}
	name, _, _ := strings.Cut(t.Spec.Containers[0].Image, ":")
	return name
}

// tell reports a process as it is now; several reports on a pod become one.
func (n *nodeModel) tell(p *process) {
	phase := corev1.PodPending
	switch p.state {
	case running, ready, stopping:
		phase = corev1.PodRunning
	case ended:
		phase = corev1.PodSucceeded
	case failed:
		phase = corev1.PodFailed
	}
	status := corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", RestartCount: p.restarts}}}
	if p.state == ready {
		status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	n.queue(cluster.Phase{Pod: p.pod.ID, Epoch: p.pod.Epoch, Status: status})
}

func (n *nodeModel) gone(p *control.Pod) {
	n.queue(cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Removed: true})
}

func (n *nodeModel) queue(r cluster.Phase) {
	n.report = slices.DeleteFunc(n.report, func(o cluster.Phase) bool { return o.Pod == r.Pod })
	if len(n.report) == 0 {
		n.sendAt = n.s.now + n.s.between(1, 300)
	}
	n.report = append(n.report, r)
}

// restart is the agent's death: it comes back after a while, looks, and reports all it finds.
func (n *nodeModel) restart() {
	s := n.s
	n.report = nil
	n.down = s.now + s.between(100, 10_000)
	if s.Plant == TwoStarts && len(n.procs) > 0 {
		for _, id := range n.ids() {
			n.procs["forgotten "+id] = n.procs[id]
			delete(n.procs, id)
			break
		}
	}
	for _, id := range n.ids() {
		n.tell(n.procs[id])
	}
}

// check holds what really runs to what must never be.
func (n *nodeModel) check() error {
	names, ips, alone := map[string]string{}, map[string]string{}, map[string]string{}
	for _, id := range n.ids() {
		p := n.procs[id]
		if _, ok := n.s.State.Pod(p.pod.ID); !ok {
			return fmt.Errorf("I2: pod %s/%s runs, and the ledger has forgotten it", p.pod.Namespace, p.pod.Name)
		}
		name := p.pod.Namespace + "/" + p.pod.Name
		if other := names[name]; other != "" {
			return fmt.Errorf("I2: %s runs twice, as %s and %s", name, other, id)
		}
		names[name] = id
		if other := ips[p.pod.IP.String()]; other != "" {
			return fmt.Errorf("I2: %s and %s both use %s", other, id, p.pod.IP)
		}
		ips[p.pod.IP.String()] = id
		if p.over {
			continue
		}
		group := ""
		if p.pod.Index != "" {
			group = p.pod.Owner.UID + " " + p.pod.Index
		}
		if k := p.pod.Source; k.Kind == "CronJob" && (k.Name == "forbid" || k.Name == "replace") {
			group = k.String()
		}
		if other := alone[group]; group != "" && other != "" {
			return fmt.Errorf("I2: %s and %s run at once", other, name)
		}
		alone[group] = name
	}
	return nil
}
