package desired

import (
	"fmt"
	"math"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-dev/shoal/engine/render"
)

// TestFeature_V5_QuotaCounts: what each kind takes when all of it runs.
func TestFeature_V5_QuotaCounts(t *testing.T) {
	const resources = "requests: {cpu: 100m}, limits: {cpu: 200m, memory: 1Ki}"
	for kind, want := range map[string]string{
		"Pod":        "map[limits.cpu:200 limits.memory:1024 pods:1 requests.cpu:100 requests.memory:1024]",
		"ReplicaSet": "map[limits.cpu:200 limits.memory:1024 pods:1 requests.cpu:100 requests.memory:1024]",
		"Deployment": "map[count/deployments.apps:1 limits.cpu:600 limits.memory:3072 pods:3 requests.cpu:300 requests.memory:3072]",
		"Job":        "map[count/jobs.batch:1 limits.cpu:600 limits.memory:3072 pods:3 requests.cpu:300 requests.memory:3072]",
		"CronJob":    "map[count/cronjobs.batch:1 limits.cpu:400 limits.memory:2048 pods:2 requests.cpu:200 requests.memory:2048]",
	} {
		item, _ := compiled(t, render.Environment{Name: "dev"}, fmt.Sprintf(kindsOfPods[kind], "", resources))
		if got := fmt.Sprint(item.Uses); got != want {
			t.Errorf("%s takes %s, want %s", kind, got, want)
		}
	}
	for manifest, want := range map[string]string{
		"{apiVersion: v1, kind: ConfigMap, metadata: {name: p}}":                                                                                            "map[]",
		"{apiVersion: v1, kind: Service, metadata: {name: p}, spec: {selector: {a: b}, ports: [{port: 80}]}}":                                               "map[services:1]",
		"{apiVersion: v1, kind: Service, metadata: {name: p}, spec: {type: NodePort, selector: {a: b}, ports: [{name: a, port: 80}, {name: b, port: 81}]}}": "map[services:1 services.nodeports:2]",
	} {
		item, _ := compiled(t, render.Environment{Name: "dev"}, manifest)
		if got := fmt.Sprint(item.Uses); got != want {
			t.Errorf("%s takes %s, want %s", manifest, got, want)
		}
	}
}

// TestFeature_V5_QuotaOfInitContainers: containers and sidecars run together, an init container beside the sidecars before it.
func TestFeature_V5_QuotaOfInitContainers(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	spec := func(text string) (s corev1.PodSpec) {
		for f := range strings.FieldsSeq(text) {
			c := corev1.Container{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse(f[1:])}}}
			switch f[0] {
			case 's':
				c.RestartPolicy = &always
				fallthrough
			case 'i':
				s.InitContainers = append(s.InitContainers, c)
			default:
				s.Containers = append(s.Containers, c)
			}
		}
		return s
	}
	for text, want := range map[string]int64{
		"c100m c200m":           300,
		"i500m c100m c200m":     500,
		"i500m i600m c100m":     600,
		"s50m i500m c100m":      550,
		"i500m s50m c100m":      500,
		"i100m s50m s60m c100m": 210,
		"s300m i10m c100m":      400,
		"s1 i2 s3 i4 c1":        8000,
		"c9E c9E c9E":           3 << 50,
	} {
		s := spec(text)
		for _, limits := range []bool{true, false} {
			if got := together(&s, "cpu", limits); got != want {
				t.Errorf("%s: %d, want %d", text, got, want)
			}
		}
	}
	s := spec("c9E")
	if got := usesOfPods(&s, math.MaxInt32)["limits.cpu"]; got != huge {
		t.Errorf("a sum overflows: %d", got)
	}
	if plus(huge, huge) != huge || times(huge, 2) != huge || times(3, 0) != 0 {
		t.Error("sums do not end")
	}
}

// TestFeature_V5_QuotaDemandsResources: with a quota of what containers take, each must say how much that is, by Kubernetes' rule.
func TestFeature_V5_QuotaDemandsResources(t *testing.T) {
	env := render.Environment{Name: "dev", Quota: map[string]string{"requests.cpu": "1", "limits.memory": "1Gi", "pods": "9"}}
	const says = "limits: {memory: 1Mi}, requests: {cpu: 1m}"
	for kind, manifest := range kindsOfPods {
		if got := problemsOf(t, env, fmt.Sprintf(manifest, "", says)); got != "" {
			t.Errorf("%s: %s", kind, got)
		}
		if got := problemsOf(t, env, fmt.Sprintf(manifest, "", "limits: {memory: 1Mi, cpu: 1}")); got != "" {
			t.Errorf("%s whose limit is its request: %s", kind, got)
		}
		if got := problemsOf(t, render.Environment{Name: "dev", Quota: map[string]string{"pods": "1"}}, fmt.Sprintf(manifest, "", "")); got != "" {
			t.Errorf("%s with a quota of pods alone: %s", kind, got)
		}
		first := "initContainers: [{name: first, image: i, resources: {limits: {memory: 1Mi}}}],"
		got := problemsOf(t, env, fmt.Sprintf(manifest, first, "requests: {cpu: 1m, memory: 1Mi}"))
		for _, want := range []string{
			".spec.initContainers[0].resources: quota: container first must say requests.cpu, of which environment dev has a quota",
			".spec.containers[0].resources: quota: container c must say limits.memory, of which environment dev has a quota",
		} {
			if kind == "Pod" {
				want = strings.TrimPrefix(want, ".")
			}
			if !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
				t.Errorf("%s:\n%s\nwant\n%s", kind, got, want)
			}
		}
	}
}

// A quota that cannot be read is no quota of nothing, and none of everything: it is told.
func TestQuotaThatIsNone(t *testing.T) {
	built, err := Build(render.Environment{Name: "dev", Quota: map[string]string{"pods": "1e-99999999"}}, nil, nil, blobs{})
	if err != nil || len(built.Over) != 1 || !strings.Contains(built.Over[0].String(), `environments.dev.quota.pods: Invalid value`) {
		t.Errorf("%v %v", built.Over, err)
	}
}

// withinLimits checks what holds for whatever is compiled for an environment with nodes and a quota: all pods are told the nodes, and what is not over
// the quota is within it.
func withinLimits(t *testing.T, in render.App) {
	t.Helper()
	env := render.Environment{Name: "dev", Nodes: map[string]string{"pool": "blue"}, Quota: map[string]string{"pods": "3", "requests.cpu": "1", "limits.memory": "1Gi", "services.nodeports": "1"}}
	store := blobs{}
	a := store.compile(t, env, in)
	built, err := Build(env, []App{a}, nil, store)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range a.Items {
		obj, err := Object(store, it.Digest)
		if err != nil {
			t.Fatal(err)
		}
		template := PodTemplate(obj)
		if template == nil {
			continue
		}
		if template.Spec.NodeSelector["pool"] != "blue" {
			t.Errorf("%s runs on %v", it.Key, template.Spec.NodeSelector)
		}
		uses := it.Uses
		over := uses["pods"] > 3 || uses["requests.cpu"] > 1000 || uses["limits.memory"] > 1<<30
		if over != (len(built.Over) > 0) || uses["pods"] < 0 || uses["requests.cpu"] < 0 || uses["limits.memory"] < 0 {
			t.Errorf("%s uses %v, and over the quota is %v", it.Key, uses, built.Over)
		}
	}
}
