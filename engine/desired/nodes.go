package desired

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/render"
)

// RuleNodes is that a pod runs on its environment's nodes. No policy lifts it.
const RuleNodes = "nodes/foreign"

// settleNodes has a pod run on the environment's nodes alone, as Kubernetes' PodNodeSelector does: their labels are added to its nodeSelector.
// What the author says besides narrows it further; another value of one of them is told.
func settleNodes(env render.Environment, spec *corev1.PodSpec, path string, tell func(path, text string)) {
	for _, key := range sortedKeys(env.Nodes) {
		value := env.Nodes[key]
		if own, said := spec.NodeSelector[key]; said && own != value {
			tell(fmt.Sprintf("%s.nodeSelector[%s]", path, key), fmt.Sprintf("%s: asks for %s=%s, and environment %s runs on nodes with %s only", RuleNodes, key, own, env.Name, LabelsText(env.Nodes)))
			continue
		}
		if spec.NodeSelector == nil {
			spec.NodeSelector = map[string]string{}
		}
		spec.NodeSelector[key] = value
	}
}

// LabelsText is "disk=ssd, pool=blue".
func LabelsText(labels map[string]string) string {
	var parts []string
	for _, key := range sortedKeys(labels) {
		parts = append(parts, key+"="+labels[key])
	}
	return strings.Join(parts, ", ")
}

// chosen is a pod template as authored with the labels of the environment's nodes in it, so that pods are replaced when those change.
// It shares what it does not change.
func chosen(template any, nodes map[string]string) any {
	if len(nodes) == 0 {
		return template
	}
	selector := copied(at(template, "spec", "nodeSelector"))
	for key, value := range nodes {
		selector[key] = value
	}
	spec := copied(at(template, "spec"))
	spec["nodeSelector"] = selector
	out := copied(template)
	out["spec"] = spec
	return out
}

func copied(v any) map[string]any {
	m, _ := v.(map[string]any)
	out := make(map[string]any, len(m)+1)
	maps.Copy(out, m)
	return out
}
