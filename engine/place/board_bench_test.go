package place

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fleet is n nodes in three zones; a tenth of them has a taint, a third disks of another sort, a quarter is larger.
func fleet(n int) []*Node {
	nodes := make([]*Node, n)
	for i := range nodes {
		nodes[i] = node(fmt.Sprintf("n%05d", i), func(n *Node) {
			n.Zone = string(rune('a' + i%3))
			n.Capacity = Resources{MilliCPU: 16_000, Memory: 64 << 30, Ephemeral: 100 << 30, Pods: 110}
			if i%4 == 0 {
				n.Capacity = Resources{MilliCPU: 32_000, Memory: 128 << 30, Ephemeral: 100 << 30, Pods: 250}
			}
			n.Labels = map[string]string{"disk": []string{"ssd", "nvme", "none"}[i/7%3]}
			if i%10 == 0 {
				n.Taints = []Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
			}
		})
	}
	return nodes
}

// order is one owner's wish for so many pods.
type order struct {
	kind  *Kind
	owner string
	pods  int
}

// orders makes pods, a hundred an owner: one in four wants its pods apart, one in eight spread over zones, one in five a
// sort of disk, one in ten tolerates the taint.
func orders(pods int) []order {
	var out []order
	for o := 0; pods > 0; o++ {
		name := fmt.Sprintf("app-%05d", o)
		labels := map[string]string{"app": name}
		mine := &metav1.LabelSelector{MatchLabels: labels}
		spec := &corev1.PodSpec{}
		if o%4 == 1 {
			spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{TopologyKey: corev1.LabelHostname, LabelSelector: mine},
			}}}
		}
		if o%8 == 2 {
			spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: mine}}
		}
		if o%5 == 3 {
			spec.NodeSelector = map[string]string{"disk": "ssd"}
		}
		if o%10 == 4 {
			spec.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}
		}
		n := min(100, pods)
		pods -= n
		asks := Resources{MilliCPU: int64(100 + o%7*50), Memory: int64(128+o%5*128) << 20}
		out = append(out, order{KindOf(Pod{Namespace: "default", Labels: labels, Spec: spec, Requests: asks}), name, n})
	}
	return out
}

func fill(tb testing.TB, b *Board, all []order) (seats []Seat) {
	n := 0
	for _, o := range all {
		n += o.pods
	}
	seats = make([]Seat, 0, n)
	for _, o := range all {
		for range o.pods {
			v := b.Place(o.kind, o.owner)
			if v.Node == "" {
				tb.Fatal(v.Reason)
			}
			s := Seat{Node: v.Node, Kind: o.kind, Owner: o.owner}
			b.Add(s)
			seats = append(seats, s)
		}
	}
	return seats
}

// BenchmarkPlaceAll is 100,000 pods on 5,000 nodes, from nothing: the goal is 100 ms.
func BenchmarkPlaceAll(b *testing.B) {
	nodes, all := fleet(5000), orders(100_000)
	b.ReportAllocs()
	for b.Loop() {
		fill(b, NewBoard(slices.Values(nodes)), all)
	}
}

// BenchmarkPlaceSmall is 100 pods on 3 nodes, from nothing.
func BenchmarkPlaceSmall(b *testing.B) {
	nodes, all := fleet(3), orders(100)
	for b.Loop() {
		fill(b, NewBoard(slices.Values(nodes)), all)
	}
}

// BenchmarkRebuild makes the board of 100,000 pods that have their nodes, as after a restart.
func BenchmarkRebuild(b *testing.B) {
	nodes := fleet(5000)
	seats := fill(b, NewBoard(slices.Values(nodes)), orders(100_000))
	for b.Loop() {
		board := NewBoard(slices.Values(nodes))
		for _, s := range seats {
			board.Add(s)
		}
	}
}

// BenchmarkLostNode is a node lost with its pods, among 5,000 with 100,000: the goal is 1 ms.
func BenchmarkLostNode(b *testing.B) {
	nodes := fleet(5000)
	board := NewBoard(slices.Values(nodes))
	seats := fill(b, board, orders(100_000))
	byNode := make(map[NodeID][]Seat)
	for _, s := range seats {
		byNode[s.Node] = append(byNode[s.Node], s)
	}
	i, moved := 0, 0
	for b.Loop() {
		lost := *nodes[i*17%len(nodes)]
		lost.Down = true
		board.Mark(&lost)
		gone := byNode[lost.ID]
		var back []Seat
		for _, s := range gone {
			board.Remove(s)
			if v := board.Place(s.Kind, s.Owner); v.Node != "" {
				came := Seat{Node: v.Node, Kind: s.Kind, Owner: s.Owner}
				board.Add(came)
				back = append(back, came)
			}
		}
		moved += len(gone)
		b.StopTimer()
		for j := range back {
			board.Remove(back[j])
		}
		for _, s := range gone {
			board.Add(s)
		}
		board.Mark(nodes[i*17%len(nodes)])
		i++
		b.StartTimer()
	}
	b.ReportMetric(float64(moved)/float64(i), "pods/op")
}

// BenchmarkWeighed places a pod whose preferences need a look at each of 5,000 nodes.
func BenchmarkWeighed(b *testing.B) {
	board := NewBoard(slices.Values(fleet(5000)))
	fill(b, board, orders(20_000))
	labels := map[string]string{"app": "x"}
	k := KindOf(Pod{Namespace: "default", Labels: labels, Spec: &corev1.PodSpec{TopologySpreadConstraints: []corev1.TopologySpreadConstraint{
		{MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: &metav1.LabelSelector{MatchLabels: labels}},
	}}})
	for b.Loop() {
		board.Place(k, "x")
	}
}

// BenchmarkPlaceUnsteady is BenchmarkPlaceAll after a power loss of everything, when no node is relied on.
func BenchmarkPlaceUnsteady(b *testing.B) {
	nodes, all := fleet(5000), orders(100_000)
	for _, n := range nodes {
		n.Unsteady, n.Doubt = true, 1
	}
	for b.Loop() {
		fill(b, NewBoard(slices.Values(nodes)), all)
	}
}
