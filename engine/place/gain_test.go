package place

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestGain(t *testing.T) {
	roomy := func(n *Node) { n.Capacity = Resources{MilliCPU: 1600, Memory: 8 << 30, Pods: 100} }
	for _, c := range []struct {
		name  string
		nodes func(*Node)
		there string // seats of others: "a1:db"; of its owner: "a1:web"
		spec  string
		from  NodeID
		to    NodeID
		want  string // "" for none
	}{
		{"all alike", nil, "", "", "a1", "b1", ""},
		{"another zone has fewer of its owner", nil, "a2:web", "", "a1", "b1", "1 other of its owner in its zone, 0 there"},
		{"another node has", nil, "a1:web b1:web", "", "a1", "a2", "1 other of its owner on its node, 0 there"},
		{"a node with fewer in a zone with more", nil, "a1:web b2:web b2:web", "", "a1", "b1", ""},
		{"clearly freer", roomy, "a1:x a1:x", "", "a1", "b1", "18% of its node is taken, and 6% there with it"},
		{"not clearly freer", func(n *Node) { roomy(n); n.Capacity.MilliCPU = 3000 }, "a1:x", "", "a1", "b1", ""},
		{"freer, but for one more of its owner", roomy, "a1:x a1:x a1:x a1:x b1:web", "", "a1", "b1", ""},
		{"off an unsteady node", func(n *Node) { n.Unsteady, n.Doubt = n.Name == "a1", 2 }, "b1:web", "", "a1", "b1", "its node is unsteady"},
		{"to an unsteady node", func(n *Node) { n.Unsteady, n.Doubt = n.Name == "b1", 2 }, "a1:web", "", "a1", "b1", ""},
		{"from a node that is down", func(n *Node) { n.Down = n.Name == "a1" }, "a1:web", "", "a1", "b1", ""},
		{"off a taint", func(n *Node) {
			if n.Name == "a1" {
				n.Taints = []Taint{{"old", "", corev1.TaintEffectNoSchedule}}
			}
		}, "b1:web", "", "a1", "b1", "taint old:NoSchedule is not tolerated"},
		{"a cordon is no reason", func(n *Node) { n.Cordoned = n.Name == "a1" }, "", "", "a1", "b1", ""},
		{"preferred", func(n *Node) { n.Labels = map[string]string{"disk": map[string]string{"b1": "ssd"}[n.Name]} }, "b1:web", "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}}]}}", "a1", "b1", "the node is preferred"},
		{"away from those it likes", nil, "a1:db a1:web", "affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: db}}}}]}}", "a1", "b1", ""},
		{"towards those it likes", nil, "b1:db", "affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: db}}}}]}}", "a1", "b1", ""},
		{"to where it stands", nil, "", "", "a1", "a1", ""},
		{"to a node that is not known", nil, "", "", "a1", "z1", ""},
	} {
		b := NewBoard(slices.Values(town(c.nodes)))
		for s := range strings.FieldsSeq(c.there) {
			at, app, _ := strings.Cut(s, ":")
			b.Add(Seat{Node: NodeID(at), Kind: kindOf(t, "app="+app, ""), Owner: app})
		}
		what, ok := b.Gain(kindOf(t, "app=web", c.spec), "web", c.from, c.to)
		if !ok {
			what = ""
		}
		if what != c.want {
			t.Errorf("%s: got %q, want %q", c.name, what, c.want)
		}
	}
}
