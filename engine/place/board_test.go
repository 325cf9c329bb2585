package place

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// town is six nodes in three zones: a1, a2, b1, b2, c1, c2.
func town(change func(*Node)) []*Node {
	var nodes []*Node
	for _, id := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
		nodes = append(nodes, node(id, func(n *Node) {
			n.Zone, n.Arch = id[:1], "amd64"
			if change != nil {
				change(n)
			}
		}))
	}
	return nodes
}

// kindOf reads labels "a=b,c=d" and a spec in YAML.
func kindOf(t testing.TB, labels, spec string) *Kind {
	t.Helper()
	p := Pod{Namespace: "default", Labels: map[string]string{}, Spec: &corev1.PodSpec{}, Requests: Resources{MilliCPU: 100, Memory: 64 << 20}}
	for l := range strings.SplitSeq(labels, ",") {
		k, v, _ := strings.Cut(l, "=")
		p.Labels[k] = v
	}
	if err := yaml.UnmarshalStrict([]byte(spec), p.Spec); err != nil {
		t.Fatal(err)
	}
	return KindOf(p)
}

func TestPlace(t *testing.T) {
	const (
		mine     = "labelSelector: {matchLabels: {app: web}}"
		apart    = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, " + mine + "}]}}"
		apartBy  = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: topology.kubernetes.io/zone, " + mine + "}]}}"
		withDB   = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: db}}}]}}"
		together = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: topology.kubernetes.io/zone, " + mine + "}]}}"
	)
	label := func(key, value string, ids ...string) func(*Node) {
		return func(n *Node) {
			if slices.Contains(ids, n.Name) {
				n.Labels = map[string]string{key: value}
			}
		}
	}
	taint := func(effect corev1.TaintEffect, ids ...string) func(*Node) {
		return func(n *Node) {
			if slices.Contains(ids, n.Name) {
				n.Taints = []Taint{{"gpu", "yes", effect}}
			}
		}
	}
	for _, c := range []struct {
		name   string
		nodes  func(*Node)
		there  string // seats before: "a1:db" is a pod of app db there
		labels string
		spec   string
		pods   int
		want   string // where pods go, and the reason of the last or why it goes nowhere
	}{
		{"over zones, then nodes", nil, "", "app=web", "", 8, "a1 b1 c1 a2 b2 c2 a1 b1: best of 6 nodes that suit: 2 pods of its owner in its zone, 1 there, 98% free"},
		{"where the most is free", nil, "a1:x a1:x a1:x a1:x b1:x b1:x b1:x", "app=web", "", 3, "a2 b2 c1: best of 6 nodes that suit: 0 pods of its owner in its zone, 0 there, 100% free"},
		{"node selector", label("disk", "ssd", "b2", "c1"), "", "app=web", "nodeSelector: {disk: ssd}", 3, "b2 c1 b2: best of 2 nodes that suit: 1 pods of its owner in its zone, 1 there, 98% free"},
		{"a node selector of standard labels", nil, "", "app=web", "nodeSelector: {kubernetes.io/hostname: c2, kubernetes.io/os: linux, kubernetes.io/arch: amd64, topology.kubernetes.io/zone: c}", 1, "c2: the only one of 6 nodes that suits"},
		{"a node selector for nothing", nil, "", "app=web", "nodeSelector: {disk: ssd}", 1, "-: 0/6 nodes: 6 node selector disk=ssd does not match"},
		{"Gt", label("cores", "16", "b2"), "", "app=web", `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: cores, operator: Gt, values: ["8"]}]}]}}}`, 1, "b2: the only one of 6 nodes that suits"},
		{"Lt, of what is no number", label("cores", "many", "b2"), "", "app=web", `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: cores, operator: Lt, values: ["8"]}]}]}}}`, 1, "-: 0/6 nodes: 6 node affinity cores<8 does not match"},
		{"one of two terms", label("cores", "16", "b2"), "", "app=web", `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: cores, operator: Exists}]}, {matchFields: [{key: metadata.name, operator: In, values: [c1]}]}]}}}`, 2, "b2 c1: best of 2 nodes that suit: 0 pods of its owner in its zone, 0 there, 100% free"},
		{"a term without a demand takes nothing", nil, "", "app=web", `affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{}]}}}`, 1, "-: 0/6 nodes: 6 node affinity (no demand) does not match"},
		{"preferred before spread", nil, "", "app=web", `affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: topology.kubernetes.io/zone, operator: In, values: [b]}]}}]}}`, 3, "b1 b2 b1: best of 6 nodes that suit: 2 pods of its owner in its zone, 1 there, 98% free"},
		{"taint", taint("NoSchedule", "a1", "b1", "c1"), "", "app=web", "", 3, "a2 b2 c2: best of 3 nodes that suit: 0 pods of its owner in its zone, 0 there, 100% free"},
		{"taints everywhere", taint("NoExecute", "a1", "b1", "c1", "a2", "b2", "c2"), "", "app=web", "tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]", 1, "-: 0/6 nodes: 6 taint gpu=yes:NoExecute is not tolerated"},
		{"tolerated", taint("NoExecute", "a1", "b1", "c1", "a2", "b2", "c2"), "", "app=web", "tolerations: [{key: gpu, value: 'yes'}]", 1, "a1: best of 6 nodes that suit: 0 pods of its owner in its zone, 0 there, 100% free"},
		{"tolerated with another value", taint("NoSchedule", "a1", "b1", "c1", "a2", "b2", "c2"), "", "app=web", "tolerations: [{key: gpu, value: 'no'}]", 1, "-: 0/6 nodes: 6 taint gpu=yes:NoSchedule is not tolerated"},
		{"PreferNoSchedule", taint("PreferNoSchedule", "a1", "b1", "c1", "a2", "b2"), "", "app=web", "", 2, "c2 c2: best of 6 nodes that suit: 1 pods of its owner in its zone, 1 there, 98% free"},
		{"apart", nil, "", "app=web", apart, 7, "a1 b1 c1 a2 b2 c2 -: 0/6 nodes: 6 anti-affinity by kubernetes.io/hostname"},
		{"apart by zone", nil, "", "app=web", apartBy, 4, "a1 b1 c1 -: 0/6 nodes: 6 anti-affinity by topology.kubernetes.io/zone"},
		{"apart from others that say nothing", nil, "a1:web b2:web", "app=web", apartBy, 2, "c1 -: 0/6 nodes: 6 anti-affinity by topology.kubernetes.io/zone"},
		{"with another", nil, "b2:db", "app=web", withDB, 3, "b1 b2 b1: best of 2 nodes that suit: 2 pods of its owner in its zone, 1 there, 98% free"},
		{"with another that is not there", nil, "", "app=web", withDB, 1, "-: 0/6 nodes: 6 affinity by topology.kubernetes.io/zone"},
		{"with each other: the first goes anywhere", nil, "a1:x", "app=web", together, 3, "a2 a1 a2: best of 2 nodes that suit: 2 pods of its owner in its zone, 1 there, 98% free"},
		{"near is better", nil, "c2:db", "app=web", "affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: db}}}}]}}", 2, "c2 c2: best of 6 nodes that suit: 1 pods of its owner in its zone, 1 there, 95% free"},
		{"far is better", nil, "a1:db b1:db", "app=web", "affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 9, podAffinityTerm: {topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: db}}}}]}}", 3, "c1 c2 c1: best of 6 nodes that suit: 2 pods of its owner in its zone, 1 there, 98% free"},
		{"evenly over zones of which one is full", func(n *Node) {
			if n.Zone == "c" {
				n.Capacity.Pods = 1
			}
		}, "c1:x c2:x", "app=web", "topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, " + mine + "}]", 3, "a1 b1 -: 0/6 nodes: 2 too many pods; 4 uneven spread over topology.kubernetes.io/zone"},
		{"a zone that is down holds nothing back", func(n *Node) { n.Down = n.Zone == "c" }, "", "app=web", "topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, " + mine + "}]", 4, "a1 b1 a2 b2: best of 2 nodes that suit: 1 pods of its owner in its zone, 0 there, 100% free"},
		{"no more zones than there are", nil, "", "app=web", "topologySpreadConstraints: [{maxSkew: 1, minDomains: 4, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, " + mine + "}]", 4, "a1 b1 c1 -: 0/6 nodes: 6 uneven spread over topology.kubernetes.io/zone"},
		{"over a label that not all have", label("rack", "1", "b1", "b2"), "", "app=web", "topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule, " + mine + "}]", 2, "b1 b2: best of 2 nodes that suit: 1 pods of its owner in its zone, 0 there, 100% free"},
		{"if it can be", nil, "a1:web a2:web b1:web", "app=web", "topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, " + mine + "}]", 3, "c1 b2 c2: best of 6 nodes that suit: 1 pods of its owner in its zone, 0 there, 100% free"},
		{"unsteady nodes are the last resort, that with the least doubt first", func(n *Node) { n.Down, n.Unsteady, n.Doubt = n.Zone == "a", n.Zone != "a", 2+int(n.Name[1]-'1') }, "", "app=web", "", 3, "b1 c1 b1: unsteady; nothing steadier suits: best of 2 nodes that suit: 1 pods of its owner in its zone, 1 there, 98% free"},
		{"a steady node before one with more room", func(n *Node) { n.Unsteady, n.Doubt = n.Name != "b2", 1 }, "b2:x b2:x", "app=web", "", 2, "b2 b2: the only one of 6 nodes that suits"},
		{"one unsteady node is left", func(n *Node) { n.Unsteady, n.Doubt = n.Name == "b2", 9; n.Cordoned = n.Name != "b2" }, "", "app=web", "", 1, "b2: unsteady; nothing steadier suits"},
		{"spread over unsteady zones too, once the steady one has its share", func(n *Node) { n.Unsteady, n.Doubt = n.Zone != "a", 1; n.Down = n.Name == "a2" }, "", "app=web", apart + "\ntopologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, " + mine + "}]", 4, "a1 b1 c1 b2: unsteady; nothing steadier suits: best of 2 nodes that suit: 1 pods of its owner in its zone, 0 there, 100% free"},
		{"nothing suits, and every node says why", func(n *Node) { n.Unsteady, n.Doubt = n.Zone != "a", int(n.Name[1]-'1') }, "b2:web c2:web a1:web a2:web", "app=web", apart, 1, "-: 0/6 nodes: 4 anti-affinity by kubernetes.io/hostname; 2 unsteady"},
		{"cordoned and down", func(n *Node) { n.Cordoned, n.Down, n.Unsteady = n.Zone == "a", n.Zone == "b", n.Zone == "c" }, "", "app=web", "", 1, "-: 0/6 nodes: 2 cordoned; 2 down; 2 unsteady"},
		{"cordons tolerated", func(n *Node) { n.Cordoned = true }, "", "app=web", "tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}]", 1, "a1: best of 6 nodes that suit: 0 pods of its owner in its zone, 0 there, 100% free"},
		{"no room", func(n *Node) { n.Capacity.MilliCPU = 150 }, "a1:x a2:x b1:x b2:x c1:x", "app=web", "", 2, "c2 -: 0/6 nodes: 6 insufficient cpu"},
	} {
		b := NewBoard(slices.Values(town(c.nodes)))
		for s := range strings.FieldsSeq(c.there) {
			at, app, _ := strings.Cut(s, ":")
			b.Add(Seat{Node: NodeID(at), Kind: kindOf(t, "app="+app, ""), Owner: "other"})
		}
		k := kindOf(t, c.labels, c.spec)
		var got []string
		reason := ""
		for range c.pods {
			v := b.Place(k, "web")
			if reason = v.Reason; v.Node == "" {
				got = append(got, "-")
				continue
			}
			got = append(got, string(v.Node))
			b.Add(Seat{Node: v.Node, Kind: k, Owner: "web"})
		}
		if s := strings.Join(got, " ") + ": " + reason; s != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.name, s, c.want)
		}
	}
}

// What is there may not want a newcomer near.
func TestAntiAffinityHoldsBothWays(t *testing.T) {
	b := NewBoard(slices.Values(town(nil)))
	shy := kindOf(t, "app=db", "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: web}}}]}}")
	seats := []Seat{{Node: "a1", Kind: shy, Owner: "db"}, {Node: "b1", Kind: shy, Owner: "db"}, {Node: "c2", Kind: shy, Owner: "db", Leaving: true}}
	for _, s := range seats {
		b.Add(s)
	}
	web := kindOf(t, "app=web", "")
	if v := b.Place(web, "web"); v.Node != "" || v.Reason != "0/6 nodes: 6 anti-affinity of a pod that is there, by topology.kubernetes.io/zone" {
		t.Errorf("%+v", v)
	}
	b.Remove(seats[1])
	if v := b.Place(web, "web"); v.Node != "b1" {
		t.Errorf("%+v", v)
	}
}

func TestPlaceAmong(t *testing.T) {
	b := NewBoard(slices.Values(town(func(n *Node) { n.Down = n.Name == "a2" })))
	k := kindOf(t, "app=web", "")
	for _, c := range []struct {
		among []NodeID
		want  string
	}{
		{[]NodeID{"c2"}, "c2 the only one of 6 nodes that suits"},
		{[]NodeID{"c2", "b2"}, "b2 best of 2 nodes that suit: 0 pods of its owner in its zone, 0 there, 100% free"},
		{[]NodeID{"a2", "gone"}, " 0/6 nodes: 1 down; 5 not a node it is bound to"},
	} {
		v := b.PlaceAmong(k, "web", c.among)
		if got := string(v.Node) + " " + v.Reason; got != c.want {
			t.Errorf("%v: %s, want %s", c.among, got, c.want)
		}
	}
}

func TestPortsAndArchitectures(t *testing.T) {
	nodes := town(func(n *Node) {
		if n.Name > "a2" {
			n.Arch = "arm64"
		}
	})
	b := NewBoard(slices.Values(nodes))
	k := KindOf(Pod{Namespace: "default", HostPorts: []string{"tcp:80"}, Archs: []string{"amd64"}})
	for _, want := range []string{"a1", "a2", ""} {
		v := b.Place(k, "web")
		if string(v.Node) != want {
			t.Fatalf("%+v, want %q", v, want)
		}
		if want == "" {
			if v.Reason != "0/6 nodes: 2 host port is taken: tcp:80; 4 its image is not for arm64" {
				t.Error(v.Reason)
			}
			continue
		}
		b.Add(Seat{Node: v.Node, Kind: k, Owner: "web"})
	}
	b.Remove(Seat{Node: "a2", Kind: k, Owner: "web"})
	if v := b.Place(k, "web"); v.Node != "a2" {
		t.Errorf("%+v", v)
	}
}

func TestMark(t *testing.T) {
	nodes := town(nil)
	b := NewBoard(slices.Values(nodes))
	for _, c := range []struct {
		change func(*Node)
		taken  bool
	}{
		{func(n *Node) { n.Down = true }, true},
		{func(n *Node) { n.Cordoned = true }, true},
		{func(n *Node) { n.Labels = map[string]string{"a": "b"} }, false},
		{func(n *Node) { n.Zone = "z" }, false},
		{func(n *Node) { n.Capacity.Pods++ }, false},
		{func(n *Node) { n.Taints = []Taint{{Key: "x"}} }, false},
		{func(n *Node) { n.ID = "other" }, false},
	} {
		n := *nodes[0]
		c.change(&n)
		if got := b.Mark(&n); got != c.taken {
			t.Errorf("%+v: %t", n, got)
		}
	}
}

func TestStays(t *testing.T) {
	no := Taint{"gone", "", corev1.TaintEffectNoExecute}
	for _, c := range []struct {
		tolerations string
		taints      []Taint
		want        string
	}{
		{"", nil, "true 0"},
		{"", []Taint{{"x", "", corev1.TaintEffectNoSchedule}}, "true 0"},
		{"", []Taint{no}, "false 0"},
		{"tolerations: [{key: gone, operator: Exists}]", []Taint{no}, "true 0"},
		{"tolerations: [{key: gone, operator: Exists, tolerationSeconds: 30}, {operator: Exists, tolerationSeconds: 60}]", []Taint{no}, "false 30"},
		{"tolerations: [{key: gone, operator: Exists, tolerationSeconds: 30}]", []Taint{no, {"x", "", corev1.TaintEffectNoExecute}}, "false 0"},
		{"tolerations: [{key: gone, operator: Exists, tolerationSeconds: 30}, {key: x, operator: Exists, tolerationSeconds: 5}]", []Taint{no, {"x", "", corev1.TaintEffectNoExecute}}, "false 5"},
	} {
		forever, seconds := kindOf(t, "a=b", c.tolerations).Stays(c.taints)
		if got := fmt.Sprint(forever, " ", seconds); got != c.want {
			t.Errorf("%s, %v: %s, want %s", c.tolerations, c.taints, got, c.want)
		}
	}
}

func TestAllLabels(t *testing.T) {
	n := node("n1", func(n *Node) {
		n.Arch, n.Zone = "arm64", "a"
		n.Labels = map[string]string{"kubernetes.io/hostname": "liar", "topology.kubernetes.io/region": "eu", "disk": "ssd"}
	})
	want := "map[disk:ssd kubernetes.io/arch:arm64 kubernetes.io/hostname:n1 kubernetes.io/os:linux topology.kubernetes.io/region:eu topology.kubernetes.io/zone:a]"
	if got := fmt.Sprint(n.AllLabels()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for k, v := range n.AllLabels() {
		if got, ok := n.label(k); !ok || got != v {
			t.Errorf("label %s is %q", k, got)
		}
	}
}
