// Package plan is the difference between what a node must run and what it runs: a sorted list of actions,
// each with its reason.
package plan

import (
	"iter"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
)

// Want is what one node must run.
type Want map[control.PodID]*Pod

// Pod is one pod a node must run, with all that its containers need. Immutable.
type Pod struct {
	control.Pod
	Spec         *corev1.PodSpec
	Annotations  map[string]string
	Images       map[string]string            // image reference -> "sha256:..." as fixed at activation
	ConfigMaps   map[string]*corev1.ConfigMap // by name, in the pod's namespace, as far as the spec refers to them
	Secrets      map[string]*corev1.Secret
	ServiceEnv   []corev1.EnvVar // {SVCNAME}_SERVICE_HOST and its kin
	NodeName     string
	NodeIP       netip.Addr
	NodeCapacity corev1.ResourceList // what resourceFieldRef gives for a limit that is not set
	Parts        []Part              // the objects that it is made of: its own first
	GivenUp      bool                // the ledger knows it only as one to be taken down: it has no spec, and no status
}

// Part is an object of Git that a pod is made of.
type Part struct {
	Environment string
	Digest      desired.Digest
}

// Leased tells whether the pod may run only as long as its node holds the ring lease.
func (p *Pod) Leased() bool { return p.Fenced && !p.Kept }

// MayStill tells, when it has come to the start of a container, whether the pod may be started still: its image may have
// taken minutes to come. now is the pod in the ledger, as far as it is applied, nil if it is there no more; l is what the
// lease allows now. If the node's lease ended meanwhile, one of its kind may run elsewhere, also when the lease was
// granted anew since.
func (p *Pod) MayStill(now *control.Pod, l Lease) bool {
	if !p.Leased() {
		return true
	}
	return now != nil && now.Deleting == 0 && now.Epoch == p.Epoch && !l.NoStart
}

// Containers are all containers of the pod: init containers first, in the order of the spec.
func (p *Pod) Containers() iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

// Container finds a container by name; nil if there is none.
func (p *Pod) Container(name string) *corev1.Container {
	for c := range p.Containers() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Have is what was seen on the node, asked of the kernel and of containerd.
type Have map[control.PodID]*Seen

// Seen is one pod as it was found.
type Seen struct {
	Epoch      uint64
	Namespaces bool                  // its namespaces are pinned; false again once it was released
	Excess     string                // which of its volumes outgrew its limit, in words; "": none
	Linked     bool                  // its veth, address and route are there
	Containers map[string]*Container // the newest instance of each, by container name
}

// Runs reports whether a container of the pod runs. A nil Seen has none.
func (s *Seen) Runs() bool {
	if s == nil {
		return false
	}
	for _, c := range s.Containers {
		if c.State == Running {
			return true
		}
	}
	return false
}

// begun reports whether a container of the pod was ever made here.
func (s *Seen) begun() bool { return len(s.Containers) > 0 }

// alive reports whether a container of the pod has not ended.
func (s *Seen) alive() bool {
	for _, c := range s.Containers {
		if c.State != Exited {
			return true
		}
	}
	return false
}

// ContainerState is how far one instance of a container has come.
type ContainerState string

// The states of a container; they only go forward.
const (
	Created ContainerState = "created"
	Running ContainerState = "running"
	Exited  ContainerState = "exited"
)

// Container is one instance of a container. Times are ms since 1970.
type Container struct {
	ID       string // in containerd
	Attempt  int    // 0 for the first instance in this pod; the restart count
	State    ContainerState
	Image    string // "sha256:..." of the manifest it runs
	Started  int64
	Finished int64
	ExitCode int32
	Signal   int32
	OOM      bool
	Lapsed   bool   // it was killed because the node's lease was over
	Message  string // what it left at terminationMessagePath, or the end of its log in its place
	Streak   int    // failures in a row before this instance, for the back-off
}

// Launch is one container to be made and started: its author's words, with everything resolved.
type Launch struct {
	Pod       *Pod
	Container *corev1.Container // of Spec.Containers or Spec.InitContainers
	Attempt   int               // restart count
	Streak    int               // failures in a row before it; kept with the container
	Image     string            // reference as written
	Digest    string            // "sha256:..." to run; the image is present
	Env       []string          // NAME=value, in order; $(VAR) expanded
	Command   []string          // nil: the image's entrypoint
	Args      []string          // nil: the image's command, unless Command is set
	Mounts    []Mount
}

// Mount is one bind mount of a container.
type Mount struct {
	Source   string // absolute, on the host
	Target   string // absolute, in the container
	ReadOnly bool
}
