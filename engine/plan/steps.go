package plan

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
)

// Op is what is done to a machine. There are no others.
type Op string

// The operations, in the order in which one pod goes through them.
const (
	Stop     Op = "stop"     // a container: polite signal, then kill after Grace
	Remove   Op = "remove"   // what is left of an older instance of a container
	Release  Op = "release"  // network, volumes and namespaces of a pod that has ended; how it ended, and its logs, stay
	Teardown Op = "teardown" // all that is left of a pod; then it is reported as gone
	Pull     Op = "pull"     // an image
	Sandbox  Op = "sandbox"  // namespaces, link and volumes of a pod
	Relink   Op = "relink"   // a link, address or route that went missing
	Refresh  Op = "refresh"  // volumes of a running pod, in place
	Start    Op = "start"    // one instance of a container
)

// Action is one step for one pod: a plain value that can be printed, compared and replayed.
type Action struct {
	Op        Op            `json:"op"`
	Pod       control.PodID `json:"pod"`
	Name      string        `json:"name"` // namespace/name of the pod, for people
	Container string        `json:"container,omitempty"`
	Image     string        `json:"image,omitempty"`
	Attempt   int           `json:"attempt,omitempty"` // Start, Remove
	Streak    int           `json:"streak,omitempty"`  // Start
	Grace     int64         `json:"grace,omitempty"`   // Stop: seconds from the polite signal to the kill
	Why       string        `json:"why"`               // one clause for people
}

func (a Action) String() string {
	s := fmt.Sprintf("%-8s %s", a.Op, a.Name)
	if a.Container != "" {
		s += "/" + a.Container
	}
	if a.Attempt > 0 {
		s += fmt.Sprintf(" #%d", a.Attempt)
	}
	return s + "  # " + a.Why
}

// Health is what the probes found of one container instance. The zero value is a container without probes.
type Health struct {
	NotStarted bool   // a startup probe has not succeeded yet
	NotReady   bool   // a readiness probe fails or has not run yet
	Failed     string // why a liveness or startup probe gave up on it, or ""
	Grace      *int64 // seconds from the polite signal to the kill that the failed probe asks for; nil: the pod's
}

// Facts is what Steps may know beside want and have.
type Facts struct {
	Health map[string]Health      // by container instance ID
	Images map[string]bool        // image reference with its fixed digest -> present on the node
	Busy   map[control.PodID]bool // pods something is being done to: left alone
	Stale  map[control.PodID]bool // pods whose volumes may not be as the newest want has them
	// Past is how many instances containers have had of which nothing is here, by their logs: those before the machine was
	// started anew. The restart count goes on from there, as kubelet's does.
	Past  map[control.PodID]map[string]int
	Now   int64 // ms since 1970
	Ring  int64 // the same by the ring's time, as far as it is known; 0: by Now
	Lease Lease
	// Unrendered are pods of which something has not come out of a render of this node's own, and why. What is in no
	// commit is not run, whoever has put it into the ledger: such pods are not begun. Those that were go on.
	Unrendered map[control.PodID]Trouble
}

// Lease says what the ring lease allows with pods of which one may run. The zero Lease allows all.
type Lease struct {
	Stop    bool   // they are to stop: the lease ends, and another node may start them then
	Grace   int64  // seconds that they have for it
	NoStart bool   // none is started
	Why     string // NoStart: for people
}

// Withheld says why a pod is not begun now, or none of its containers is started; the zero Trouble says that they may be.
func Withheld(p *Pod, facts Facts) Trouble {
	if t := facts.Unrendered[p.ID]; t != (Trouble{}) {
		return t
	}
	if p.Leased() && facts.Lease.NoStart {
		return Trouble{Reason: "NoLease", Message: facts.Lease.Why}
	}
	return Trouble{}
}

// setBack is how far in the future an end may lie, in ms, before it is held for one by a clock that was set back since: who
// waits for it to come might wait for years.
const setBack = 5_000

// Backoff is Kubernetes' delay before a container is started again: none after the first failure, then 10 s,
// doubled each time, 5 minutes at most; a run of 10 minutes clears the account (kubelet's
// MaxContainerBackOff and its reset after twice that).
func Backoff(streak int) (ms int64) {
	const first, most int64 = 10_000, 300_000
	if streak <= 1 {
		return 0
	}
	if streak > 6 {
		return most
	}
	return min(first<<(streak-2), most)
}

const clearAfter = 10 * 60_000 // ms a container must have run for its failures to be forgotten

// Steps returns what takes a node from have to want, pod by pod in order of id, and when to look again
// although nothing happened (ms since 1970; 0: never). It depends on its arguments alone, and is empty when
// all is as wanted. Something that is not in want is left alone: only an entry of the ledger ends a pod.
func Steps(want Want, have Have, facts Facts) (steps []Action, wake int64) {
	ids := make([]control.PodID, 0, len(want))
	for id := range want {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if facts.Busy[id] {
			continue
		}
		seen := have[id]
		if seen == nil {
			seen = &Seen{}
		}
		p := podPlan{pod: want[id], seen: seen, facts: facts}
		p.decide()
		steps = append(steps, p.steps...)
		if p.wake != 0 && (wake == 0 || p.wake < wake) {
			wake = p.wake
		}
	}
	return steps, wake
}

type podPlan struct {
	pod   *Pod
	seen  *Seen
	facts Facts
	steps []Action
	wake  int64
}

func (p *podPlan) add(a Action) {
	a.Pod, a.Name = p.pod.ID, p.pod.Namespace+"/"+p.pod.Name
	p.steps = append(p.steps, a)
}

func (p *podPlan) wakeAt(ms int64) {
	if p.wake == 0 || ms < p.wake {
		p.wake = ms
	}
}

// decide is the rule table of a pod; the first rule that holds decides.
func (p *podPlan) decide() {
	switch {
	case p.pod.GivenUp:
		p.leave(p.pod.Why, p.pod.Grace)
	case p.pod.Deleting != 0:
		p.leave(p.pod.Why, min(p.pod.Grace, p.graceLeft()))
	case p.pod.hasEnded():
		if !p.stopAll("the pod has ended", p.pod.SpecGrace()) && p.seen.Namespaces {
			p.add(Action{Op: Release, Why: "the pod has ended"})
		}
	case p.seen.Excess != "":
		p.stopAll("evicted: "+p.seen.Excess, evictionGrace)
	case p.overdue():
		p.stopAll("activeDeadlineSeconds passed", p.pod.SpecGrace())
	case p.pod.Leased() && p.facts.Lease.Stop:
		p.stopAll("this node hears of no majority: one of its kind may soon run elsewhere", min(p.facts.Lease.Grace, p.pod.SpecGrace()))
	case p.pod.Leased() && p.facts.Lease.NoStart:
	case p.pod.Vanished(p.seen): // its end is reported
	case p.unrendered() && !p.seen.begun():
	default:
		p.enter()
	}
}

func (p *podPlan) unrendered() bool { return p.facts.Unrendered[p.pod.ID] != (Trouble{}) }

// evictionGrace is what a pod gets that used more of the node than it may, in seconds, as in Kubernetes.
const evictionGrace = 1

// graceLeft is what remains of a pod's grace in seconds, at least 0: a restarted agent does not begin anew. It is counted by
// the ring's time, for the ring has said when it began; this machine's clock may be an hour off.
func (p *podPlan) graceLeft() int64 {
	now := cmp.Or(p.facts.Ring, p.facts.Now)
	return max(0, (p.pod.Deleting+p.pod.Grace*1000-now+999)/1000)
}

// SpecGrace is terminationGracePeriodSeconds; Kubernetes' default is 30, also for a pod of which nothing is known.
func (p *Pod) SpecGrace() int64 {
	if p != nil && p.Spec != nil && p.Spec.TerminationGracePeriodSeconds != nil {
		return *p.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

func (p *podPlan) overdue() bool {
	limit := p.pod.Spec.ActiveDeadlineSeconds
	start := p.pod.Status.StartTime
	if limit == nil || start == nil {
		return false
	}
	end := start.UnixMilli() + *limit*1000
	if p.facts.Now < end {
		p.wakeAt(end)
		return false
	}
	return true
}

// leave stops what runs, then takes everything down.
func (p *podPlan) leave(why string, grace int64) {
	if p.stopAll(why, grace) {
		return
	}
	p.add(Action{Op: Teardown, Why: why})
}

// stopAll stops the pod's containers: the main ones first, then sidecars in reverse order of their start, as
// Kubernetes does. It reports whether something still ran.
func (p *podPlan) stopAll(why string, grace int64) bool {
	running := func(c *corev1.Container) bool {
		got := p.seen.Containers[c.Name]
		return got != nil && got.State != Exited
	}
	var stop []string
	for i := range p.pod.Spec.Containers {
		if c := &p.pod.Spec.Containers[i]; running(c) {
			stop = append(stop, c.Name)
		}
	}
	if p.pod.GivenUp {
		for name, got := range p.seen.Containers {
			if got.State != Exited {
				stop = append(stop, name)
			}
		}
		slices.Sort(stop)
	}
	if len(stop) == 0 {
		for i := len(p.pod.Spec.InitContainers) - 1; i >= 0; i-- {
			if c := &p.pod.Spec.InitContainers[i]; running(c) {
				stop = append(stop, c.Name)
				break
			}
		}
	}
	for _, name := range stop {
		p.add(Action{Op: Stop, Container: name, Grace: grace, Why: why})
	}
	return len(stop) > 0
}

// enter brings the pod to life, or back to it.
func (p *podPlan) enter() {
	switch {
	case !p.seen.Namespaces:
		p.add(Action{Op: Sandbox, Why: cmp.Or(p.pod.Reason, "placed here")})
	case !p.seen.Linked && !p.pod.Spec.HostNetwork:
		p.add(Action{Op: Relink, Why: "its link, address or route is missing"})
	}
	if p.seen.Namespaces && p.facts.Stale[p.pod.ID] && !p.unrendered() {
		p.add(Action{Op: Refresh, Why: "what its volumes show may have changed"})
	}
	for i := range p.pod.Spec.InitContainers {
		c := &p.pod.Spec.InitContainers[i]
		if Sidecar(c) {
			if !p.keep(c, corev1.RestartPolicyAlways) {
				return
			}
			continue
		}
		if p.initialized(i) {
			continue
		}
		got := p.seen.Containers[c.Name]
		if got != nil && got.State == Exited && got.ExitCode == 0 {
			continue
		}
		policy := p.pod.Spec.RestartPolicy
		if policy == corev1.RestartPolicyAlways {
			policy = corev1.RestartPolicyOnFailure
		}
		p.keep(c, policy)
		return
	}
	for i := range p.pod.Spec.Containers {
		p.keep(&p.pod.Spec.Containers[i], p.pod.Spec.RestartPolicy)
	}
}

// initialized reports whether init container i needs no further run because a later container already began:
// init containers run once in the life of a pod, also when their remains were collected.
func (p *podPlan) initialized(i int) bool {
	for j := i + 1; j < len(p.pod.Spec.InitContainers); j++ {
		if p.seen.Containers[p.pod.Spec.InitContainers[j].Name] != nil {
			return true
		}
	}
	for j := range p.pod.Spec.Containers {
		if p.seen.Containers[p.pod.Spec.Containers[j].Name] != nil {
			return true
		}
	}
	return false
}

// Sidecar reports whether an init container is one that runs beside the main ones.
func Sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// keep sees to it that a container runs as its policy says. It reports whether it is up: started, and past
// its startup probe.
func (p *podPlan) keep(c *corev1.Container, policy corev1.RestartPolicy) bool {
	got := p.seen.Containers[c.Name]
	switch {
	case got == nil:
		past := p.facts.Past[p.pod.ID][c.Name]
		p.start(c, past, 0, began(past))
	case got.State == Running:
		health := p.facts.Health[got.ID]
		if health.Failed != "" {
			grace := p.pod.SpecGrace()
			if health.Grace != nil {
				grace = *health.Grace
			}
			p.add(Action{Op: Stop, Container: c.Name, Grace: grace, Why: health.Failed})
			return false
		}
		return !health.NotStarted
	case got.State == Created:
		p.start(c, got.Attempt, got.Streak, "made, not started")
	case policy == corev1.RestartPolicyNever, policy == corev1.RestartPolicyOnFailure && got.ExitCode == 0:
	default:
		streak := got.Streak + 1
		if got.Started != 0 && got.Finished-got.Started >= clearAfter {
			streak = 1
		}
		if at := got.Finished + Backoff(streak); p.facts.Now < at && p.facts.Now > got.Finished-setBack {
			p.wakeAt(at)
			return false
		}
		p.start(c, got.Attempt+1, streak, Ended(got))
	}
	return false
}

// start adds what must come before a container runs, and the start itself.
func (p *podPlan) start(c *corev1.Container, attempt, streak int, why string) {
	always := c.ImagePullPolicy == corev1.PullAlways && p.seen.Containers[c.Name] == nil
	if always || !p.facts.Images[p.pod.ImageOf(c)] {
		p.add(Action{Op: Pull, Container: c.Name, Image: c.Image, Why: pullWhy(always)})
	}
	if attempt > 1 {
		p.add(Action{Op: Remove, Container: c.Name, Attempt: attempt - 2, Why: "only the last two instances are kept"})
	}
	p.add(Action{Op: Start, Container: c.Name, Image: c.Image, Attempt: attempt, Streak: streak, Why: why})
}

// began says why a container of which nothing is here is started.
func began(past int) string {
	if past > 0 {
		return "its machine was started anew"
	}
	return "not started yet"
}

func pullWhy(always bool) string {
	if always {
		return "imagePullPolicy is Always"
	}
	return "the image is not on this node"
}

// ImageOf is the image a container runs: its reference, and the digest fixed at activation where there is one.
func (p *Pod) ImageOf(c *corev1.Container) string {
	if d := p.Images[c.Image]; d != "" {
		return c.Image + "@" + d
	}
	return c.Image
}

// Ended says in a clause how a container ended.
func Ended(c *Container) string {
	switch {
	case c.OOM:
		return "out of memory"
	case c.Lapsed:
		return "killed, as this node's lease was over"
	case c.Signal != 0:
		return fmt.Sprintf("ended by signal %d", c.Signal)
	default:
		return fmt.Sprintf("exited with %d", c.ExitCode)
	}
}
