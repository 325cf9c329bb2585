package containers

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
)

// security is what a pod's and a container's securityContext say together.
type security struct {
	privileged      bool
	readOnlyRoot    bool
	noNewPrivileges bool
	unmasked        bool // procMount: Unmasked
	seccomp         bool // the runtime's default profile

	add, drop []corev1.Capability

	user, group  *int64
	groups       []int64 // supplementary, fsGroup among them
	strictGroups bool    // the image's own groups do not count
	notRoot      bool
	container    string // for messages
}

// effectiveSecurity merges them: the container's word goes over the pod's.
func effectiveSecurity(pod *corev1.PodSpec, c *corev1.Container) security {
	s := security{container: c.Name, seccomp: true}
	var profile *corev1.SeccompProfile
	if p := pod.SecurityContext; p != nil {
		s.user, s.group = p.RunAsUser, p.RunAsGroup
		s.groups = slices.Clone(p.SupplementalGroups)
		if p.FSGroup != nil {
			s.groups = append(s.groups, *p.FSGroup)
		}
		s.strictGroups = p.SupplementalGroupsPolicy != nil && *p.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
		s.notRoot = p.RunAsNonRoot != nil && *p.RunAsNonRoot
		profile = p.SeccompProfile
	}
	if k := c.SecurityContext; k != nil {
		s.privileged = k.Privileged != nil && *k.Privileged
		s.readOnlyRoot = k.ReadOnlyRootFilesystem != nil && *k.ReadOnlyRootFilesystem
		s.noNewPrivileges = k.AllowPrivilegeEscalation != nil && !*k.AllowPrivilegeEscalation
		s.unmasked = k.ProcMount != nil && *k.ProcMount == corev1.UnmaskedProcMount
		if k.Capabilities != nil {
			s.add, s.drop = k.Capabilities.Add, k.Capabilities.Drop
		}
		if k.RunAsUser != nil {
			s.user = k.RunAsUser
		}
		if k.RunAsGroup != nil {
			s.group = k.RunAsGroup
		}
		if k.RunAsNonRoot != nil {
			s.notRoot = *k.RunAsNonRoot
		}
		if k.SeccompProfile != nil {
			profile = k.SeccompProfile
		}
	}
	if s.privileged || profile != nil && profile.Type == corev1.SeccompProfileTypeUnconfined {
		s.seccomp = false
	}
	return s
}

// account finds who the process is: the one that is asked for, or the image's user. That it must not be root is
// checked on the number that comes out, whatever the image called it.
func (s security) account(im *image) (account, error) {
	spec := im.config.User
	if s.user != nil {
		spec = strconv.FormatInt(*s.user, 10)
	}
	if s.group != nil {
		name, _, _ := strings.Cut(spec, ":")
		if name == "" {
			name = "0"
		}
		spec = name + ":" + strconv.FormatInt(*s.group, 10)
	}
	who, err := im.users.resolve(spec)
	if err != nil {
		return account{}, fmt.Errorf("container %s: %w", s.container, err)
	}
	if s.notRoot && who.uid == 0 {
		return account{}, fmt.Errorf("container %s: runAsNonRoot is set and it would run as root: set runAsUser, or a user in the image", s.container)
	}
	if s.strictGroups {
		who.groups = nil
	}
	who.addGroups(who.gid)
	for _, g := range s.groups {
		who.addGroups(uint32(g))
	}
	return who, nil
}

// defaultCaps are what containerd gives every container.
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// capabilities are the container's: the defaults, less what is dropped, and what is added. A process that is not
// root has them only within reach of programs that carry them.
func (s security) capabilities(uid uint32) *specs.LinuxCapabilities {
	have := slices.Clone(defaultCaps)
	if s.privileged {
		have = ownCaps()
	}
	for _, c := range s.drop {
		if strings.EqualFold(string(c), "ALL") {
			have = nil
		}
	}
	for _, c := range s.add {
		if strings.EqualFold(string(c), "ALL") {
			have = ownCaps()
		}
	}
	for _, c := range s.drop {
		name := capName(c)
		have = slices.DeleteFunc(have, func(h string) bool { return h == name })
	}
	for _, c := range s.add {
		if name := capName(c); name != "CAP_ALL" && !slices.Contains(have, name) {
			have = append(have, name)
		}
	}
	caps := &specs.LinuxCapabilities{Bounding: have, Permitted: have, Effective: have}
	if uid != 0 {
		caps.Permitted, caps.Effective = nil, nil
	}
	return caps
}

func capName(c corev1.Capability) string {
	name := strings.ToUpper(string(c))
	if !strings.HasPrefix(name, "CAP_") {
		name = "CAP_" + name
	}
	return name
}

// capNames are the kernel's capabilities by number.
var capNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
	"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// ownCaps are the capabilities this process has, which are all it can give.
func ownCaps() []string {
	bits, err := effectiveCaps()
	if err != nil {
		return slices.Clone(defaultCaps)
	}
	var have []string
	for i, name := range capNames {
		if bits&(1<<i) != 0 {
			have = append(have, name)
		}
	}
	return have
}

func effectiveCaps() (uint64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
		}
	}
	return 0, fmt.Errorf("no CapEff in /proc/self/status")
}

// parseKB reads "  1234 kB" as bytes.
func parseKB(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(s), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
