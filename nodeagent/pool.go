package nodeagent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
)

// declared is what shoal.cue says of an environment, as far as it was read last, or what a preview is.
func (d *Deployer) declared(environment string) (env render.Environment, ok bool) {
	l := d.lastList.Load()
	if l == nil {
		return env, false
	}
	all := slices.Concat(l.environments, l.previews)
	if i := slices.IndexFunc(all, func(e render.Environment) bool { return e.Name == environment }); i >= 0 {
		return all[i], true
	}
	return env, false
}

// pool says which nodes the environment of a pod that found none runs on, and where that was said; "" if that is not what keeps it. A pod of
// before the nodes were others is of another pool.
func (n *Node) pool(s *cluster.State, p *control.Pod) string {
	env, ok := n.Deployer.declared(p.Environment)
	if !ok || p.Node != "" || len(env.Nodes) == 0 {
		return ""
	}
	template, err := s.TemplateOf(p.Object, n.Agent.opt.Content)
	if err != nil {
		return ""
	}
	for key, value := range env.Nodes { // whether all are; the order does not matter
		if template.Spec.NodeSelector[key] != value {
			return ""
		}
	}
	var has []string
	for node := range s.Nodes().Values() {
		labels, fits := node.AllLabels(), true
		for key, value := range env.Nodes {
			fits = fits && labels[key] == value
		}
		if fits {
			has = append(has, node.Name)
		}
	}
	at := fmt.Sprintf("environment %s runs on nodes with %s only (%s", env.Name, desired.LabelsText(env.Nodes), env.Policy.NodesAt)
	if line := env.Policy.Line(env.Policy.NodesAt); line > 0 {
		at += fmt.Sprintf(", shoal.cue:%d", line)
	}
	if len(has) == 0 {
		return at + "), and no node is one"
	}
	return at + "): " + strings.Join(has, ", ")
}
