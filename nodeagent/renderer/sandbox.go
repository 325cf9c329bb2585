package renderer

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"
)

// sandboxUID is the user and group the child becomes where it is started as root: nobody's, so that it owns no
// file and shares no process with anyone. Where a user namespace does not map it, it is 65534.
const sandboxUID = 1_966_080_011

// lockUp takes from this process what an evaluation does not need. What it cannot do without is seccomp: its
// failure is an error. The rest is as much as the kernel and the parent's rights give.
func lockUp(h hello) (Sandbox, error) {
	var s Sandbox
	if err := limitResources(h.Limits); err != nil {
		return s, err
	}
	if h.Namespaces {
		if err := emptyRoot(); err != nil {
			return s, fmt.Errorf("empty root: %w", err)
		}
		if err := dropUser(); err != nil {
			return s, fmt.Errorf("drop root: %w", err)
		}
		s.Namespaces = true
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return s, fmt.Errorf("forbid dumps: %w", err)
	}
	s.Landlock = landLocked()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return s, fmt.Errorf("forbid new privileges: %w", err)
	}
	if err := filterSyscalls(); err != nil {
		return s, fmt.Errorf("filter system calls: %w", err)
	}
	s.Seccomp = true
	return s, nil
}

// limitResources sets what the kernel enforces even if the parent does not look. The limits are above the
// parent's, which tell the author more.
func limitResources(l Limits) error {
	seconds := uint64((l.Life + l.Total).Seconds()) + 60
	limits := []struct {
		name     string
		resource int
		value    uint64
	}{
		{"core", unix.RLIMIT_CORE, 0},
		{"fsize", unix.RLIMIT_FSIZE, 0},
		{"nofile", unix.RLIMIT_NOFILE, 32},
		{"cpu", unix.RLIMIT_CPU, seconds},
	}
	if !raceEnabled { // its shadow memory counts as data
		limits = append(limits, struct {
			name     string
			resource int
			value    uint64
		}{"data", unix.RLIMIT_DATA, uint64(l.Memory) + 256<<20})
	}
	for _, x := range limits {
		var old unix.Rlimit
		if err := unix.Getrlimit(x.resource, &old); err != nil {
			return fmt.Errorf("read limit %s: %w", x.name, err)
		}
		v := min(x.value, old.Max)
		if err := unix.Setrlimit(x.resource, &unix.Rlimit{Cur: v, Max: v}); err != nil {
			return fmt.Errorf("limit %s: %w", x.name, err)
		}
	}
	return nil
}

// emptyRoot makes an empty read-only file system the root of this process's mount namespace, which is its own.
func emptyRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	const dir = "/proc" // any directory that is there; the mount is seen by nobody else
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k,nr_inodes=2,mode=555"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the host's files: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("make read-only: %w", err)
	}
	return unix.Chdir("/")
}

// dropUser leaves root for good; the syscall package does it for all threads.
func dropUser() error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	id := sandboxUID
	err := syscall.Setgid(id)
	if errors.Is(err, unix.EINVAL) {
		id = 65534
		err = syscall.Setgid(id)
	}
	if err != nil {
		return fmt.Errorf("group: %w", err)
	}
	if err := syscall.Setuid(id); err != nil {
		return fmt.Errorf("user: %w", err)
	}
	return nil
}

// landLocked gives up every right to files and the network that the kernel's Landlock knows, and says whether it
// did. A binary built with cgo cannot where the root is empty, since it looks for its threads in /proc; there are no
// files to lose then either.
func landLocked() bool {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || int(abi) < 1 {
		return false
	}
	return landlock.V5.BestEffort().Restrict() == nil
}
