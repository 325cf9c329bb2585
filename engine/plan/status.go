package plan

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trouble is why a container is not getting on, in Kubernetes' words.
type Trouble struct {
	Reason  string // "ErrImagePull", "CreateContainerConfigError", ...
	Message string
}

// Status is what a node reports of a pod: Kubernetes' PodStatus, from what was seen. troubles are by container
// name. Transition times are kept from the previous status where a condition has not changed, so that an
// unchanged pod gives an unchanged status.
//
// A pod that has ended stays as it was reported, whatever is still there of it.
func Status(p *Pod, seen *Seen, health map[string]Health, troubles map[string]Trouble, now int64) corev1.PodStatus {
	if p.hasEnded() {
		return p.Status
	}
	if seen == nil {
		seen = &Seen{}
	}
	s := corev1.PodStatus{StartTime: p.Status.StartTime}
	if s.StartTime == nil {
		s.StartTime = at(now)
	}
	if p.NodeIP.IsValid() {
		s.HostIP = p.NodeIP.String()
		s.HostIPs = []corev1.HostIP{{IP: s.HostIP}}
	}
	if ip := p.address(); ip.IsValid() && seen.Namespaces {
		s.PodIP = ip.String()
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
	b := statusBuilder{p: p, seen: seen, health: health, troubles: troubles, now: now}
	for i := range p.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, b.container(&p.Spec.InitContainers[i], true))
	}
	for i := range p.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, b.container(&p.Spec.Containers[i], false))
	}
	s.Phase, s.Reason, s.Message = b.phase(&s)
	b.conditions(&s)
	return s
}

// Vanished tells whether a pod that ran, and is never to run again, is there no more, as after a power loss: nobody knows
// how it ended. It has failed then, and is not started a second time; that is for whoever made it to decide.
func (p *Pod) Vanished(seen *Seen) bool {
	return p.Spec.RestartPolicy == corev1.RestartPolicyNever && p.Status.Phase == corev1.PodRunning && (seen == nil || len(seen.Containers) == 0)
}

// hasEnded reports whether the pod is known to have ended for good.
func (p *Pod) hasEnded() bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func (p *Pod) address() netip.Addr {
	if p.Spec.HostNetwork {
		return p.NodeIP
	}
	return p.IP
}

type statusBuilder struct {
	p        *Pod
	seen     *Seen
	health   map[string]Health
	troubles map[string]Trouble
	now      int64
}

func at(ms int64) *metav1.Time {
	t := metav1.NewTime(time.UnixMilli(ms).UTC().Truncate(time.Second))
	return &t
}

// container is the status of one container. A ready init container is one that has done its work.
func (b *statusBuilder) container(c *corev1.Container, init bool) corev1.ContainerStatus {
	got := b.seen.Containers[c.Name]
	st := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	started := false
	if got == nil && b.p.Vanished(b.seen) {
		st.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown", Message: "nothing is left of it, as after its machine was started anew"}
		st.Started = &started
		return st
	}
	if got == nil {
		reason := "ContainerCreating"
		if len(b.p.Spec.InitContainers) > 0 && !init {
			reason = "PodInitializing"
		}
		st.State.Waiting = b.waiting(c, reason)
		st.Started = &started
		return st
	}
	st.ContainerID = "containerd://" + got.ID
	st.ImageID = got.Image
	st.RestartCount = int32(got.Attempt)
	switch got.State {
	case Created:
		st.State.Waiting = b.waiting(c, "ContainerCreating")
	case Running:
		st.State.Running = &corev1.ContainerStateRunning{StartedAt: *at(got.Started)}
		h := b.health[got.ID]
		started = !h.NotStarted
		st.Ready = started && !h.NotReady && (!init || Sidecar(c))
	case Exited:
		ended := b.terminated(got)
		policy := b.p.Spec.RestartPolicy
		if init && policy == corev1.RestartPolicyAlways {
			policy = corev1.RestartPolicyOnFailure
		}
		if init && Sidecar(c) {
			policy = corev1.RestartPolicyAlways
		}
		again := !b.ending() && (policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && got.ExitCode != 0)
		switch {
		case !again:
			st.State.Terminated = ended
			st.Ready = init && got.ExitCode == 0
		default:
			st.LastTerminationState.Terminated = ended
			st.State.Waiting = b.waiting(c, "CrashLoopBackOff")
			if got.ExitCode == 0 && b.troubles[c.Name].Reason == "" {
				st.State.Waiting.Message = "restarting after it exited with 0"
			}
		}
	}
	st.Started = &started
	return st
}

// ending reports whether no container of the pod is started again, whatever its restart policy.
func (b *statusBuilder) ending() bool {
	return b.p.Deleting != 0 || b.seen.Excess != "" || b.p.Status.StartTime != nil && b.overdue(b.p.Status.StartTime)
}

func (b *statusBuilder) overdue(start *metav1.Time) bool {
	limit := b.p.Spec.ActiveDeadlineSeconds
	return limit != nil && b.now >= start.UnixMilli()+*limit*1000
}

func (b *statusBuilder) waiting(c *corev1.Container, reason string) *corev1.ContainerStateWaiting {
	if t := b.troubles[c.Name]; t.Reason != "" {
		return &corev1.ContainerStateWaiting{Reason: t.Reason, Message: t.Message}
	}
	return &corev1.ContainerStateWaiting{Reason: reason}
}

func (b *statusBuilder) terminated(c *Container) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Signal: c.Signal, Reason: "Completed", ContainerID: "containerd://" + c.ID,
		FinishedAt: *at(c.Finished), Message: fitMessage(c.Message, b.messageShare()),
	}
	if c.Started != 0 {
		t.StartedAt = *at(c.Started)
	}
	switch {
	case c.OOM:
		t.Reason = "OOMKilled"
	case c.Lapsed:
		t.Reason, t.Message = "LeaseOver", "the node's lease was over: what may run once may run elsewhere then"
	case c.ExitCode != 0:
		t.Reason = "Error"
	}
	return t
}

// phase is Kubernetes' pod phase: the sum of the containers' states under the restart policy.
func (b *statusBuilder) phase(s *corev1.PodStatus) (phase corev1.PodPhase, reason, message string) {
	switch { // once nothing runs: the end is final, and its containers' exit codes belong to it
	case b.seen.alive():
	case b.overdue(s.StartTime):
		return corev1.PodFailed, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
	case b.seen.Excess != "":
		return corev1.PodFailed, "Evicted", b.seen.Excess
	}
	never := b.p.Spec.RestartPolicy == corev1.RestartPolicyNever
	for i, st := range s.InitContainerStatuses {
		if end := st.State.Terminated; end != nil && end.ExitCode != 0 && never && !Sidecar(&b.p.Spec.InitContainers[i]) {
			return corev1.PodFailed, "", "init container " + st.Name + " " + Ended(b.seen.Containers[st.Name])
		}
	}
	ended, failed, running := 0, false, false
	for _, st := range s.ContainerStatuses {
		switch {
		case st.State.Running != nil:
			running = true
		case st.State.Terminated != nil:
			ended++
			failed = failed || st.State.Terminated.ExitCode != 0
		case st.LastTerminationState.Terminated != nil:
			running = true // it ran and will again
		}
	}
	switch {
	case b.p.Spec.RestartPolicy != corev1.RestartPolicyAlways && ended == len(s.ContainerStatuses) && failed:
		return corev1.PodFailed, "", ""
	case b.p.Spec.RestartPolicy != corev1.RestartPolicyAlways && ended == len(s.ContainerStatuses):
		return corev1.PodSucceeded, "", ""
	case running || ended > 0:
		return corev1.PodRunning, "", ""
	}
	return corev1.PodPending, "", ""
}

// conditions fills in PodScheduled, Initialized, ContainersReady and Ready.
func (b *statusBuilder) conditions(s *corev1.PodStatus) {
	initialized := true
	for i, st := range s.InitContainerStatuses {
		up := st.Ready
		if Sidecar(&b.p.Spec.InitContainers[i]) {
			up = st.Started != nil && *st.Started
		}
		initialized = initialized && up
	}
	if slices.ContainsFunc(s.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.ContainerID != "" }) {
		initialized = true
	}
	ready := s.Phase == corev1.PodRunning
	for _, st := range s.ContainerStatuses {
		ready = ready && st.Ready
	}
	for i, st := range s.InitContainerStatuses {
		ready = ready && (st.Ready || !Sidecar(&b.p.Spec.InitContainers[i]))
	}
	set := func(t corev1.PodConditionType, ok bool, reason string) {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, LastTransitionTime: *at(b.now)}
		if ok {
			c.Status, c.Reason = corev1.ConditionTrue, ""
		}
		for _, old := range b.p.Status.Conditions {
			if old.Type == t && old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
		s.Conditions = append(s.Conditions, c)
	}
	notReady := "ContainersNotReady"
	if s.Phase == corev1.PodSucceeded {
		notReady = "PodCompleted"
	}
	set(corev1.PodScheduled, true, "")
	set(corev1.PodInitialized, initialized, "ContainersNotInitialized")
	set(corev1.ContainersReady, ready, notReady)
	set(corev1.PodReady, ready, notReady)
}

// Ready reports whether a status says that the pod is ready.
func Ready(s *corev1.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
