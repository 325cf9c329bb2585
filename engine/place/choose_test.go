package place

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func node(id string, change func(*Node)) *Node {
	n := &Node{ID: NodeID(id), Name: id, Capacity: Resources{MilliCPU: 4000, Memory: 8 << 30, Ephemeral: 10 << 30, Pods: 110}}
	if change != nil {
		change(n)
	}
	return n
}

func free(string) string { return "" }

func TestChoose(t *testing.T) {
	small := Resources{MilliCPU: 100, Memory: 64 << 20}
	for _, c := range []struct {
		name  string
		ask   Ask
		nodes []Candidate
		want  string
	}{
		{"no node", Ask{}, nil, ": 0/0 nodes: no node has joined"},
		{"the only one", Ask{Requests: small}, []Candidate{{Node: node("a", nil)}}, "a: the only node"},
		{
			"memory",
			Ask{Requests: Resources{Memory: 2 << 30}},
			[]Candidate{{Node: node("a", nil), Used: Resources{Memory: 8<<30 - 512<<20}}},
			": 0/1 nodes: insufficient memory: asks 2Gi, 512Mi free",
		},
		{"cpu", Ask{Requests: Resources{MilliCPU: 1500}}, []Candidate{{Node: node("a", nil), Used: Resources{MilliCPU: 3000}}}, ": 0/1 nodes: insufficient cpu: asks 1500m, 1 free"},
		{"disk", Ask{Requests: Resources{Ephemeral: 11 << 30}}, []Candidate{{Node: node("a", nil)}}, ": 0/1 nodes: insufficient ephemeral storage: asks 11Gi, 10Gi free"},
		{"pods", Ask{}, []Candidate{{Node: node("a", nil), Used: Resources{Pods: 110}}}, ": 0/1 nodes: too many pods: 110 of 110"},
		{"to the last byte", Ask{Requests: Resources{Memory: 8 << 30, MilliCPU: 4000}}, []Candidate{{Node: node("a", nil)}}, "a: the only node"},
		{"several reasons", Ask{Requests: Resources{MilliCPU: 5000}, Selector: map[string]string{"disk": "ssd"}}, []Candidate{
			{Node: node("a", func(n *Node) { n.Down = true })},
			{Node: node("b", func(n *Node) { n.Cordoned = true })},
			{Node: node("c", nil)},
			{Node: node("d", func(n *Node) { n.Labels = map[string]string{"disk": "ssd"} })},
		}, ": 0/4 nodes: 1 cordoned; 1 down; 1 insufficient cpu: asks 5, 4 free; 1 node selector disk=ssd does not match"},
		{
			"host port",
			Ask{HostPorts: []string{"tcp:80"}},
			[]Candidate{{Node: node("a", nil), PortTaken: func(p string) string { return "dev/" + p }}},
			": 0/1 nodes: host port tcp:80 is taken: by dev/tcp:80",
		},
		{
			"spread before room",
			Ask{Requests: small},
			[]Candidate{{Node: node("a", nil), Siblings: 1}, {Node: node("b", nil), Used: Resources{MilliCPU: 3000}}},
			"b: best of 2 fitting nodes: 0 pods of its owner there, 22% left free",
		},
		{"room", Ask{Requests: small}, []Candidate{{Node: node("a", nil), Used: Resources{MilliCPU: 1000}}, {Node: node("b", nil)}}, "b: best of 2 fitting nodes: 0 pods of its owner there, 97% left free"},
		{"name", Ask{Requests: small}, []Candidate{{Node: node("b", nil)}, {Node: node("a", nil)}}, "a: best of 2 fitting nodes: 0 pods of its owner there, 97% left free"},
		{"bound", Ask{Node: "b"}, []Candidate{{Node: node("a", nil)}, {Node: node("b", nil)}}, "b: the only one of 2 nodes that fits"},
	} {
		for i := range c.nodes {
			if c.nodes[i].PortTaken == nil {
				c.nodes[i].PortTaken = free
			}
		}
		v := Choose(c.ask, slices.Values(c.nodes))
		if got := fmt.Sprintf("%s: %s", v.Node, v.Reason); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestChooseAnyOrder shows that the order of the nodes does not matter, and that no node is overfull.
func TestChooseAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var nodes []Candidate
		for i := range 1 + rng.IntN(8) {
			used := Resources{MilliCPU: rng.Int64N(4001), Memory: rng.Int64N(8<<30 + 1), Pods: rng.Int64N(111)}
			nodes = append(nodes, Candidate{Node: node(fmt.Sprint("n", i), nil), Used: used, Siblings: rng.IntN(3), PortTaken: free})
		}
		ask := Ask{Requests: Resources{MilliCPU: rng.Int64N(3000), Memory: rng.Int64N(6 << 30)}}
		want := Choose(ask, slices.Values(nodes))
		for range 5 {
			rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
			if got := Choose(ask, slices.Values(nodes)); got.Node != want.Node || want.Node != "" && got.Reason != want.Reason {
				t.Fatalf("%+v, and in another order %+v", want, got)
			}
		}
		for _, c := range nodes {
			u := c.Used.Plus(ask.Requests, 1)
			fits := u.MilliCPU <= 4000 && u.Memory <= 8<<30 && u.Pods+1 <= 110
			if c.Node.ID == want.Node && !fits || want.Node == "" && fits {
				t.Fatalf("%+v of %+v: %+v", want, ask, c.Used)
			}
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

// BenchmarkChoose is one pod on 5,000 nodes.
func BenchmarkChoose(b *testing.B) {
	var nodes []Candidate
	for i := range 5000 {
		nodes = append(nodes, Candidate{Node: node(fmt.Sprintf("n%04d", i), nil), Used: Resources{MilliCPU: int64(i % 3900)}, PortTaken: free})
	}
	ask := Ask{Requests: Resources{MilliCPU: 100, Memory: 64 << 20}}
	for b.Loop() {
		Choose(ask, slices.Values(nodes))
	}
}
