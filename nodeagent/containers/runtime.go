package containers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/cgroups/v3"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/internal/pidfd"
)

// Options say where an instance of the runtime keeps its things. All paths are absolute.
type Options struct {
	Instance string // 6 hex digits; marks what is this instance's: containerd namespace and cgroup
	DataDir  string // images, writable layers; kept over a reboot, on a file system that overlayfs can write to
	RunDir   string // sockets, namespaces, bundles; on a tmpfs; at most 50 bytes long, for the sockets in it
	LogDir   string // CRI logs; default /var/log/pods
	// Private is a directory in memory that is never swapped, for what holds containers' environments, and so values of Secrets; it need
	// not be there yet. Default: RunDir, and the directory for temporary files.
	Private string
	Shim    string // the shoal-shim program
	Runc    string // the runc program
	// Daemon is the command of the containerd child, to which its arguments are appended. Without it Address
	// is the socket of a containerd that somebody else runs.
	Daemon  []string
	Address string
	Ending  bool // it is opened to take everything away: nothing is started for pods to come
	// CgroupRoot is the cgroup below which pods get theirs, from each controller's root; default
	// "/shoal-<instance>".
	CgroupRoot string
	// Deadline is the file that says by when what may run once must be dead (package deadline). Without it all pods run
	// without a limit.
	Deadline string
	// Peers are the other nodes whose stores an image below LocalHost may be fetched from; default: none.
	Peers func() []Peer
	// Hold gives files that the containerd child is to keep open, whatever becomes of the agent, and that are closed here when
	// it has them; default: none.
	Hold func() ([]*os.File, error)
	Log  *slog.Logger // default: discard
}

// Peer is another node, which serves its own store as a registry.
type Peer struct {
	Name   string // in URLs
	Client *http.Client
}

// withDefaults returns a copy with empty fields filled in.
func (o Options) withDefaults() Options {
	if o.LogDir == "" {
		o.LogDir = "/var/log/pods"
	}
	if o.CgroupRoot == "" {
		o.CgroupRoot = "/shoal-" + o.Instance
	}
	if o.Peers == nil {
		o.Peers = func() []Peer { return nil }
	}
	if o.Hold == nil {
		o.Hold = func() ([]*os.File, error) { return nil, nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Address == "" {
		o.Address = daemonSocket(o.RunDir)
	}
	return o
}

// maxRunDir keeps RunDir/pods/<36 bytes>/shim.sock within the 107 bytes of a socket's path.
const maxRunDir = 107 - len("/pods/") - 36 - len("/shim.sock")

func (o Options) check() error {
	var errs []error
	if o.Instance == "" {
		errs = append(errs, errors.New("instance is empty"))
	}
	for _, p := range []struct{ name, path string }{
		{"data directory", o.DataDir},
		{"run directory", o.RunDir},
		{"log directory", o.LogDir},
		{"shim", o.Shim},
		{"runc", o.Runc},
		{"cgroup root", o.CgroupRoot},
		{"containerd address", o.Address},
	} {
		if !filepath.IsAbs(p.path) {
			errs = append(errs, fmt.Errorf("%s %q: expected an absolute path", p.name, p.path))
		}
	}
	if len(o.RunDir) > maxRunDir {
		errs = append(errs, fmt.Errorf("run directory %s: longer than %d bytes, sockets in it could not be reached", o.RunDir, maxRunDir))
	}
	return errors.Join(errs...)
}

// Runtime runs pods' containers. Its methods may be called at the same time for different pods; for one pod,
// containers may be started and stopped side by side, but not while its sandbox is made or removed.
type Runtime struct {
	o      Options
	client *containerd.Client
	wake   *net.UnixConn
	events chan struct{}
	stop   context.CancelFunc // ends the goroutines
	closed <-chan struct{}    // closed by stop
	ended  atomic.Bool
	done   sync.WaitGroup
	store  imageStore
	daemon *daemon // nil with an external containerd
	unify  bool    // cgroup v2 alone
	spares spares
	weighs bool // shares of the processors can be given: there is a cpu controller

	guardMu sync.Mutex     // guards guard
	guard   *pidfd.Process // that was started or adopted last; nil: none

	mu     sync.Mutex // guards what follows
	pods   map[control.PodID]*pod
	change chan struct{} // closed and replaced whenever something may have exited
}

// Open starts containerd, or adopts the one that runs, and takes over the pods that are there.
func Open(ctx context.Context, o Options) (_ *Runtime, err error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("container runtime options: %w", err)
	}
	for _, dir := range []string{o.DataDir, o.RunDir, filepath.Join(o.RunDir, "pods"), filepath.Join(o.RunDir, "exec"), filepath.Join(o.RunDir, "fenced"), o.LogDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("container runtime: %w", err)
		}
	}
	run, stop := context.WithCancel(context.Background())
	r := &Runtime{
		o:      o,
		events: make(chan struct{}, 1),
		stop:   stop,
		closed: run.Done(),
		pods:   map[control.PodID]*pod{},
		change: make(chan struct{}),
		unify:  cgroups.Mode() == cgroups.Unified,
		spares: spares{taken: make(chan struct{}, 1)},
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	r.checkRunc(ctx)
	r.weighs = r.checkControllers()
	if r.wake, err = listenWake(filepath.Join(o.RunDir, "agent.sock")); err != nil {
		return nil, fmt.Errorf("wake socket: %w", err)
	}
	r.done.Go(r.readWakes)
	if o.Daemon != nil {
		if r.daemon, err = openDaemon(ctx, o); err != nil {
			return nil, fmt.Errorf("containerd: %w", err)
		}
	}
	if r.client, err = dial(o); err != nil {
		return nil, fmt.Errorf("containerd: %w", err)
	}
	r.store.init(r.client, o)
	if r.daemon != nil {
		r.done.Go(func() { r.daemon.supervise(run, r.notify) })
	}
	if err := r.adopt(ctx); err != nil {
		return nil, fmt.Errorf("adopt pods: %w", err)
	}
	if err := r.clearSpares(ctx); err != nil {
		return nil, err
	}
	if !o.Ending {
		r.done.Go(func() { r.keepSpares(run) })
	}
	r.o.Log.Info("container runtime is open", "pods", len(r.pods), "cgroup", cgroupMode(r.unify))
	return r, nil
}

// Close disconnects. Containers and containerd go on. A second Close does nothing.
func (r *Runtime) Close() error {
	if r.ended.Swap(true) {
		return nil
	}
	r.stop()
	r.guardMu.Lock()
	if r.guard != nil {
		r.guard.Unwatch()
	}
	r.guardMu.Unlock()
	if r.wake != nil {
		r.wake.Close()
	}
	r.done.Wait()
	if r.client != nil {
		return r.client.Close()
	}
	return nil
}

// Shutdown disconnects and ends containerd. Containers that run go on under their shims.
func (r *Runtime) Shutdown(ctx context.Context) error {
	err := r.Close()
	if r.daemon != nil {
		err = errors.Join(err, r.daemon.terminate(ctx))
	}
	return err
}

// Events tells that something exited, or that containerd is back: List again. Tidings are not queued; one
// value stands for any number of them.
func (r *Runtime) Events() <-chan struct{} { return r.events }

// Content is the store of blobs.
func (r *Runtime) Content() content.Store { return r.client.ContentStore() }

// Images is the store of image names.
func (r *Runtime) Images() images.Store { return r.client.ImageService() }

// Client is the connection to containerd, in this instance's containerd namespace.
func (r *Runtime) Client() *containerd.Client { return r.client }

// Namespace is the containerd namespace of this instance.
func (r *Runtime) Namespace() string { return r.o.namespace() }

func (o Options) namespace() string { return "shoal-" + o.Instance }

// notify wakes the agent's loop and everybody who waits for an exit.
func (r *Runtime) notify() {
	r.mu.Lock()
	close(r.change)
	r.change = make(chan struct{})
	r.mu.Unlock()
	select {
	case r.events <- struct{}{}:
	default:
	}
}

// changed gives a channel that is closed at the next notify.
func (r *Runtime) changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.change
}

// readWakes turns the shims' datagrams into notifications until the socket is closed.
func (r *Runtime) readWakes() {
	buf := make([]byte, 8)
	for {
		if _, err := r.wake.Read(buf); err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of file descriptors, say: List finds what was missed
			continue
		}
		r.notify()
	}
}

func listenWake(path string) (*net.UnixConn, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
}

func cgroupMode(unified bool) string {
	if unified {
		return "v2"
	}
	if cgroups.Mode() == cgroups.Hybrid {
		return "v1 hybrid"
	}
	return "v1"
}
