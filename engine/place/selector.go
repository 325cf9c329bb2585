package place

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// requirement is one demand on a label.
type requirement struct {
	key    string
	op     corev1.NodeSelectorOperator
	values []string // sorted
	bound  int64    // of Gt and Lt
}

// matches follows Kubernetes: a label that is missing is in no list, so it is also NotIn, and neither Gt nor Lt.
func (r *requirement) matches(value string, there bool) bool {
	switch r.op {
	case corev1.NodeSelectorOpIn:
		_, found := slices.BinarySearch(r.values, value)
		return there && found
	case corev1.NodeSelectorOpNotIn:
		_, found := slices.BinarySearch(r.values, value)
		return !there || !found
	case corev1.NodeSelectorOpExists:
		return there
	case corev1.NodeSelectorOpDoesNotExist:
		return !there
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		n, err := strconv.ParseInt(value, 10, 64)
		if !there || err != nil {
			return false
		}
		return r.op == corev1.NodeSelectorOpGt && n > r.bound || r.op == corev1.NodeSelectorOpLt && n < r.bound
	}
	return false
}

func (r *requirement) String() string {
	switch r.op {
	case corev1.NodeSelectorOpIn:
		if len(r.values) == 1 {
			return r.key + "=" + r.values[0]
		}
		return r.key + " in (" + strings.Join(r.values, ",") + ")"
	case corev1.NodeSelectorOpNotIn:
		return r.key + " not in (" + strings.Join(r.values, ",") + ")"
	case corev1.NodeSelectorOpExists:
		return r.key
	case corev1.NodeSelectorOpDoesNotExist:
		return "!" + r.key
	case corev1.NodeSelectorOpGt:
		return r.key + ">" + strconv.FormatInt(r.bound, 10)
	case corev1.NodeSelectorOpLt:
		return r.key + "<" + strconv.FormatInt(r.bound, 10)
	}
	return "(no demand)"
}

// never matches nothing: what Kubernetes' validation refuses.
var never = requirement{op: "never"}

func require(key string, op corev1.NodeSelectorOperator, values []string) requirement {
	r := requirement{key: key, op: op, values: slices.Sorted(slices.Values(values))}
	if op == corev1.NodeSelectorOpGt || op == corev1.NodeSelectorOpLt {
		if len(values) != 1 {
			return never
		}
		n, err := strconv.ParseInt(values[0], 10, 64)
		if err != nil {
			return never
		}
		r.bound, r.values = n, nil
	}
	return r
}

// selector demands all of its requirements; without any it takes everything. It is sorted, so that equal demands are
// equal as text.
type selector []requirement

func (s selector) matches(label func(key string) (string, bool)) bool {
	for i := range s {
		value, there := label(s[i].key)
		if !s[i].matches(value, there) {
			return false
		}
	}
	return true
}

func (s selector) sorted() selector {
	slices.SortFunc(s, func(a, b requirement) int { return cmp.Compare(a.String(), b.String()) })
	return s
}

func (s selector) String() string {
	parts := make([]string, len(s))
	for i := range s {
		parts[i] = s[i].String()
	}
	return strings.Join(parts, ", ")
}

func equals(labels map[string]string) selector {
	var s selector
	for _, k := range sortedKeys(labels) {
		s = append(s, require(k, corev1.NodeSelectorOpIn, []string{labels[k]}))
	}
	return s.sorted()
}

// selectorOf reads a label selector. Without one nothing is selected.
func selectorOf(l *metav1.LabelSelector) selector {
	if l == nil {
		return selector{never}
	}
	s := equals(l.MatchLabels)
	for _, e := range l.MatchExpressions {
		s = append(s, require(e.Key, corev1.NodeSelectorOperator(e.Operator), e.Values))
	}
	return s.sorted()
}

// narrowed adds what matchLabelKeys and mismatchLabelKeys say: the pod's own value of a label, or any other. A key that
// the pod does not have is ignored.
func (s selector) narrowed(labels map[string]string, match, mismatch []string) selector {
	for _, list := range []struct {
		keys []string
		op   corev1.NodeSelectorOperator
	}{{match, corev1.NodeSelectorOpIn}, {mismatch, corev1.NodeSelectorOpNotIn}} {
		for _, k := range list.keys {
			if v, ok := labels[k]; ok {
				s = append(s, require(k, list.op, []string{v}))
			}
		}
	}
	return s.sorted()
}

// nodeTerm is one of several demands on a node's labels and on its name.
type nodeTerm struct{ labels, fields selector }

func nodeTermOf(t *corev1.NodeSelectorTerm) nodeTerm {
	var n nodeTerm
	for _, e := range t.MatchExpressions {
		n.labels = append(n.labels, require(e.Key, e.Operator, e.Values))
	}
	for _, e := range t.MatchFields {
		n.fields = append(n.fields, require(e.Key, e.Operator, e.Values))
	}
	if len(n.labels)+len(n.fields) == 0 { // an empty term takes no node
		n.labels = selector{never}
	}
	n.labels.sorted()
	n.fields.sorted()
	return n
}

func (t *nodeTerm) matches(n *Node) bool {
	return t.labels.matches(n.label) && t.fields.matches(n.field)
}

func (t *nodeTerm) String() string {
	if len(t.fields) == 0 {
		return t.labels.String()
	}
	return strings.Join(slices.DeleteFunc([]string{t.labels.String(), t.fields.String()}, func(s string) bool { return s == "" }), ", ")
}
