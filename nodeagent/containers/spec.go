package containers

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// spec writes the OCI spec of one container instance: Kubernetes' defaults as containerd has them, and the
// runtime's own seccomp profile unless the pod says otherwise.
func (r *Runtime) spec(p *pod, l plan.Launch, im *image) (*specs.Spec, error) {
	c, pod := l.Container, l.Pod.Spec
	security := effectiveSecurity(pod, c)
	who, err := security.account(im)
	if err != nil {
		return nil, err
	}
	args, err := argv(l, im)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: security.readOnlyRoot},
		Process: &specs.Process{
			Args:            args,
			Env:             environ(l, im, who),
			Cwd:             workingDir(c, im),
			Terminal:        c.TTY,
			User:            specs.User{UID: who.uid, GID: who.gid, AdditionalGids: who.groups},
			NoNewPrivileges: security.noNewPrivileges,
			OOMScoreAdj:     oomScore(pod, c),
			Capabilities:    security.capabilities(who.uid),
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 20, Hard: 1 << 20}},
		},
		Linux: &specs.Linux{
			CgroupsPath: r.podCgroup(l.Pod.ID) + "/" + c.Name + "." + strconv.Itoa(l.Attempt),
			Namespaces:  r.namespaces(p, pod),
			Resources:   r.linuxResources(c),
			Sysctl:      sysctls(pod),
		},
		Annotations: map[string]string{
			"io.kubernetes.pod.uid": string(l.Pod.ID), "io.kubernetes.pod.name": l.Pod.Name,
			"io.kubernetes.pod.namespace": l.Pod.Namespace, "io.kubernetes.container.name": c.Name,
		},
	}
	if hard := hardFiles(); hard < 1<<20 {
		s.Process.Rlimits[0].Soft, s.Process.Rlimits[0].Hard = hard, hard
	}
	if len(s.Linux.Namespaces) == 0 || !hasNamespace(s, specs.UTSNamespace) {
		s.Hostname = ""
	}
	s.Mounts = r.mounts(p, l, security)
	if security.privileged {
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		s.Linux.Devices = hostDevices()
	} else {
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = maskedPaths, readonlyPaths
		if security.unmasked {
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		}
	}
	if security.seccomp {
		s.Linux.Seccomp = seccompProfile(s, im.older)
	}
	return s, nil
}

// argv is what runs: the container's command or else the image's entrypoint, then its args; the image's own
// arguments count only where neither is given.
func argv(l plan.Launch, im *image) ([]string, error) {
	command, args := l.Command, l.Args
	if len(command) == 0 {
		command = im.config.Entrypoint
		if len(args) == 0 {
			args = im.config.Cmd
		}
	}
	all := append(slices.Clone(command), args...)
	if len(all) == 0 {
		return nil, fmt.Errorf("container %s has no command, nor has its image %s", l.Container.Name, l.Image)
	}
	return all, nil
}

// environ is the image's environment, with the container's own over it.
func environ(l plan.Launch, im *image, who account) []string {
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + hostname(l.Pod)}
	if l.Container.TTY {
		env = append(env, "TERM=xterm")
	}
	if who.home != "" {
		env = append(env, "HOME="+who.home)
	}
	at := map[string]int{}
	out := make([]string, 0, len(env)+len(im.config.Env)+len(l.Env))
	for _, list := range [][]string{env, im.config.Env, l.Env} {
		for _, kv := range list {
			name, _, _ := strings.Cut(kv, "=")
			if i, there := at[name]; there {
				out[i] = kv
				continue
			}
			at[name] = len(out)
			out = append(out, kv)
		}
	}
	return out
}

func workingDir(c *corev1.Container, im *image) string {
	switch {
	case c.WorkingDir != "":
		return c.WorkingDir
	case im.config.WorkingDir != "":
		return im.config.WorkingDir
	}
	return "/"
}

// namespaces says which namespaces the container shares with its pod, the host, or nobody.
func (r *Runtime) namespaces(p *pod, pod *corev1.PodSpec) []specs.LinuxNamespace {
	pin := func(kind string) string { return filepath.Join(p.dir, "ns", kind) }
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if !pod.HostPID {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if !pod.HostIPC {
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: pin("ipc")})
	}
	if !pod.HostNetwork {
		ns = append(ns,
			specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: pin("net")},
			specs.LinuxNamespace{Type: specs.UTSNamespace, Path: pin("uts")})
	}
	if r.unify {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}

func hasNamespace(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

// sysctls are the pod's own; they hold in its namespaces alone, which runc checks. Ports from 0 may be
// bound by anybody and anybody may ping, as containerd's CRI has it for pods with a network of their own.
func sysctls(pod *corev1.PodSpec) map[string]string {
	m := map[string]string{}
	if !pod.HostNetwork {
		m["net.ipv4.ip_unprivileged_port_start"] = "0"
		m["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	if pod.SecurityContext != nil {
		for _, s := range pod.SecurityContext.Sysctls {
			m[s.Name] = s.Value
		}
	}
	return m
}

// mounts are the file systems of every container, and then the launch's own, parents before what lies in them.
func (r *Runtime) mounts(p *pod, l plan.Launch, sec security) []specs.Mount {
	sys := "ro"
	if sec.privileged {
		sys = "rw"
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", sys}},
	}
	shm := filepath.Join(p.dir, "shm")
	if l.Pod.Spec.HostIPC {
		shm = "/dev/shm"
	}
	all = append(all, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: shm, Options: []string{"rbind", "rw", "nosuid", "nodev", "noexec"}})
	own := slices.Clone(l.Mounts)
	if file := r.messageFile(p, l); file != "" {
		own = append(own, plan.Mount{Source: file, Target: filepath.Join("/", l.Container.TerminationMessagePath)})
	}
	slices.SortStableFunc(own, func(a, b plan.Mount) int {
		return strings.Count(filepath.Clean(a.Target), "/") - strings.Count(filepath.Clean(b.Target), "/")
	})
	for _, m := range own {
		all = slices.DeleteFunc(all, func(have specs.Mount) bool { return have.Destination == filepath.Clean(m.Target) })
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		all = append(all, specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source, Options: []string{"rbind", "rprivate", mode}})
	}
	return all
}

// Paths that tell of the host or reach into it, hidden and write-protected as containerd does.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// hardFiles is this process' own limit of open files, above which nothing can be given.
func hardFiles() uint64 {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return 1024
	}
	return lim.Max
}

// hostDevices are the devices below the host's /dev, for a privileged container.
func hostDevices() []specs.LinuxDevice {
	found := map[string]specs.LinuxDevice{}
	skip := map[string]bool{"/dev/pts": true, "/dev/shm": true, "/dev/fd": true, "/dev/mqueue": true, "/dev/.lxc": true, "/dev/console": true}
	var walk func(dir string, depth int)
	walk = func(dir string, depth int) {
		entries, err := os.ReadDir(dir)
		if err != nil || depth > 8 {
			return
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if skip[path] {
				continue
			}
			if e.IsDir() {
				walk(path, depth+1)
				continue
			}
			if d, ok := device(path); ok {
				found[path] = d
			}
		}
	}
	walk("/dev", 0)
	var all []specs.LinuxDevice
	for _, path := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[path])
	}
	return all
}

func device(path string) (specs.LinuxDevice, bool) {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return specs.LinuxDevice{}, false
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		return specs.LinuxDevice{}, false
	}
	mode := os.FileMode(st.Mode &^ unix.S_IFMT)
	return specs.LinuxDevice{
		Path: path, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, true
}
