package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// killer ends cgroups with all that runs in them and below.
type killer struct{ mount string }

const (
	// frozenWithin bounds how long all processes of a cgroup may take to be frozen. One that sleeps in the kernel does not
	// freeze, and does not fork either.
	frozenWithin = 50 * time.Millisecond
	// deep bounds how far below a pod's cgroup is looked.
	deep = 8
)

// end kills every process in the cgroup, however fast they fork, and tells whether there were any. What is frozen is
// thawed, for in the older version of cgroups what is frozen does not die.
func (k killer) end(cgroup string) (seen bool, err error) {
	dirs := k.dirs(cgroup)
	for _, dir := range dirs {
		// One word to the kernel ends all, those frozen and those being born among them.
		if err := write(filepath.Join(dir, "cgroup.kill"), "1"); err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		complain(fmt.Errorf("%s/cgroup.kill: %w", dir, err))
	}
	for _, dir := range dirs {
		freeze(dir)
	}
	var errs []error
	for _, dir := range dirs {
		err := walk(dir, deep, func(dir string) error {
			pids, err := processes(dir)
			for _, pid := range pids {
				seen = true
				if e := unix.Kill(pid, unix.SIGKILL); e != nil && e != unix.ESRCH {
					err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, e))
				}
			}
			return err
		})
		errs = append(errs, err)
	}
	for _, dir := range dirs {
		errs = append(errs, walk(dir, deep, thaw))
	}
	return seen, errors.Join(errs...)
}

// dirs are where the cgroup is: with version 2 alone in one place, else below each controller.
func (k killer) dirs(cgroup string) (dirs []string) {
	if cgroup == "" || strings.Trim(cgroup, "/") == "" || strings.Contains(cgroup, "..") {
		return nil
	}
	for _, top := range hierarchies(k.mount) {
		dir := filepath.Join(top, cgroup)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// hierarchies are the roots of the cgroup file systems.
func hierarchies(mount string) (tops []string) {
	if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err == nil {
		return []string{mount}
	}
	entries, err := os.ReadDir(mount)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() { // controllers that are mounted together have links beside them
			tops = append(tops, filepath.Join(mount, e.Name()))
		}
	}
	return tops
}

// freeze halts a cgroup and those below, so that nothing forks while it is read; where it can be, that is.
func freeze(dir string) {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err == nil {
		return // there is no need
	}
	file, word, state, want := "freezer.state", "FROZEN", "freezer.state", "FROZEN"
	if err := write(filepath.Join(dir, file), word); err != nil {
		file, word, state, want = "cgroup.freeze", "1", "cgroup.events", "frozen 1"
		if err := write(filepath.Join(dir, file), word); err != nil {
			return
		}
	}
	for until := time.Now().Add(frozenWithin); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if b, err := os.ReadFile(filepath.Join(dir, state)); err != nil || strings.Contains(string(b), want) {
			return
		}
	}
}

// thaw undoes freeze, and what others froze: a process that is to die needs to run for that.
func thaw(dir string) error {
	return errors.Join(ignoreAbsent(write(filepath.Join(dir, "freezer.state"), "THAWED")), ignoreAbsent(write(filepath.Join(dir, "cgroup.freeze"), "0")))
}

// processes are those of one cgroup itself.
func processes(dir string) (pids []int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		// One that has threads in it tells of none; cgroup.kill saw to it.
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENODEV) {
			return nil, nil
		}
		return nil, ignoreAbsent(err)
	}
	for line := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 { // 0: in a namespace that this one does not see
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// walk calls f for a directory and those below, and goes on after an error.
func walk(dir string, depth int, f func(dir string) error) error {
	errs := []error{f(dir)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errors.Join(append(errs, ignoreAbsent(err))...)
	}
	for _, e := range entries {
		if e.IsDir() && depth > 0 {
			errs = append(errs, walk(filepath.Join(dir, e.Name()), depth-1, f))
		}
	}
	return errors.Join(errs...)
}

// write writes to a file of the kernel, which must be there.
func write(path, word string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(word)
	return errors.Join(err, f.Close())
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// enter makes a cgroup under every controller but those that could not take a process as it is, and moves this process
// there unless it is the one below that is asked for.
func enter(mount, cgroup, below string) error {
	var errs []error
	for _, top := range hierarchies(mount) {
		if filepath.Base(top) == "cpuset" { // a new one has no processors
			continue
		}
		dir := filepath.Join(top, cgroup)
		err := os.MkdirAll(filepath.Join(dir, below), 0o755)
		if err == nil && below == "" {
			err = write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(os.Getpid()))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// pods are the cgroups of the fenced pods.
func pods(dir string) (cgroups []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // being written
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // it ended meanwhile
		}
		cgroups = append(cgroups, strings.TrimSpace(string(b)))
	}
	return cgroups, nil
}
