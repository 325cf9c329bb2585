package place

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestRoom is what a node has too little of, on a board of that node alone.
func TestRoom(t *testing.T) {
	for _, c := range []struct {
		name       string
		asks, used Resources
		want       string
	}{
		{"memory", Resources{Memory: 2 << 30}, Resources{Memory: 8<<30 - 512<<20}, ": 0/1 nodes: insufficient memory: asks 2Gi, 512Mi free"},
		{"cpu", Resources{MilliCPU: 1500}, Resources{MilliCPU: 3000}, ": 0/1 nodes: insufficient cpu: asks 1500m, 1 free"},
		{"disk", Resources{Ephemeral: 11 << 30}, Resources{}, ": 0/1 nodes: insufficient ephemeral storage: asks 11Gi, 10Gi free"},
		{"to the last byte", Resources{Memory: 8 << 30, MilliCPU: 4000}, Resources{}, "a: the only node"},
		{"to the last of what is left", Resources{Memory: 2 << 30, MilliCPU: 1000}, Resources{Memory: 6 << 30, MilliCPU: 3000}, "a: the only node"},
	} {
		n := node("a", nil)
		b := NewBoard(func(yield func(*Node) bool) { yield(n) })
		b.Add(Seat{Node: "a", Kind: KindOf(Pod{Requests: c.used})})
		v := b.Place(KindOf(Pod{Requests: c.asks}), "owner")
		if got := fmt.Sprintf("%s: %s", v.Node, v.Reason); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestRequestsOf(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	c := func(cpu, memory string) corev1.Container {
		return corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}}}
	}
	sidecar := func(cpu, memory string) corev1.Container {
		s := c(cpu, memory)
		s.RestartPolicy = &always
		return s
	}
	for _, tc := range []struct {
		name string
		spec corev1.PodSpec
		want Resources
	}{
		{"nothing", corev1.PodSpec{Containers: []corev1.Container{{}}}, Resources{}},
		{"together", corev1.PodSpec{Containers: []corev1.Container{c("100m", "1Mi"), c("50m", "2Mi")}}, Resources{MilliCPU: 150, Memory: 3 << 20}},
		{"the larger of init and main, each resource by itself", corev1.PodSpec{
			InitContainers: []corev1.Container{c("500m", "1Mi"), c("100m", "2Mi")}, Containers: []corev1.Container{c("100m", "5Mi")},
		}, Resources{MilliCPU: 500, Memory: 5 << 20}},
		{"sidecars run with those after them", corev1.PodSpec{
			InitContainers: []corev1.Container{c("300m", "1Mi"), sidecar("100m", "1Mi"), c("250m", "1Mi")}, Containers: []corev1.Container{c("200m", "1Mi")},
		}, Resources{MilliCPU: 350, Memory: 2 << 20}},
		{"overhead", corev1.PodSpec{Containers: []corev1.Container{c("1", "1Mi")}, Overhead: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}}, Resources{MilliCPU: 1010, Memory: 1 << 20}},
		{"absurd", corev1.PodSpec{Containers: []corev1.Container{c("9223372036854775807", "8Ei"), c("9223372036854775807", "8Ei")}}, Resources{MilliCPU: 2 << 50, Memory: 2 << 50}},
	} {
		if got := RequestsOf(&tc.spec); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func node(id string, change func(*Node)) *Node {
	n := &Node{ID: NodeID(id), Name: id, Capacity: Resources{MilliCPU: 4000, Memory: 8 << 30, Ephemeral: 10 << 30, Pods: 110}}
	if change != nil {
		change(n)
	}
	return n
}
