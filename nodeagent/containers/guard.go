package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/internal/pidfd"
	"github.com/shoal-dev/shoal/internal/pidlock"
)

// guardStart is how long the guard may take until it guards.
const guardStart = 10 * time.Second

// Guard has the guard of this instance run (package guard): it takes over the one that a former agent started, has one of
// another version replaced, and starts one where there is none. ended is closed when it ends. A second call is fine.
func (r *Runtime) Guard(ctx context.Context) (ended <-chan struct{}, err error) {
	if r.o.Deadline == "" {
		return nil, errors.New("guard: there is no deadline to guard")
	}
	locks := r.guardLocks()
	if err := os.MkdirAll(locks, 0o700); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	lock := filepath.Join(locks, filepath.Base(r.o.Shim))
	r.guardMu.Lock()
	defer r.guardMu.Unlock()
	if r.guard != nil {
		r.guard.Unwatch()
		r.guard = nil
	}
	proc, err := r.adoptGuard(lock)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if proc == nil {
		if proc, err = r.startGuard(ctx, lock); err != nil {
			return nil, fmt.Errorf("guard: start (its log is %s): %w", r.guardLog(), err)
		}
		r.o.Log.Info("guard started", "pid", proc.PID)
	}
	r.guard = proc
	// Those of other versions go when this one guards, so that somebody always does.
	return proc.Exited, r.endGuards(func(file string) bool { return file != lock })
}

// EndGuard ends the guard, if there is one.
func (r *Runtime) EndGuard() error {
	r.guardMu.Lock()
	defer r.guardMu.Unlock()
	if r.guard != nil {
		r.guard.Unwatch()
		r.guard = nil
	}
	return r.endGuards(func(string) bool { return true })
}

// adoptGuard finds the guard that holds the lock, nil if none does. One whose program was replaced since is ended.
func (r *Runtime) adoptGuard(lock string) (*pidfd.Process, error) {
	pid, err := pidlock.Holder(lock)
	if pid == 0 || err != nil {
		return nil, err
	}
	proc, err := pidfd.Watch(pid)
	if err != nil {
		return nil, nil // it has just ended
	}
	if again, err := pidlock.Holder(lock); err != nil || again != pid {
		proc.Unwatch()
		return nil, err
	}
	if !sameProgram(pid, r.o.Shim) {
		proc.Unwatch()
		return nil, pidfd.Kill(pid)
	}
	r.o.Log.Info("guard adopted", "pid", pid)
	return proc, nil
}

// sameProgram tells whether a process runs the file at path.
func sameProgram(pid int, path string) bool {
	a, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// startGuard runs a guard. It outlives the agent.
func (r *Runtime) startGuard(ctx context.Context, lock string) (*pidfd.Process, error) {
	logFile, err := openDaemonLog(r.guardLog())
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd := exec.Command(r.o.Shim, "guard", "-deadline", r.o.Deadline, "-fenced", r.fencedDir(), "-lock", lock, "-mount", cgroupMount, "-cgroup", r.guardCgroup())
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + defaultPath, "GOMAXPROCS=1"}
	cmd.Stderr = logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return pidfd.StartReady(ctx, cmd, guardStart)
}

// endGuards ends the guards whose locks f tells.
func (r *Runtime) endGuards(f func(lock string) bool) error {
	entries, err := os.ReadDir(r.guardLocks())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("end guard: %w", err)
	}
	var errs []error
	for _, e := range entries {
		lock := filepath.Join(r.guardLocks(), e.Name())
		if !f(lock) {
			continue
		}
		pid, err := pidlock.Holder(lock)
		if err == nil && pid != 0 {
			err = pidfd.Kill(pid)
		}
		errs = append(errs, err)
		if err == nil {
			errs = append(errs, os.Remove(lock))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end guard: %w", err)
	}
	return nil
}

func (r *Runtime) guardLocks() string  { return filepath.Join(r.o.RunDir, "guard") }
func (r *Runtime) guardLog() string    { return filepath.Join(r.o.RunDir, "guard.log") }
func (r *Runtime) guardCgroup() string { return path.Join(r.o.CgroupRoot, "guard") }
func (r *Runtime) fencedDir() string   { return filepath.Join(r.o.RunDir, "fenced") }

// guarded tells whether a pod runs only until the deadline.
func (r *Runtime) guarded(p *plan.Pod) bool { return r.o.Deadline != "" && p.Leased() }

// fence tells the guard of a pod. It is told before anything of the pod runs.
func (r *Runtime) fence(id control.PodID) error {
	tmp := filepath.Join(r.fencedDir(), "."+string(id))
	if err := os.WriteFile(tmp, []byte(r.podCgroup(id)+"\n"), 0o600); err != nil {
		return fmt.Errorf("tell the guard: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(r.fencedDir(), string(id))); err != nil {
		return fmt.Errorf("tell the guard: %w", err)
	}
	return nil
}

// unfence tells the guard that nothing of a pod runs any more.
func (r *Runtime) unfence(id control.PodID) error {
	if err := os.Remove(filepath.Join(r.fencedDir(), string(id))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("tell the guard: %w", err)
	}
	return nil
}

// clearFences takes away what was said of pods that are no more.
func (r *Runtime) clearFences() error {
	entries, err := os.ReadDir(r.fencedDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := os.Stat(r.podDir(control.PodID(e.Name()))); errors.Is(err, os.ErrNotExist) {
			if err := os.Remove(filepath.Join(r.fencedDir(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
