package containers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/pidfd"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// Starting a shim takes as long as half of runc's work, and it needs to know nothing of its pod but the directory
// that its socket is in. So a few are started beforehand, in directories of their own, and a new pod takes one by
// renaming its directory to the pod's. Without one a shim is started as the pod's sandbox is made.

const (
	// spareShims is how many wait; each has some 3 MiB of memory of its own.
	spareShims = 2
	// spareDelay is for how long no pod must have been made before spares are started again: it is work that
	// must not take the processor from the pods it is for.
	spareDelay  = 500 * time.Millisecond
	sparePrefix = ".spare-" // no pod's id begins with a dot
)

// spares are the shims that wait. Their directories are renamed under mu.
type spares struct {
	mu    sync.Mutex
	ready []spare
	count int // of all that were made, for names
	taken chan struct{}
}

type spare struct {
	dir  string
	proc *pidfd.Process
}

// takeSpare makes a waiting shim p's, whose directory must not be there yet, and tells whether there was one.
func (r *Runtime) takeSpare(p *pod) bool {
	s := &r.spares
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.taken <- struct{}{}:
	default:
	}
	for len(s.ready) > 0 {
		next := s.ready[len(s.ready)-1]
		s.ready = s.ready[:len(s.ready)-1]
		select {
		case <-next.proc.Exited: // somebody killed it
			os.RemoveAll(next.dir)
			continue
		default:
		}
		if err := os.Rename(next.dir, p.dir); err != nil { // the pod is there already
			s.ready = append(s.ready, next)
			return false
		}
		p.shimMu.Lock()
		p.keep(r, next.proc)
		p.shimMu.Unlock()
		return true
	}
	return false
}

// keepSpares starts shims for pods to come until ctx ends, then ends those that wait.
func (r *Runtime) keepSpares(ctx context.Context) {
	defer r.endSpares()
	for {
		for r.spares.missing() && ctx.Err() == nil {
			if err := r.makeSpare(); err != nil {
				r.o.Log.Warn("start a shim for a pod to come", "err", err)
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.spares.taken:
		}
		for quiet := time.NewTimer(spareDelay); quiet != nil; {
			select {
			case <-ctx.Done():
				return
			case <-r.spares.taken:
				quiet.Reset(spareDelay)
			case <-quiet.C:
				quiet = nil
			}
		}
	}
}

func (s *spares) missing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready) < spareShims
}

func (r *Runtime) makeSpare() error {
	s := &r.spares
	s.mu.Lock()
	s.count++
	dir := filepath.Join(r.o.RunDir, "pods", fmt.Sprintf("%s%d-%d", sparePrefix, os.Getpid(), s.count))
	s.mu.Unlock()
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	proc, err := r.startShim(dir)
	if err != nil {
		os.RemoveAll(dir)
		return err
	}
	s.mu.Lock()
	s.ready = append(s.ready, spare{dir, proc})
	s.mu.Unlock()
	return nil
}

func (r *Runtime) endSpares() {
	s := &r.spares
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, left := range s.ready {
		left.proc.Unwatch()
		if err := pidfd.Kill(left.proc.PID); err != nil {
			r.o.Log.Warn("end a spare shim", "err", err)
		}
		os.RemoveAll(left.dir)
	}
	s.ready = nil
}

// clearSpares ends the shims that waited for an agent that was killed.
func (r *Runtime) clearSpares(ctx context.Context) error {
	pods := filepath.Join(r.o.RunDir, "pods")
	entries, err := os.ReadDir(pods)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), sparePrefix) {
			continue
		}
		dir := filepath.Join(pods, e.Name())
		// One that does not serve yet ends by itself, as nobody hears that it is ready.
		if pid, err := peerPid(ctx, filepath.Join(dir, record.SocketFile)); err == nil {
			if err := pidfd.Kill(pid); err != nil {
				return fmt.Errorf("end a spare shim: %w", err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
