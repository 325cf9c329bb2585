package place

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// model is the rules of Place as plainly as they can be said: it looks at every node and every pod.
type model struct {
	nodes []*Node
	seats []Seat
}

func (m *model) node(id NodeID) *Node {
	return m.nodes[slices.IndexFunc(m.nodes, func(n *Node) bool { return n.ID == id })]
}

// near counts the pods that a term selects in the domain of n; in is false if n has no such domain.
func (m *model) near(t *podTerm, n *Node) (count int64, in bool) {
	value, in := n.label(t.key)
	for _, s := range m.seats {
		v, ok := m.node(s.Node).label(t.key)
		if ok && v == value && t.matches(s.Kind) && (!s.Leaving || !t.active) {
			count++
		}
	}
	return count, in
}

func (m *model) anywhere(t *podTerm) bool {
	return slices.ContainsFunc(m.nodes, func(n *Node) bool {
		c, in := m.near(t, n)
		return in && c > 0
	})
}

// counts tells whether the domain of n counts for a spread constraint, and least the smallest count there is.
func (m *model) counts(k *Kind, c *spread, n *Node, doubt int) bool {
	if n.doubt() < 0 || n.doubt() > doubt || !c.anyNode && k.affine(n) != "" || c.noTaints && k.untolerated(n) != "" {
		return false
	}
	for i := range k.spreads {
		if o := &k.spreads[i]; o.hard == c.hard {
			if _, there := n.label(o.term.key); !there {
				return false
			}
		}
	}
	return true
}

func (m *model) least(k *Kind, c *spread, doubt int) int64 {
	least, domains := int64(0), map[string]bool{}
	for _, n := range m.nodes {
		if !m.counts(k, c, n, doubt) {
			continue
		}
		count, _ := m.near(&c.term, n)
		if len(domains) == 0 || count < least {
			least = count
		}
		v, _ := n.label(c.term.key)
		domains[v] = true
	}
	if int64(len(domains)) < c.minDomains {
		return 0
	}
	return least
}

func (m *model) used(id NodeID) (used Resources, ports []string) {
	for _, s := range m.seats {
		if s.Node == id {
			used = used.Plus(s.Kind.requests, 1)
			ports = append(ports, s.Kind.ports...)
		}
	}
	return used, ports
}

func (m *model) suits(k *Kind, n *Node, doubt int) bool {
	if n.doubt() != doubt || k.closed(n, false, k.Tolerates(cordon)) != "" {
		return false
	}
	used, ports := m.used(n.ID)
	if room(k.requests, n.Capacity, used).text != "" || slices.ContainsFunc(k.ports, func(p string) bool { return slices.Contains(ports, p) }) {
		return false
	}
	for i := range k.apart {
		if c, in := m.near(&k.apart[i], n); in && c > 0 {
			return false
		}
	}
	for _, s := range m.seats {
		for i := range s.Kind.apart {
			t := &s.Kind.apart[i]
			v, in := n.label(t.key)
			w, there := m.node(s.Node).label(t.key)
			if in && there && v == w && t.matches(k) {
				return false
			}
		}
	}
	first := true
	for i := range k.together {
		first = first && !m.anywhere(&k.together[i]) && k.together[i].matches(k)
	}
	for i := range k.together {
		if c, in := m.near(&k.together[i], n); !in || !first && c == 0 {
			return false
		}
	}
	for i := range k.spreads {
		c := &k.spreads[i]
		count, in := m.near(&c.term, n)
		if c.hard && (!in || count+c.self-m.least(k, c, doubt) > c.maxSkew) {
			return false
		}
	}
	return true
}

func (m *model) place(k *Kind, owner string) NodeID {
	for doubt := range MaxDoubt + 1 {
		if id := m.placeAt(k, owner, doubt); id != "" {
			return id
		}
	}
	return ""
}

func (m *model) placeAt(k *Kind, owner string, doubt int) NodeID {
	type mark struct {
		score, strain, zone, here, level int64
		id                               NodeID
	}
	var best *mark
	for _, n := range m.nodes {
		if !m.suits(k, n, doubt) {
			continue
		}
		x := mark{score: k.score(n), id: n.ID}
		for i := range k.likes {
			c, in := m.near(&k.likes[i].term, n)
			if in {
				x.score += k.likes[i].weight * c
			}
		}
		for i := range k.spreads {
			c := &k.spreads[i]
			if c.hard {
				continue
			}
			if count, in := m.near(&c.term, n); in {
				x.strain += count - m.least(k, &spread{term: c.term, anyNode: c.anyNode, noTaints: c.noTaints}, doubt)
			} else {
				x.strain += unlabelled
			}
		}
		for _, s := range m.seats {
			if s.Owner == owner && !s.Leaving {
				if s.Node == n.ID {
					x.here++
				}
				if m.node(s.Node).zone() == n.zone() {
					x.zone++
				}
			}
		}
		used, _ := m.used(n.ID)
		x.level = int64(level(&n.Capacity, &used))
		if best == nil || cmp.Or(cmp.Compare(best.score, x.score), cmp.Compare(x.strain, best.strain), cmp.Compare(x.zone, best.zone),
			cmp.Compare(x.here, best.here), cmp.Compare(best.level, x.level), cmp.Compare(x.id, best.id)) < 0 {
			best = &x
		}
	}
	if best == nil {
		return ""
	}
	return best.id
}

// dice make nodes and kinds of every sort.
type dice struct{ *rand.Rand }

func (d dice) one(s ...string) string { return s[d.IntN(len(s))] }

func (d dice) node(i int) *Node {
	return node(fmt.Sprintf("n%02d", i), func(n *Node) {
		n.Zone = d.one("", "a", "b", "c")
		n.Arch = d.one("amd64", "amd64", "arm64")
		n.Capacity = Resources{MilliCPU: 1000 + d.Int64N(3)*1000, Memory: 4 << 30, Ephemeral: 10 << 30, Pods: 4 + d.Int64N(10)}
		n.Labels = map[string]string{}
		if d.IntN(3) > 0 {
			n.Labels["disk"] = d.one("ssd", "hdd")
		}
		if d.IntN(3) > 0 {
			n.Labels["rack"] = d.one("1", "2", "3", "4")
		}
		if d.IntN(5) == 0 {
			n.Taints = append(n.Taints, Taint{d.one("gpu", "old"), d.one("", "yes"), corev1.TaintEffect(d.one("NoSchedule", "PreferNoSchedule", "NoExecute"))})
		}
		n.Down, n.Cordoned, n.Unsteady, n.Doubt = d.IntN(10) == 0, d.IntN(10) == 0, d.IntN(6) == 0, d.IntN(MaxDoubt+2)
	})
}

func (d dice) labels() map[string]string {
	return map[string]string{"app": d.one("web", "db", "cache"), "tier": d.one("x", "y")}
}

func (d dice) selector() *metav1.LabelSelector {
	switch d.IntN(4) {
	case 0:
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{d.one("web", "db")}}}}
	case 1:
		return &metav1.LabelSelector{}
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": d.one("web", "db", "cache")}}
}

func (d dice) term() corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: d.one(corev1.LabelHostname, corev1.LabelTopologyZone, "rack", "disk"), LabelSelector: d.selector()}
	switch d.IntN(5) {
	case 0:
		t.NamespaceSelector = &metav1.LabelSelector{}
	case 1:
		t.Namespaces = []string{"default", "other"}
	case 2:
		t.MatchLabelKeys = []string{"tier"}
	}
	return t
}

func (d dice) kind() *Kind {
	spec := &corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}, PodAffinity: &corev1.PodAffinity{}, PodAntiAffinity: &corev1.PodAntiAffinity{}}}
	na, pa, aa := spec.Affinity.NodeAffinity, spec.Affinity.PodAffinity, spec.Affinity.PodAntiAffinity
	if d.IntN(6) == 0 {
		spec.NodeSelector = map[string]string{"disk": "ssd"}
	}
	term := func() corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{
			Key: d.one("rack", "disk"), Operator: corev1.NodeSelectorOperator(d.one("Exists", "DoesNotExist")),
		}, {Key: "rack", Operator: corev1.NodeSelectorOperator(d.one("Gt", "Lt", "NotIn")), Values: []string{d.one("1", "2", "3")}}}}
	}
	if d.IntN(6) == 0 {
		na.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(), term()}}
	}
	if d.IntN(4) == 0 {
		na.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.PreferredSchedulingTerm{{Weight: d.Int32N(100) + 1, Preference: term()}}
	}
	if d.IntN(4) == 0 {
		spec.Tolerations = []corev1.Toleration{{Key: d.one("", "gpu", "old", corev1.TaintNodeUnschedulable), Operator: corev1.TolerationOpExists}}
	}
	if d.IntN(4) == 0 {
		aa.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{d.term()}
	}
	if d.IntN(5) == 0 {
		pa.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{d.term()}
		if d.IntN(2) == 0 {
			pa.RequiredDuringSchedulingIgnoredDuringExecution = append(pa.RequiredDuringSchedulingIgnoredDuringExecution, d.term())
		}
	}
	if d.IntN(5) == 0 {
		pa.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: d.Int32N(100) + 1, PodAffinityTerm: d.term()}}
		aa.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.WeightedPodAffinityTerm{{Weight: d.Int32N(100) + 1, PodAffinityTerm: d.term()}}
	}
	for d.IntN(3) == 0 {
		c := corev1.TopologySpreadConstraint{
			MaxSkew: d.Int32N(2) + 1, TopologyKey: d.one(corev1.LabelHostname, corev1.LabelTopologyZone, "rack"),
			WhenUnsatisfiable: corev1.UnsatisfiableConstraintAction(d.one("DoNotSchedule", "ScheduleAnyway")), LabelSelector: d.selector(),
		}
		if n := d.Int32N(6); n > 2 && c.WhenUnsatisfiable == corev1.DoNotSchedule {
			c.MinDomains = &n
		}
		ignore, honor := corev1.NodeInclusionPolicyIgnore, corev1.NodeInclusionPolicyHonor
		switch d.IntN(3) {
		case 0:
			c.NodeAffinityPolicy = &ignore
		case 1:
			c.NodeTaintsPolicy = &honor
		}
		spec.TopologySpreadConstraints = append(spec.TopologySpreadConstraints, c)
	}
	p := Pod{Namespace: d.one("default", "default", "other"), Labels: d.labels(), Spec: spec, Requests: Resources{MilliCPU: d.Int64N(3) * 100, Memory: d.Int64N(3) << 28}}
	if d.IntN(8) == 0 {
		p.HostPorts = []string{"tcp:80"}
	}
	if d.IntN(8) == 0 {
		p.Archs = []string{"arm64"}
	}
	return KindOf(p)
}

// play lets a board and the model live through the same story and compares every choice. From time to time a board made
// anew of what there is, in another order, must choose alike too, with the same words.
func play(t *testing.T, seed uint64) {
	d := dice{rand.New(rand.NewPCG(seed, 7))}
	m := &model{}
	for i := range 1 + d.IntN(12) {
		m.nodes = append(m.nodes, d.node(i))
	}
	b := NewBoard(slices.Values(m.nodes))
	b.sweepAt = 4 // forget often
	var kinds []*Kind
	for range 2 + d.IntN(6) {
		kinds = append(kinds, d.kind())
	}
	for step := range 80 {
		switch k := kinds[d.IntN(len(kinds))]; d.IntN(10) {
		case 0, 1:
			if len(m.seats) == 0 {
				continue
			}
			i := d.IntN(len(m.seats))
			b.Remove(m.seats[i])
			m.seats = slices.Delete(m.seats, i, i+1)
		case 2:
			if len(m.seats) == 0 {
				continue
			}
			s := &m.seats[d.IntN(len(m.seats))]
			b.Remove(*s)
			s.Leaving = true
			b.Add(*s)
		case 3:
			i := d.IntN(len(m.nodes))
			n := *m.nodes[i]
			n.Down, n.Cordoned, n.Unsteady = d.IntN(3) == 0, d.IntN(3) == 0, d.IntN(2) == 0
			n.Doubt = d.IntN(MaxDoubt + 2)
			m.nodes[i] = &n
			if !b.Mark(&n) {
				t.Fatal("a mark was refused")
			}
		default:
			owner := d.one("o1", "o2", "o3")
			v, want := b.Place(k, owner), m.place(k, owner)
			if v.Node != want {
				t.Fatalf("seed %d step %d: %q (%s), want %q", seed, step, v.Node, v.Reason, want)
			}
			nodes, seats := slices.Clone(m.nodes), slices.Clone(m.seats)
			d.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
			d.Shuffle(len(seats), func(i, j int) { seats[i], seats[j] = seats[j], seats[i] })
			anew := NewBoard(slices.Values(nodes))
			for _, s := range seats {
				anew.Add(s)
			}
			if w := anew.Place(k, owner); w != v {
				t.Fatalf("seed %d step %d: %+v, a board made anew says %+v", seed, step, v, w)
			}
			if v.Node == "" {
				if !strings.HasPrefix(v.Reason, fmt.Sprintf("0/%d nodes: ", len(m.nodes))) {
					t.Fatalf("seed %d step %d: %q", seed, step, v.Reason)
				}
				continue
			}
			s := Seat{Node: v.Node, Kind: k, Owner: owner}
			b.Add(s)
			m.seats = append(m.seats, s)
		}
	}
}

func TestBoardAgreesWithTheModel(t *testing.T) {
	for seed := range uint64(400) {
		play(t, seed)
	}
}

func FuzzBoard(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { play(t, seed) })
}
