package containers

import (
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	corev1 "k8s.io/api/core/v1"
)

// cpuPeriod is the period of CPU quotas in microseconds, the kernel's and Kubernetes' default.
const cpuPeriod = 100_000

// limits are what a cgroup may use; 0 means without a limit.
type limits struct {
	shares uint64 // relative weight of CPU, 2 to 262144
	quota  int64  // microseconds of CPU in a period of cpuPeriod
	memory int64  // bytes
}

// resourcesOf maps requests and limits as kubelet does: a CPU that has no request asks for what its limit is.
func resourcesOf(r corev1.ResourceRequirements) limits {
	request, asked := r.Requests[corev1.ResourceCPU]
	limit, limited := r.Limits[corev1.ResourceCPU]
	if !asked && limited {
		request = limit
	}
	memory := r.Limits[corev1.ResourceMemory]
	return limits{
		shares: sharesOf(request.MilliValue()),
		quota:  quotaOf(limit.MilliValue()),
		memory: memory.Value(),
	}
}

func sharesOf(milli int64) uint64 {
	return uint64(min(max(milli*1024/1000, 2), 262144))
}

func quotaOf(milli int64) int64 {
	if milli <= 0 {
		return 0
	}
	return max(milli*cpuPeriod/1000, 1000) // the kernel takes no less than 1 ms
}

// podResources adds up what the containers of a pod may use: a limit of the whole exists when all have one. Init
// containers run one after the other, before the rest, but for those that stay (restartPolicy Always).
func podResources(spec *corev1.PodSpec) limits {
	var sum, peak total
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sum.add(c.Resources)
			peak.raise(sum)
			continue
		}
		one := sum
		one.add(c.Resources)
		peak.raise(one)
	}
	for i := range spec.Containers {
		sum.add(spec.Containers[i].Resources)
	}
	peak.raise(sum)
	peak.add(corev1.ResourceRequirements{Requests: spec.Overhead, Limits: spec.Overhead}, onlyIfLimited)
	l := limits{shares: sharesOf(peak.cpuRequest)}
	if !peak.cpuFree {
		l.quota = quotaOf(peak.cpuLimit)
	}
	if !peak.memoryFree {
		l.memory = peak.memory
	}
	return l
}

// total is a sum over containers; free notes that one of them has no limit.
type total struct {
	cpuRequest, cpuLimit, memory int64 // milli CPU, milli CPU, bytes
	cpuFree, memoryFree          bool
}

const onlyIfLimited = true

// add counts one container. With onlyIfLimited a missing limit does not free the whole.
func (t *total) add(r corev1.ResourceRequirements, lenient ...bool) {
	request, asked := r.Requests[corev1.ResourceCPU]
	limit, limited := r.Limits[corev1.ResourceCPU]
	if !asked && limited {
		request = limit
	}
	t.cpuRequest += request.MilliValue()
	t.cpuLimit += limit.MilliValue()
	memory, bounded := r.Limits[corev1.ResourceMemory]
	t.memory += memory.Value()
	if len(lenient) == 0 {
		t.cpuFree = t.cpuFree || !limited
		t.memoryFree = t.memoryFree || !bounded
	}
}

// raise makes t at least as large as u in everything.
func (t *total) raise(u total) {
	t.cpuRequest = max(t.cpuRequest, u.cpuRequest)
	t.cpuLimit = max(t.cpuLimit, u.cpuLimit)
	t.memory = max(t.memory, u.memory)
	t.cpuFree = t.cpuFree || u.cpuFree
	t.memoryFree = t.memoryFree || u.memoryFree
}

// linuxResources is the part of an OCI spec that limits one container.
func (r *Runtime) linuxResources(c *corev1.Container) *specs.LinuxResources {
	l := resourcesOf(c.Resources)
	period := uint64(cpuPeriod)
	res := &specs.LinuxResources{CPU: &specs.LinuxCPU{}}
	if r.weighs {
		res.CPU.Shares = &l.shares
	}
	if l.quota > 0 {
		res.CPU.Quota, res.CPU.Period = &l.quota, &period
	}
	if l.memory > 0 {
		res.Memory = &specs.LinuxMemory{Limit: &l.memory}
		if r.unify {
			// Memory that runs out ends the whole container, not one process of it; and no swap, as in v1
			// where it is not set.
			res.Unified = map[string]string{"memory.oom.group": "1"}
		}
	}
	return res
}

// oomScore is who the kernel ends first when the machine's memory runs out: kubelet's values. nil where it may not
// be set: to be ended last needs a right this process may lack.
func oomScore(spec *corev1.PodSpec, c *corev1.Container) *int {
	score := 1000
	switch qos(spec) {
	case corev1.PodQOSGuaranteed:
		score = -997
	case corev1.PodQOSBurstable:
		request := c.Resources.Requests[corev1.ResourceMemory]
		if machine := machineMemory(); machine > 0 {
			score = int(min(max(1000-1000*request.Value()/machine, 3), 999))
		}
	}
	if score < 0 && !mayProtect() {
		return nil
	}
	return &score
}

// qos is the pod's class of service, by Kubernetes' rule over CPU and memory.
func qos(spec *corev1.PodSpec) corev1.PodQOSClass {
	guaranteed, any := true, false
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			r := list[i].Resources
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				request, limit := r.Requests[name], r.Limits[name]
				any = any || !request.IsZero() || !limit.IsZero()
				if _, asked := r.Requests[name]; limit.IsZero() || asked && request.Cmp(limit) != 0 {
					guaranteed = false
				}
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// machineMemory is MemTotal in bytes, 0 if it cannot be told.
var machineMemory = sync.OnceValue(func() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			return parseKB(rest)
		}
	}
	return 0
})

// mayProtect tells whether this process has CAP_SYS_RESOURCE, which a container's lower score needs.
var mayProtect = sync.OnceValue(func() bool {
	caps, err := effectiveCaps()
	return err == nil && caps&(1<<24) != 0
})
