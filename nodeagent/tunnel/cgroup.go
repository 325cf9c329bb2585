package tunnel

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchies are the roots of the cgroup file systems: one with version 2 alone, else one for each set of controllers.
func hierarchies(mount string) (tops []string) {
	if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err == nil {
		return []string{mount}
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "cpuset" { // a new one has no processors
			tops = append(tops, filepath.Join(mount, e.Name()))
		}
	}
	return tops
}

// enter moves this process into a cgroup, which it makes.
func enter(mount, cgroup string) error {
	var errs []error
	for _, top := range hierarchies(mount) {
		dir := filepath.Join(top, cgroup)
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// leave removes a cgroup whose process has ended a moment ago, and the one above if nothing else is in it.
func leave(mount, cgroup string) error {
	var errs []error
	for _, top := range hierarchies(mount) {
		dir := filepath.Join(top, cgroup)
		err := unix.Rmdir(dir)
		for range 50 { // until the kernel has taken the process out of it
			if !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(10 * time.Millisecond)
			err = unix.Rmdir(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, &fs.PathError{Op: "remove cgroup", Path: dir, Err: err})
			continue
		}
		_ = unix.Rmdir(filepath.Dir(dir))
	}
	return errors.Join(errs...)
}
