// Package guard is the process that keeps the promise of the ring lease when the agent does not: by the deadline that
// the agent wrote last, what may run once has been killed on this node, though the agent was killed, hangs, or waits in
// vain for an answer.
//
// # What it goes by
//
// Two words of the run directory, and nothing else: the deadline (package deadline), and the directory of fenced pods,
// which has a file for each pod that may run only under the lease; it is named for the pod, and says its cgroup.
// The agent writes a pod's file before the pod's first container is made and takes it away after the last is gone. So
// the guard needs to know neither pods nor the ring, and there is nothing that it could be out of step with.
//
// # When it wakes
//
// At the deadline as it last read it, and then it reads again: as long as the agent renews, that is once in seven
// seconds, and finds a later one. There is nothing to be told of, as a deadline that is set only moves away. Without
// one it looks every two seconds, less than the shortest that a new one may lie ahead.
//
// When the deadline is over all processes in the cgroups of fenced pods are killed, and again for as long as any is
// seen. That a container is not started a moment later is the shims' part: they refuse to once the deadline is over, and
// what was made before the deadline is in its cgroup already, if only as runc's process that waits for its start.
//
// # What keeps it alive
//
// It is in a cgroup of its own, its memory is locked, the kernel's out-of-memory killer does not choose it, and its
// main thread goes before others. It shares nothing with the agent but the binary of the pods' shims, and is found by the
// lock that it holds on its file (Lock). It ends when it is killed, or its deadline's file was removed.
package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/internal/pidlock"
	"github.com/shoal-dev/shoal/internal/residence"
)

// Options say what a guard goes by. All are required.
type Options struct {
	Deadline string   // file of the deadline; it must be there
	Fenced   string   // directory with a file for each fenced pod
	Lock     string   // file that it holds locked for life
	Mount    string   // where the cgroup file systems are
	Cgroup   string   // its own cgroup, from each controller's root
	Ready    *os.File // gets a byte once it guards
}

const (
	// idle is how long it sleeps when there is no deadline, or all is dead: less than a new one may lie ahead, ms.
	idle = 2000
	// closely is for how long after a deadline it looks often, for what was about to start when it came, ms.
	closely = 3000
	// often is how long it sleeps then, ms.
	often = 20
	// seldom is how long it sleeps after that as long as something does not die, ms.
	seldom = 250
)

// next says what is due at now by a deadline: whether fenced pods are to be dead, and how long it may sleep, in ms. left
// tells that some were seen to live still.
func next(at deadline.Time, now int64, left bool) (over bool, sleep int64) {
	switch {
	case at == 0:
		return false, idle
	case !at.Over(now):
		return false, int64(at) - now
	case now >= int64(at) && now-int64(at) < closely:
		return true, often
	case left:
		return true, seldom
	}
	return true, idle
}

// Run guards until the deadline's file is removed.
func Run(o Options) error {
	runtime.LockOSThread()
	held, err := pidlock.Hold(o.Lock)
	if err != nil {
		return err
	}
	defer held.Close()
	w := watch{fenced: o.Fenced, killer: killer{o.Mount}}
	if w.file, err = unix.Open(o.Deadline, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("deadline %s: %w", o.Deadline, err)
	}
	if w.timer, err = newTimer(); err != nil {
		return err
	}
	protect(o.Mount, o.Cgroup)
	if err := rehearse(o, w.killer); err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	_, _ = o.Ready.Write([]byte{'1'}) // an agent that is gone already is what it is for: the next one finds it
	o.Ready.Close()
	for w.round() {
	}
	return nil
}

// rehearse does what is done at the end of a lease, to an empty cgroup, so that all it takes is in memory then, and so that
// what cannot work here is known now.
func rehearse(o Options, k killer) error {
	const empty = "rehearsal"
	errs := []error{enter(o.Mount, o.Cgroup, empty)}
	cgroup := filepath.Join(o.Cgroup, empty)
	if len(k.dirs(cgroup)) == 0 {
		errs = append(errs, fmt.Errorf("cgroup %s is nowhere below %s", cgroup, o.Mount))
	}
	_, err := k.end(cgroup)
	errs = append(errs, err)
	for _, dir := range k.dirs(cgroup) {
		errs = append(errs, unix.Rmdir(dir))
	}
	_, err = pods(o.Fenced)
	return errors.Join(append(errs, err)...)
}

// watch is the guard's life. As long as the lease is renewed a round allocates nothing.
type watch struct {
	fenced string
	killer killer
	timer  *timer
	file   int // of the deadline

	st unix.Stat_t
	b  [deadline.Size]byte
}

// round does what is due and sleeps until more is; false if nobody can set a deadline any more.
func (w *watch) round() (more bool) {
	at, there := w.deadline()
	if !there {
		return false
	}
	over, sleep := next(at, deadline.Now(), false)
	if over {
		left := w.sweep()
		_, sleep = next(at, deadline.Now(), left)
	}
	w.timer.sleep(sleep)
	return true
}

// sweep kills the fenced pods, and tells whether anything of them was there. Should the lease be granted anew meanwhile, what
// starts under it is left alone: the deadline is read once more before each pod is killed.
//
// A deadline may still be written between that look and the kill. No generation in the file would close this: the kernel
// knows no kill on the condition of what a file says. It harms no promise. A pod is killed here only if its file was there
// before the look, so when its deadline was over: whatever of it ran then was to be dead, and its node starts it again under
// the new lease. The other way about nothing can be missed: a deadline that is written only lies further ahead than the one
// before, and it is read whole (package deadline), never a mixture of two.
func (w *watch) sweep() (left bool) {
	cgroups, err := pods(w.fenced)
	if err != nil {
		complain(err)
	}
	for _, cg := range cgroups {
		if at, _ := w.deadline(); !at.Over(deadline.Now()) {
			return false
		}
		seen, err := w.killer.end(cg)
		if err != nil {
			complain(err)
		}
		left = left || seen
	}
	return left
}

// deadline is what the agent wrote last; over if it cannot be read.
func (w *watch) deadline() (at deadline.Time, there bool) {
	if err := unix.Fstat(w.file, &w.st); err == nil && w.st.Nlink == 0 {
		return deadline.Past, false
	}
	if n, err := unix.Pread(w.file, w.b[:], 0); err != nil || n != deadline.Size {
		return deadline.Past, true
	}
	return deadline.Decode(w.b), true
}

// complain writes to the guard's log.
func complain(err error) { fmt.Fprintln(os.Stderr, "guard:", err) }

// protect keeps the guard from sharing the agent's fate, as far as it has the right to. What fails is told, and no
// reason not to guard.
func protect(mount, cgroup string) {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0); err != nil {
		complain(fmt.Errorf("out of memory it may be killed like any other: %w", err))
	}
	if err := enter(mount, cgroup, ""); err != nil {
		complain(fmt.Errorf("it shares a cgroup with the agent: %w", err))
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); err != nil {
		complain(fmt.Errorf("it waits for a processor like any other: %w", err))
	}
	// Real time where that is to be had: in a cgroup without a share of it it is not.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
	// Starting up went through far more of the binary than it needs; what it touches from here on stays.
	if err := residence.Unmap(); err != nil {
		complain(fmt.Errorf("it holds more memory than it needs: %w", err))
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		complain(fmt.Errorf("its memory is not locked: %w", err))
	}
}

// timer sleeps by the clock that goes on while the machine sleeps.
type timer struct {
	fd   int
	spec unix.ItimerSpec
	b    [8]byte
}

func newTimer() (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timer: %w", err)
	}
	return &timer{fd: fd}, nil
}

// sleep returns after so many ms, 1 at least; sooner if a signal comes.
func (t *timer) sleep(ms int64) {
	t.spec.Value = unix.NsecToTimespec(max(ms, 1) * 1_000_000)
	if err := unix.TimerfdSettime(t.fd, 0, &t.spec, nil); err != nil {
		panic(fmt.Errorf("timer: %w", err)) // its arguments are in range
	}
	_, _ = unix.Read(t.fd, t.b[:])
}
