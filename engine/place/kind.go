package place

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Pod is what decides where a pod may go.
type Pod struct {
	Namespace string
	Labels    map[string]string
	Spec      *corev1.PodSpec // with Kubernetes' defaults
	Requests  Resources       // of RequestsOf
	HostPorts []string        // "tcp:80"
	Archs     []string        // that its images are for; none: not known
}

// Kind is what pods have in common that may take each other's place: those of one template. It is made once and does
// not change; a Board knows it by its address, so pods of one template should share one.
type Kind struct {
	namespace string
	labels    map[string]string
	requests  Resources // with Pods 1
	ports     []string
	archs     []string

	selector    selector   // nodeSelector
	required    []nodeTerm // one of them; nil: any node
	preferred   []weighedNodes
	tolerations []corev1.Toleration
	statics     string // all of the above but the first four, as text: kinds with equal ones suit the same nodes

	apart    []podTerm // no such pod in the same domain
	together []podTerm // such a pod in the same domain, for each
	likes    []weighedPods
	spreads  []spread
}

type weighedNodes struct {
	weight int64
	term   nodeTerm
}

type weighedPods struct {
	weight int64 // negative: rather not
	term   podTerm
}

// podTerm selects pods, and says by which label of their nodes they count as near. Several selectors must all match.
type podTerm struct {
	key        string
	namespaces []string // sorted; nil: all
	selectors  []selector
	active     bool // pods that are being stopped do not count
}

func (t *podTerm) matches(k *Kind) bool {
	if t.namespaces != nil {
		if _, found := slices.BinarySearch(t.namespaces, k.namespace); !found {
			return false
		}
	}
	for _, s := range t.selectors {
		if !s.matches(k.label) {
			return false
		}
	}
	return true
}

func (k *Kind) label(key string) (string, bool) {
	v, ok := k.labels[key]
	return v, ok
}

func (t *podTerm) String() string {
	var b strings.Builder
	b.WriteString(t.key + "\x00" + strconv.FormatBool(t.active) + strconv.FormatBool(t.namespaces == nil))
	for _, n := range t.namespaces {
		b.WriteString("\x00" + n)
	}
	for _, s := range t.selectors {
		b.WriteString("\x00\x00" + s.String())
	}
	return b.String()
}

// spread is a topology spread constraint.
type spread struct {
	term       podTerm
	maxSkew    int64
	minDomains int64
	hard       bool
	self       int64 // 1 if the pod itself counts
	anyNode    bool  // nodes that the pod's selector and affinity keep it off count as domains too
	noTaints   bool  // nodes with taints that it does not tolerate do not count
}

// KindOf reads what a pod wants.
func KindOf(p Pod) *Kind {
	k := &Kind{namespace: p.Namespace, labels: p.Labels, requests: p.Requests, ports: p.HostPorts, archs: slices.Sorted(slices.Values(p.Archs))}
	k.requests.Pods = 1
	if p.Spec == nil {
		return k
	}
	k.selector = equals(p.Spec.NodeSelector)
	k.tolerations = p.Spec.Tolerations
	if a := p.Spec.Affinity; a != nil {
		k.nodeAffinity(a.NodeAffinity)
		k.podAffinity(a.PodAffinity)
		k.podAntiAffinity(a.PodAntiAffinity)
	}
	for i := range p.Spec.TopologySpreadConstraints {
		k.spread(&p.Spec.TopologySpreadConstraints[i])
	}
	k.statics = k.text()
	return k
}

func (k *Kind) nodeAffinity(a *corev1.NodeAffinity) {
	if a == nil {
		return
	}
	if r := a.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		k.required = make([]nodeTerm, 0, len(r.NodeSelectorTerms))
		for i := range r.NodeSelectorTerms {
			k.required = append(k.required, nodeTermOf(&r.NodeSelectorTerms[i]))
		}
	}
	for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		p := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
		t := nodeTermOf(&p.Preference)
		if len(p.Preference.MatchExpressions)+len(p.Preference.MatchFields) == 0 { // a preference for nothing suits all
			continue
		}
		k.preferred = append(k.preferred, weighedNodes{int64(p.Weight), t})
	}
}

func (k *Kind) podAffinity(a *corev1.PodAffinity) {
	if a == nil {
		return
	}
	for i := range a.RequiredDuringSchedulingIgnoredDuringExecution {
		k.together = append(k.together, k.termOf(&a.RequiredDuringSchedulingIgnoredDuringExecution[i]))
	}
	if len(k.together) > 1 { // one pod must be meant by all terms
		k.join()
	}
	for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		p := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
		k.likes = append(k.likes, weighedPods{int64(p.Weight), k.termOf(&p.PodAffinityTerm)})
	}
}

// join has every required term select the pods that all of them select.
func (k *Kind) join() {
	var all []selector
	namespaces := k.together[0].namespaces
	for _, t := range k.together {
		all = append(all, t.selectors...)
		switch {
		case namespaces == nil:
			namespaces = t.namespaces
		case t.namespaces != nil:
			namespaces = slices.DeleteFunc(slices.Clone(namespaces), func(n string) bool { return !slices.Contains(t.namespaces, n) })
		}
	}
	for i := range k.together {
		k.together[i].selectors, k.together[i].namespaces = all, namespaces
	}
}

func (k *Kind) podAntiAffinity(a *corev1.PodAntiAffinity) {
	if a == nil {
		return
	}
	for i := range a.RequiredDuringSchedulingIgnoredDuringExecution {
		k.apart = append(k.apart, k.termOf(&a.RequiredDuringSchedulingIgnoredDuringExecution[i]))
	}
	for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		p := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
		k.likes = append(k.likes, weighedPods{-int64(p.Weight), k.termOf(&p.PodAffinityTerm)})
	}
}

// termOf: the pod's own namespace is meant if none is named. Of namespace selectors only the empty one, all namespaces,
// has a meaning here.
func (k *Kind) termOf(t *corev1.PodAffinityTerm) podTerm {
	p := podTerm{key: t.TopologyKey, namespaces: slices.Sorted(slices.Values(t.Namespaces))}
	switch {
	case t.NamespaceSelector != nil && len(t.NamespaceSelector.MatchLabels)+len(t.NamespaceSelector.MatchExpressions) == 0:
		p.namespaces = nil
	case len(t.Namespaces) == 0:
		p.namespaces = []string{k.namespace}
	}
	p.selectors = []selector{selectorOf(t.LabelSelector).narrowed(k.labels, t.MatchLabelKeys, t.MismatchLabelKeys)}
	return p
}

func (k *Kind) spread(c *corev1.TopologySpreadConstraint) {
	s := spread{
		term:    podTerm{key: c.TopologyKey, namespaces: []string{k.namespace}, active: true},
		maxSkew: max(int64(c.MaxSkew), 1), hard: c.WhenUnsatisfiable != corev1.ScheduleAnyway,
		anyNode:  c.NodeAffinityPolicy != nil && *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore,
		noTaints: c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
	}
	s.term.selectors = []selector{selectorOf(c.LabelSelector).narrowed(k.labels, c.MatchLabelKeys, nil)}
	if c.MinDomains != nil {
		s.minDomains = int64(*c.MinDomains)
	}
	if s.term.matches(k) {
		s.self = 1
	}
	k.spreads = append(k.spreads, s)
}

// text is what suits nodes or not, without regard to what is on them.
func (k *Kind) text() string {
	var b strings.Builder
	b.WriteString(strings.Join(k.archs, ",") + "\x00" + k.selector.String())
	for i := range k.required {
		b.WriteString("\x00r" + k.required[i].labels.String() + "\x01" + k.required[i].fields.String())
	}
	if k.required != nil {
		b.WriteString("\x00R")
	}
	for i := range k.preferred {
		p := &k.preferred[i]
		b.WriteString("\x00p" + strconv.FormatInt(p.weight, 10) + p.term.labels.String() + "\x01" + p.term.fields.String())
	}
	for _, t := range k.tolerations {
		b.WriteString("\x00t" + t.Key + "\x01" + string(t.Operator) + "\x01" + t.Value + "\x01" + string(t.Effect))
	}
	return b.String()
}

// Tolerates tells whether the pod tolerates a taint.
func (k *Kind) Tolerates(t Taint) bool {
	return slices.ContainsFunc(k.tolerations, func(o corev1.Toleration) bool { return tolerates(&o, t) })
}

func tolerates(o *corev1.Toleration, t Taint) bool {
	if o.Effect != "" && o.Effect != t.Effect || o.Key != "" && o.Key != t.Key {
		return false
	}
	switch o.Operator {
	case "", corev1.TolerationOpEqual:
		return o.Value == t.Value && o.Key == t.Key
	case corev1.TolerationOpExists:
		return true
	}
	return false
}

// Stays tells how long a pod may stay on a node with these taints: forever, or for so many seconds after the first
// NoExecute taint came, where 0 is not at all.
func (k *Kind) Stays(taints []Taint) (forever bool, seconds int64) {
	forever = true
	for _, t := range taints {
		if t.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		tolerated, limit, limited := false, int64(0), false
		for i := range k.tolerations {
			o := &k.tolerations[i]
			if !tolerates(o, t) {
				continue
			}
			tolerated = true
			if o.TolerationSeconds != nil {
				if s := max(*o.TolerationSeconds, 0); !limited || s < limit {
					limit, limited = s, true
				}
			}
		}
		switch {
		case !tolerated:
			return false, 0
		case limited && (forever || limit < seconds):
			forever, seconds = false, limit
		}
	}
	return forever, seconds
}
