package nodeagent

import (
	"context"
	"io"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/wire"
)

// Ledger is what the agent needs of the replicated log.
type Ledger interface {
	// Append returns once the input was stepped on this node; a refused one is in the outcome, not an error.
	Append(ctx context.Context, in cluster.Input) (cluster.Outcome, error)
	// View calls f with the state, which f must not keep or change.
	View(f func(*cluster.State))
	// Changes gets a value after the state has moved; several moves may give one.
	Changes() <-chan struct{}
}

// Containers is what the agent needs of a container runtime. Every method may be repeated: a second call with
// the same arguments changes nothing. Safe for concurrent use.
type Containers interface {
	List(ctx context.Context) (plan.Have, error)
	Events() <-chan struct{} // something exited, or the runtime came back
	// Past is how many instances each container of a pod has had, by the logs that lie here; nil: none.
	Past(p *plan.Pod) map[string]int
	Netns(id control.PodID) string
	CreateSandbox(ctx context.Context, p *plan.Pod) (netns string, err error)
	RemoveSandbox(ctx context.Context, id control.PodID) error
	Release(ctx context.Context, id control.PodID) error // all that a pod that has ended holds, but records and logs
	Present(ref, digest string) bool
	Pull(ctx context.Context, p *plan.Pod, ref, digest string) error
	Start(ctx context.Context, l plan.Launch) error
	Stop(ctx context.Context, id control.PodID, container string, graceSeconds int64) error
	Remove(ctx context.Context, id control.PodID, container string, attempt int) error
	Exec(ctx context.Context, id control.PodID, container string, o ExecOptions) (exit int, err error)
}

// ExecOptions is one command run inside a container.
type ExecOptions struct {
	Args           []string
	TTY            bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

// Size is a terminal's, in characters.
type Size struct{ Width, Height uint16 }

// Links is what the agent needs of the pods' network interfaces, and of the node's own among them.
type Links interface {
	Ensure(ctx context.Context, p *plan.Pod, netns string) error
	// Check returns what is missing or changed of a pod's link, address and routes.
	Check(ctx context.Context, p *plan.Pod, netns string) (drift []string, err error)
	Remove(ctx context.Context, id control.PodID) error
	EnsureNode(ctx context.Context) error
	CheckNode(ctx context.Context) (drift []string, err error)
	// Routes brings the ways to other nodes' pods to the tables'. One that cannot be made does not keep others from being.
	Routes(ctx context.Context, t wire.Tables) error
	Events() <-chan struct{} // others took something away
}

// Firewall is what the agent needs of the packet filter.
type Firewall interface {
	Apply(ctx context.Context, t wire.Tables) error
	// Verify returns what differs in the kernel from what was last applied.
	Verify(ctx context.Context) (drift []string, err error)
}

// Doors answer at the node ports of previews that sleep.
type Doors interface {
	// Set is called when the packet filter has what the doors say. It does not wait.
	Set(doors []wire.Door)
}

// Names answers DNS.
type Names interface {
	Set(t wire.Tables)
}

// Volumes is what the agent needs of local data.
type Volumes interface {
	Prepare(ctx context.Context, p *plan.Pod) error // also brings ConfigMaps and Secrets up to date
	Mounts(ctx context.Context, p *plan.Pod, c *corev1.Container, env []string) ([]plan.Mount, error)
	Remove(ctx context.Context, id control.PodID) error
	Excess() map[control.PodID]string // pods with a volume that outgrew its limit, and which, in words
	Events() <-chan struct{}          // Excess has a further one
}

// Lease is what the agent needs of the ring lease.
type Lease interface {
	Lease(applied uint64) plan.Lease // for a node that has applied so many entries
	Events() <-chan struct{}         // it says something else now
}

// Probes is what the agent needs of health checks.
type Probes interface {
	Set(targets []ProbeTarget)
	Health() map[string]plan.Health // by container instance
	Events() <-chan struct{}
	// Hook carries out a hook of a container, until ctx ends at the latest; an error is why it has failed.
	Hook(ctx context.Context, p *plan.Pod, container string, h *corev1.LifecycleHandler) error
}

// ProbeTarget is a running container whose probes are to be run.
type ProbeTarget struct {
	Instance  string // Container.ID
	Pod       *plan.Pod
	Container string
	Started   int64 // ms since 1970
}

// Content is the store of canonical objects.
type Content interface {
	desired.Content
	Has(desired.Digest) bool
	Put(ctx context.Context, blobs ...[]byte) error // on disk when it returns
}

// Source is what the agent needs of the mirror of the repository.
type Source interface {
	Tree(ctx context.Context, commit source.ID) (source.Tree, error)
	Commit(ctx context.Context, id source.ID) (source.Commit, error)
	// Head returns where a ref points; false where it does not exist.
	Head(ctx context.Context, ref string) (source.ID, bool, error)
	// Follow says which refs are looked for upstream beside the default branch; a forge may have thousands of others.
	Follow(refs []string)
	// Relate says how to stands to from: ahead of it, behind it, or apart.
	Relate(ctx context.Context, from, to source.ID) (source.Relation, error)
	// Pin keeps a commit, and those it descends from, whatever happens upstream, until Unpin.
	Pin(ctx context.Context, environment string, commit source.ID) error
	Unpin(ctx context.Context, environment string, commit source.ID) error
	Pins(environment string) []source.ID
	AllPins() map[string][]source.ID // by environment
	// Bring has a commit here that another node has, if it is not here.
	Bring(ctx context.Context, commit source.ID) error
	History
}

// Renderer evaluates and compiles apps in its sandbox, and remembers what it has done before.
type Renderer interface {
	Environments(ctx context.Context, tree source.Tree) ([]render.Environment, render.Problems, error)
	// Render returns every app of an environment. Problems that are the whole tree's are an error of that type.
	Render(ctx context.Context, tree source.Tree, env render.Environment) ([]Rendered, error)
}

// Rendered is one app, compiled.
type Rendered struct {
	desired.App
	Blobs func() ([]desired.Blob, error) // the bytes of its objects; nil if it has problems
}

// Images is what the agent needs to fix tags.
type Images interface {
	// Resolve returns the digest ("sha256:...") that a reference stands for now.
	Resolve(ctx context.Context, ref string) (string, error)
}
