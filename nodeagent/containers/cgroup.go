package containers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// cgroupMount is where the kernel's cgroup file systems are.
const cgroupMount = "/sys/fs/cgroup"

// podCgroup is the parent of a pod's containers' cgroups, from each controller's root.
func (r *Runtime) podCgroup(id control.PodID) string {
	return path.Join(r.o.CgroupRoot, "pod"+string(id))
}

// makePodCgroup makes the pod's parent cgroup and gives it what the containers may use together.
func (r *Runtime) makePodCgroup(p *plan.Pod) error {
	cg := r.podCgroup(p.ID)
	limits := podResources(p.Spec)
	if r.unify {
		if err := enableControllers(cg); err != nil {
			return err
		}
		dir := filepath.Join(cgroupMount, cg)
		return errors.Join(
			writeCgroup(dir, "cpu.weight", strconv.FormatUint(weightOf(limits.shares), 10)),
			writeLimit(dir, "cpu.max", limits.quota, fmt.Sprintf("%d %d", limits.quota, cpuPeriod)),
			writeLimit(dir, "memory.max", limits.memory, strconv.FormatInt(limits.memory, 10)),
		)
	}
	for _, ctl := range []string{"cpu", "memory", "pids"} {
		if err := os.MkdirAll(filepath.Join(cgroupMount, ctl, cg), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	cpu := filepath.Join(cgroupMount, "cpu", cg)
	return errors.Join(
		writeCgroup(cpu, "cpu.shares", strconv.FormatUint(limits.shares, 10)),
		writeLimit(cpu, "cpu.cfs_quota_us", limits.quota, strconv.FormatInt(limits.quota, 10)),
		writeLimit(filepath.Join(cgroupMount, "memory", cg), "memory.limit_in_bytes", limits.memory, strconv.FormatInt(limits.memory, 10)),
	)
}

// enableControllers makes a cgroup v2 directory and lets its children have the controllers containers need.
func enableControllers(cg string) error {
	dir := filepath.Join(cgroupMount, cg)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	at := cgroupMount
	rel, _ := filepath.Rel(cgroupMount, dir)
	for _, part := range append([]string{""}, splitPath(rel)...) {
		at = filepath.Join(at, part)
		for _, ctl := range []string{"+cpu", "+memory", "+pids", "+io", "+cpuset"} {
			// Some are not there, and where a process sits none can be given on: what is missing in the
			// end is an error of the container that needs it.
			_ = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte(ctl), 0)
		}
	}
	return nil
}

// checkControllers warns of controllers that a host with cgroup v2 lacks, and tells whether there is one for shares of
// the processors. Those are left out where there is none, for nobody is harmed when there is enough; a container with a
// limit that cannot be set is refused.
func (r *Runtime) checkControllers() (cpu bool) {
	if !r.unify {
		return true
	}
	b, err := os.ReadFile(filepath.Join(cgroupMount, "cgroup.controllers"))
	if err != nil {
		r.o.Log.Warn("cgroup controllers cannot be read", "err", err)
	}
	there := strings.Fields(string(b))
	var lacking []string
	for _, ctl := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(there, ctl) {
			lacking = append(lacking, ctl)
		}
	}
	if len(lacking) > 0 {
		r.o.Log.Warn("this host lacks cgroup controllers: containers with such limits will not start", "controllers", lacking)
	}
	return slices.Contains(there, "cpu")
}

func splitPath(p string) []string {
	var parts []string
	for p != "." && p != "/" && p != "" {
		parts = append([]string{path.Base(p)}, parts...)
		p = path.Dir(p)
	}
	return parts
}

func writeLimit(dir, file string, limit int64, value string) error {
	if limit <= 0 {
		return nil
	}
	return writeCgroup(dir, file, value)
}

func writeCgroup(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0) // not os.WriteFile: making a file is refused there
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the controller is not there on this host; Open said so
	}
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("set cgroup limit: %w", err)
	}
	return nil
}

// weightOf maps cpu.shares (2 to 262144) to cpu.weight (1 to 10000) as runc does.
func weightOf(shares uint64) uint64 {
	if shares == 0 {
		return 100
	}
	return 1 + (shares-2)*9999/262142
}

// removePodCgroup removes the pod's parent, which runc leaves.
func (r *Runtime) removePodCgroup(id control.PodID) error { return removeCgroup(r.podCgroup(id)) }

// removeCgroup removes the cgroup and those below it under every controller.
func removeCgroup(cg string) error {
	var errs []error
	for _, dir := range cgroupDirs(cg) {
		errs = append(errs, removeCgroupDir(dir))
	}
	return errors.Join(errs...)
}

// cgroupDirs lists where the cgroup exists.
func cgroupDirs(cg string) []string {
	var dirs []string
	if cg == "" || cg == "/" {
		return nil
	}
	tops, _ := os.ReadDir(cgroupMount)
	for _, c := range append([]string{"."}, names(tops)...) {
		dir := filepath.Join(cgroupMount, c, cg)
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func names(entries []os.DirEntry) []string {
	var s []string
	for _, e := range entries {
		if e.IsDir() {
			s = append(s, e.Name())
		}
	}
	return s
}

// removeCgroupDir removes a directory of a cgroup file system and those below it. A process that was killed may
// hold it for some more milliseconds.
func removeCgroupDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroupDir(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for wait := time.Millisecond; ; wait *= 2 {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || wait > time.Second {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		time.Sleep(wait)
	}
}

var runcVersion = regexp.MustCompile(`runc version (\d+)\.(\d+)\.(\d+)`)

// checkRunc warns of a runc that lacks the fixes of CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881: those before
// 1.2.8, 1.3.0 to 1.3.2.
func (r *Runtime) checkRunc(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.o.Runc, "--version").Output()
	if err != nil {
		r.o.Log.Warn("runc does not tell its version", "runc", r.o.Runc, "err", err)
		return
	}
	if old, version := runcTooOld(string(out)); old {
		r.o.Log.Warn("runc lacks fixes of known container escapes: use 1.3.3 or later", "runc", r.o.Runc, "version", version)
	}
}

func runcTooOld(out string) (bool, string) {
	m := runcVersion.FindStringSubmatch(out)
	if m == nil {
		return true, firstLine([]byte(out))
	}
	n := func(i int) int { v, _ := strconv.Atoi(m[i]); return v }
	v := n(1)*1_000_000 + n(2)*1_000 + n(3)
	return v < 1_002_008 || v >= 1_003_000 && v < 1_003_003, m[0][len("runc version "):]
}
