package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsfsMagic is what statfs says of a pinned namespace.
const nsfsMagic = 0x6e736673

// pinned tells whether path is a namespace kept alive by a bind mount.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == nsfsMagic
}

// nsKinds are the namespaces a pod shares, and the flags that make them.
var nsKinds = []struct {
	name string
	flag int
}{{"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}}

// pinNamespaces makes the namespaces named by kinds and pins them at dir/<kind>. Those that are there already stay
// as they are. No process is needed to hold them.
//
// It works on a thread that is thrown away: a thread that changed its namespaces must not go back to the
// scheduler, and ends with its goroutine when it is locked.
func pinNamespaces(dir, hostname string, kinds map[string]bool) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	flags := 0
	var missing []string
	for _, k := range nsKinds {
		path := filepath.Join(dir, k.name)
		if !kinds[k.name] || pinned(path) {
			continue
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		f.Close()
		flags |= k.flag
		missing = append(missing, k.name)
	}
	if flags == 0 {
		return nil
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- func() error {
			if err := unix.Unshare(flags); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			if flags&unix.CLONE_NEWUTS != 0 {
				if err := unix.Sethostname([]byte(hostname)); err != nil {
					return fmt.Errorf("set host name %q: %w", hostname, err)
				}
			}
			for _, kind := range missing {
				from := fmt.Sprintf("/proc/self/task/%d/ns/%s", unix.Gettid(), kind)
				if err := unix.Mount(from, filepath.Join(dir, kind), "", unix.MS_BIND, ""); err != nil {
					return fmt.Errorf("pin %s namespace: %w", kind, err)
				}
			}
			return nil
		}()
	}()
	return <-done
}

// unpinNamespaces lets the namespaces of dir go.
func unpinNamespaces(dir string) error {
	var errs []error
	for _, k := range nsKinds {
		errs = append(errs, unmount(filepath.Join(dir, k.name)))
	}
	return errors.Join(errs...)
}

// unmount takes away all that is mounted at path, one over the other; nothing there is fine.
func unmount(path string) error {
	for range 64 {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return fmt.Errorf("unmount %s: more than 64 mounts", path)
}
