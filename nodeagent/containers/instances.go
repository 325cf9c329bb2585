package containers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/nodeagent/containers/crilog"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// runcPatience bounds one call of runc or of a shim.
const runcPatience = 30 * time.Second

// instance is one instance of a container as the run directory has it.
type instance struct {
	pod       *pod
	dir       string
	container string
	attempt   int
	meta      record.Instance // ID is empty if its agent died before it was written
	state     record.State
	message   string // its last word, once it has ended
}

func instanceID(p *pod, container string, attempt int) string {
	return string(p.id) + "." + record.InstanceDir(container, attempt)
}

// instances lists a pod's instances by container and attempt. What is half written is listed too.
func (p *pod) instances() []*instance {
	entries, err := os.ReadDir(filepath.Join(p.dir, record.Instances))
	if err != nil {
		return nil
	}
	var all []*instance
	for _, e := range entries {
		if in := p.readInstance(e.Name()); in != nil {
			all = append(all, in)
		}
	}
	slices.SortFunc(all, func(a, b *instance) int {
		return cmp.Or(cmp.Compare(a.container, b.container), cmp.Compare(a.attempt, b.attempt))
	})
	return all
}

// readInstance reads the records of the instance in the named directory, nil if the name is none.
func (p *pod) readInstance(name string) *instance {
	container, attempt, ok := record.ParseInstanceDir(name)
	if !ok {
		return nil
	}
	in := &instance{pod: p, dir: filepath.Join(p.dir, record.Instances, name), container: container, attempt: attempt}
	p.knownMu.Lock()
	defer p.knownMu.Unlock()
	known := p.known.instances[name]
	if known == nil {
		known = &knownInstance{}
	}
	var err error
	if in.meta, err = known.meta.Read(filepath.Join(in.dir, record.InstanceFile)); err != nil {
		delete(p.known.instances, name)
		in.meta = record.Instance{} // half made
	}
	// There is no state before it was started.
	in.state, _ = known.state.Read(filepath.Join(in.dir, record.StateFile))
	if err == nil {
		if p.known.instances == nil {
			p.known.instances = map[string]*knownInstance{}
		}
		p.known.instances[name] = known
	}
	if err == nil && in.state.Finished != 0 {
		if known.said != in.state {
			known.message, known.said = lastWords(in.meta, in.state), in.state
		}
		in.message = known.message
	}
	return in
}

// repairState writes the record of an instance that runs, where there is one and it cannot be read. A missing one is
// about to be written by the shim.
func (p *pod) repairState(in *instance, pid uint32) error {
	var st record.State
	file := filepath.Join(in.dir, record.StateFile)
	if err := record.Read(file, &st); err == nil && st.Started != 0 || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return record.Write(file, record.State{Pid: int(pid), Started: nowMilli()})
}

// known is what was read of a pod's records, which are looked at far more often than they change.
type known struct {
	pod       record.Cache[record.Pod]
	names     record.Names // of the instances' directories
	instances map[string]*knownInstance
}

type knownInstance struct {
	meta    record.Cache[record.Instance]
	state   record.Cache[record.State]
	message string       // what an instance that ended left
	said    record.State // the end that message is of
}

// forgetInstance drops what is known of an instance that was removed.
func (p *pod) forgetInstance(name string) {
	p.knownMu.Lock()
	delete(p.known.instances, name)
	p.knownMu.Unlock()
}

// newest gives the newest instance of a container, nil if there is none.
func (p *pod) newest(container string) *instance {
	entries, err := os.ReadDir(filepath.Join(p.dir, record.Instances))
	if err != nil {
		return nil
	}
	best := -1
	for _, e := range entries {
		if name, attempt, ok := record.ParseInstanceDir(e.Name()); ok && name == container && attempt > best {
			best = attempt
		}
	}
	if best < 0 {
		return nil
	}
	return p.readInstance(record.InstanceDir(container, best))
}

func (in *instance) running() bool { return in.state.Started != 0 && in.state.Finished == 0 }

// removeInstance ends an instance and removes its bundle and writable layer. Its log stays, unless it never ran: who counts
// logs counts restarts.
func (r *Runtime) removeInstance(ctx context.Context, p *pod, in *instance) error {
	defer p.forgetInstance(record.InstanceDir(in.container, in.attempt))
	if err := r.endInstance(ctx, p, in); err != nil {
		return err
	}
	if log, err := os.Stat(in.meta.Log); err == nil && log.Size() == 0 && in.state.Started == 0 {
		_ = os.Remove(in.meta.Log)
	}
	if err := errors.Join(r.dropConfig(p, in), os.RemoveAll(r.scratchDir(p, in.container, in.attempt)), os.RemoveAll(in.dir)); err != nil {
		return fmt.Errorf("remove %s: %w", instanceID(p, in.container, in.attempt), err)
	}
	return nil
}

// endInstance takes an instance out of the shim and of runc, unmounts its root and removes its cgroup. Whatever of it
// still runs is killed.
func (r *Runtime) endInstance(ctx context.Context, p *pod, in *instance) error {
	ctx, cancel := context.WithTimeout(ctx, runcPatience)
	defer cancel()
	id := instanceID(p, in.container, in.attempt)
	err := p.tasks(ctx, r, func(ctx context.Context, t taskapi.TTRPCTaskService) error {
		absent := func(err error) bool { return err != nil && errdefs.IsNotFound(errgrpc.ToNative(err)) }
		// One that was never started can be deleted at once, but runc takes ten seconds for it.
		if in.state.Started != 0 {
			if _, err := t.Delete(ctx, &taskapi.DeleteRequest{ID: id}); err == nil || absent(err) {
				return nil
			}
		}
		if _, err := t.Kill(ctx, &taskapi.KillRequest{ID: id, Signal: uint32(unix.SIGKILL), All: true}); err != nil && !absent(err) {
			return err
		}
		if _, err := t.Wait(ctx, &taskapi.WaitRequest{ID: id}); err != nil && !absent(err) {
			return err
		}
		if _, err := t.Delete(ctx, &taskapi.DeleteRequest{ID: id}); err != nil && !absent(err) {
			return err
		}
		return nil
	})
	// The shim is dead, or does not know it (any more): runc itself is asked, unless it shows beforehand that it has
	// nothing. Of one whose end is recorded it has what its directory says, of others perhaps more in a moment.
	if _, serr := os.Stat(filepath.Join(r.runcRoot(), r.o.namespace(), id)); serr == nil || err != nil && in.state.Finished == 0 {
		if derr := r.runcDelete(ctx, id); derr != nil {
			return fmt.Errorf("remove %s: %w", id, errors.Join(derr, err))
		}
	}
	if err := unmount(filepath.Join(in.dir, "rootfs")); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if err := removeCgroup(r.podCgroup(p.id) + "/" + record.InstanceDir(in.container, in.attempt)); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}

// runcDelete kills and deletes a container without a shim.
func (r *Runtime) runcDelete(ctx context.Context, id string) error {
	root := filepath.Join(r.runcRoot(), r.o.namespace())
	out, err := exec.CommandContext(ctx, r.o.Runc, "--root", root, "delete", "--force", id).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "does not exist") {
		return fmt.Errorf("runc delete: %w: %s", err, firstLine(out))
	}
	return nil
}

// buryShim puts in order what a shim left that died: what it kept is killed, and each instance that had not ended
// gets its end recorded. p.mu is held.
func (r *Runtime) buryShim(p *pod) {
	for _, in := range p.instances() {
		if in.state.Finished != 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), runcPatience)
		if err := r.runcDelete(ctx, instanceID(p, in.container, in.attempt)); err != nil {
			r.o.Log.Error("clean up after a dead shim", "pod", p.id, "container", in.container, "err", err)
		}
		cancel()
		if in.meta.ID == "" || in.state.Started == 0 {
			continue // never ran; it is removed when it is started again
		}
		r.o.Log.Warn("shim died, its container was ended", "pod", p.id, "container", in.container)
		end := in.state
		end.Pid, end.Finished, end.ExitCode, end.Signal = 0, nowMilli(), 128+int32(unix.SIGKILL), int32(unix.SIGKILL)
		if err := record.Write(filepath.Join(in.dir, record.StateFile), end); err != nil {
			r.o.Log.Error("record exit", "pod", p.id, "container", in.container, "err", err)
		}
	}
}

func (r *Runtime) runcRoot() string { return filepath.Join(r.o.RunDir, "runc") }

// scratchDir is where an instance's writable layer lies.
func (r *Runtime) scratchDir(p *pod, container string, attempt int) string {
	return filepath.Join(r.o.DataDir, "scratch", string(p.id), record.InstanceDir(container, attempt))
}

func logFile(podLogs, container string, attempt int) string {
	return filepath.Join(podLogs, container, strconv.Itoa(attempt)+".log")
}

// attempts are the instances of a container that have a log, in no order and, where it is in several files, several times.
func attempts(podLogs, container string) iter.Seq[int] {
	return func(yield func(int) bool) {
		entries, _ := os.ReadDir(filepath.Join(podLogs, container)) // none, where it has no logs
		for _, e := range entries {
			name, _, isLog := strings.Cut(e.Name(), ".log") // and what follows, in those set aside
			if n, err := strconv.Atoi(name); err == nil && isLog && n >= 0 && !yield(n) {
				return
			}
		}
	}
}

// trimLogs removes the logs of instances older than the one before attempt, as kubelet keeps two.
func trimLogs(podLogs, container string, attempt int) error {
	var errs []error
	for n := range attempts(podLogs, container) {
		if n >= attempt-1 {
			continue
		}
		path := logFile(podLogs, container, n)
		for _, file := range append(crilog.Rotated(path), path) {
			if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}
