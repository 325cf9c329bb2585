package desired

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// RuleQuota is that an environment asks for no more than it may. No policy lifts it.
const RuleQuota = "quota"

// compute are the resources of which containers must say what they want.
var compute = []struct {
	quota  string // of the quota
	name   corev1.ResourceName
	limits bool // else requests
}{
	{kube.QuotaLimitsCPU, corev1.ResourceCPU, true},
	{kube.QuotaLimitsMemory, corev1.ResourceMemory, true},
	{kube.QuotaRequestsCPU, corev1.ResourceCPU, false},
	{kube.QuotaRequestsMemory, corev1.ResourceMemory, false},
}

// demand has every container say what it wants of what there is a quota of. A limit is a request where none is said.
func demand(env render.Environment, spec *corev1.PodSpec, path string, tell func(path, text string)) {
	for _, r := range compute {
		if _, bounded := env.Quota[r.quota]; !bounded {
			continue
		}
		eachContainer(spec, func(c *corev1.Container, at string) {
			if _, said := wants(c, r.limits)[r.name]; !said {
				tell(path+"."+at+".resources", fmt.Sprintf("%s: container %s must say %s, of which environment %s has a quota", RuleQuota, c.Name, r.quota, env.Name))
			}
		})
	}
}

// wants is what a container has for limits, or asks for: where it says a limit alone, that.
func wants(c *corev1.Container, limits bool) corev1.ResourceList {
	if limits {
		return c.Resources.Limits
	}
	asks := corev1.ResourceList{}
	maps.Copy(asks, c.Resources.Limits)
	maps.Copy(asks, c.Resources.Requests)
	return asks
}

// usesOf is what an object takes of each resource that there may be a quota of, when all that it makes runs at once; nil: nothing.
func usesOf(obj kube.Object) map[string]int64 {
	switch o := obj.(type) {
	case *corev1.Service:
		uses := map[string]int64{kube.QuotaServices: 1}
		if o.Spec.Type == corev1.ServiceTypeNodePort {
			uses[kube.QuotaNodePorts] = int64(len(o.Spec.Ports))
		}
		return uses
	case *corev1.Pod:
		return usesOfPods(&o.Spec, 1)
	case *appsv1.ReplicaSet:
		return usesOfPods(&o.Spec.Template.Spec, one(o.Spec.Replicas))
	case *appsv1.Deployment:
		return with(usesOfPods(&o.Spec.Template.Spec, one(o.Spec.Replicas)), kube.QuotaDeployments)
	case *batchv1.Job:
		return with(usesOfRun(&o.Spec), kube.QuotaJobs)
	case *batchv1.CronJob:
		return with(usesOfRun(&o.Spec.JobTemplate.Spec), kube.QuotaCronJobs)
	}
	return nil
}

func with(uses map[string]int64, counted string) map[string]int64 {
	uses[counted] = 1
	return uses
}

func one(n *int32) int64 {
	if n == nil {
		return 1
	}
	return int64(*n)
}

// usesOfRun is of the pods that a Job has at once: never more than it has completions.
func usesOfRun(spec *batchv1.JobSpec) map[string]int64 {
	n := one(spec.Parallelism)
	if spec.Completions != nil {
		n = min(n, int64(*spec.Completions))
	}
	return usesOfPods(&spec.Template.Spec, n)
}

func usesOfPods(spec *corev1.PodSpec, n int64) map[string]int64 {
	uses := map[string]int64{kube.QuotaPods: n}
	for _, r := range compute {
		if a := together(spec, r.name, r.limits); a > 0 {
			uses[r.quota] = times(a, n)
		}
	}
	return uses
}

// together is how much of a resource a pod has at most, by Kubernetes' rule: its containers and sidecars run together, an init container
// runs alone with the sidecars started before it, and the larger of the two counts.
func together(spec *corev1.PodSpec, name corev1.ResourceName, limits bool) int64 {
	amount := func(c *corev1.Container) int64 {
		q, ok := wants(c, limits)[name]
		if !ok {
			return 0
		}
		return kube.AmountOf(name, q)
	}
	var all, sidecars, first int64
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars = plus(sidecars, amount(c))
			first = max(first, sidecars)
			continue
		}
		first = max(first, plus(sidecars, amount(c)))
	}
	for i := range spec.Containers {
		all = plus(all, amount(&spec.Containers[i]))
	}
	return max(plus(all, sidecars), first)
}

// huge is where sums end.
const huge = 1 << 62

func plus(a, b int64) int64 { return min(a, huge-b) + b }

func times(a, n int64) int64 {
	if n > 0 && a > huge/n {
		return huge
	}
	return a * n
}

// biggest is how many contributors to a sum are named.
const biggest = 3

// exceeded tells of each resource of which the environment would have more than it may: how much, and what takes the most.
func (b *builder) exceeded() (over render.Problems) {
	for _, name := range sortedKeys(b.env.Quota) {
		path := render.FieldPath(cmp.Or(b.env.Policy.QuotaAt, "environments."+b.env.Name+".quota"), name)
		tell := func(text string) {
			over = append(over, render.Problem{File: "shoal.cue", Line: b.env.Policy.Line(path), Path: path, Text: text})
		}
		limit, err := kube.Amount(name, b.env.Quota[name])
		if err != nil {
			tell(err.Error())
			continue
		}
		var sum int64
		var takers []*part
		for i := range b.parts {
			if n := b.parts[i].Uses[name]; n > 0 {
				sum = plus(sum, n)
				takers = append(takers, &b.parts[i])
			}
		}
		if sum <= limit {
			continue
		}
		slices.SortFunc(takers, func(p, q *part) int {
			return cmp.Or(cmp.Compare(q.Uses[name], p.Uses[name]), p.Key.Compare(q.Key), cmp.Compare(p.app, q.app))
		})
		var most []string
		for _, p := range takers[:min(biggest, len(takers))] {
			most = append(most, fmt.Sprintf("%s has %s (%s)", p.Key, kube.AmountText(name, p.Uses[name]), p.place()))
		}
		if more := len(takers) - biggest; more > 0 {
			most = append(most, fmt.Sprintf("%d more", more))
		}
		tell(fmt.Sprintf("%s: environment %s would have %s of %s, and may have %s: %s", RuleQuota, b.env.Name, kube.AmountText(name, sum), name, kube.AmountText(name, limit), strings.Join(most, ", ")))
	}
	return over
}
