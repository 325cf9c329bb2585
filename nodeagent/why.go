package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// kinds are the short forms people type.
var kinds = map[string]string{
	"po": "Pod", "pod": "Pod", "pods": "Pod", "deploy": "Deployment", "deployment": "Deployment", "deployments": "Deployment",
	"rs": "ReplicaSet", "replicaset": "ReplicaSet", "job": "Job", "jobs": "Job", "cj": "CronJob", "cronjob": "CronJob", "cronjobs": "CronJob",
	"svc": "Service", "service": "Service", "services": "Service", "cm": "ConfigMap", "configmap": "ConfigMap", "secret": "Secret",
	"ns": "Namespace", "namespace": "Namespace",
}

// Why explains an object: what runs, since which commit, from which app, and what went wrong. Without a kind the
// name may be any object's or pod's; several that fit are an error that lists them.
func (n *Node) Why(ctx context.Context, kind, namespace, name string) (api.Why, error) {
	if kind != "" {
		known := kinds[strings.ToLower(kind)]
		if known == "" {
			return api.Why{}, fmt.Errorf("kind %q is not known here; known are Pod, ReplicaSet, Deployment, Job, CronJob, Service, ConfigMap, Secret and Namespace", kind)
		}
		kind = known
	}
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	fits := func(ns, of string) bool { return of == name && (namespace == "" || ns == namespace) }
	var objects []*cluster.Object
	for key, o := range s.Objects().All() {
		if (kind == "" || key.Kind == kind) && fits(key.Namespace, key.Name) {
			objects = append(objects, o)
		}
	}
	var pods []*control.Pod
	if kind == "" || kind == "Pod" {
		for p := range s.Pods().Values() {
			if fits(p.Namespace, p.Name) {
				pods = append(pods, p)
			}
		}
	}
	switch {
	case len(pods) == 1:
		return n.whyPod(ctx, s, pods[0]), nil
	case len(objects) == 0:
		return api.Why{}, n.absent(kind, namespace, name)
	case len(objects) > 1 && !sameName(objects):
		var names []string
		for _, o := range objects {
			names = append(names, o.Key.String())
		}
		return api.Why{}, fmt.Errorf("%s fits several: %s", name, strings.Join(names, ", "))
	}
	// A Deployment and its Service often share a name: the one that makes pods says more.
	slices.SortStableFunc(objects, func(a, b *cluster.Object) int { return cmp.Compare(b.Template, a.Template) })
	return n.whyObject(ctx, s, objects[0]), nil
}

func sameName(objects []*cluster.Object) bool {
	return !slices.ContainsFunc(objects, func(o *cluster.Object) bool { return o.Key.Namespace != objects[0].Key.Namespace })
}

// absent says why something is not there, if a commit that was not accepted is the reason.
func (n *Node) absent(kind, namespace, name string) error {
	what := strings.TrimSpace(cmp.Or(kind, "object") + " " + strings.TrimPrefix(namespace+"/"+name, "/"))
	for _, v := range n.Deployer.Verdicts() {
		if len(v.Problems) > 0 {
			return fmt.Errorf("%s does not exist; commit %s of %s has problems:\n%w", what, v.Commit.Short(), v.Environment, v.Problems.Sorted())
		}
	}
	return fmt.Errorf("%s does not exist: %w", what, api.ErrNotFound)
}

// origin says where an object comes from.
func (n *Node) origin(ctx context.Context, s *cluster.State, o *cluster.Object) []string {
	lines := []string{fmt.Sprintf("environment %s, app %s (%s/)", o.Environment, o.App, render.AppDir(o.App))}
	if at := n.Deployer.Place(o.Environment, o.Key); at != "" {
		lines = append(lines, "written at "+at)
	}
	line := "as of commit " + o.Commit.Short()
	if c, err := n.Deployer.opt.Source.Commit(ctx, o.Commit); err == nil {
		line += fmt.Sprintf(" %q by %s, %s", c.Subject(), c.Author, c.Author.When.UTC().Format(time.DateTime))
	}
	lines = append(lines, line)
	lines = append(lines, n.came(ctx, s, o)...)
	if c := n.Claims.Status(); c != nil && c.Held != "" {
		lines = append(lines, "nothing newer comes here: "+c.Held)
	}
	verdict := n.Deployer.Verdicts()[o.Environment]
	if e, ok := s.Environments().Get(o.Environment); ok && slices.Contains(e.Held, o.App) {
		lines = append(lines, "the app is held at its last good version:")
		for _, p := range verdict.Problems {
			if p.App == o.App {
				lines = append(lines, "  "+p.String())
			}
		}
	}
	if text := n.Deployer.Vanished()[o.Environment]; text != "" {
		lines = append(lines, "environment "+o.Environment+": "+text)
	}
	for _, p := range verdict.Warnings {
		if p.App == o.App {
			lines = append(lines, "warning: "+p.String())
		}
	}
	return lines
}

func (n *Node) whyObject(ctx context.Context, s *cluster.State, o *cluster.Object) api.Why {
	w := api.Why{Object: o.Key.String(), Lines: n.origin(ctx, s, o)}
	if f, ok := s.Faults().Get(o.Key); ok {
		w.Lines = append(w.Lines, "its rule failed: "+f.Reason)
	}
	for p := range s.Pods().Values() {
		if p.Namespace == o.Key.Namespace && n.belongs(s, p, o) {
			pod := n.pod(s, p, n.troubles()[p.ID])
			line := fmt.Sprintf("pod %s: %s, %d/%d ready, %d restarts", pod.Name, pod.Status, pod.Ready, pod.Containers, pod.Restarts)
			if pod.Message != "" {
				line += ": " + pod.Message
			}
			w.Lines = append(w.Lines, line)
		}
	}
	if svc, ok := s.Services().Get(o.Key); ok {
		for _, item := range n.services(s) {
			if item.Namespace == svc.Key.Namespace && item.Name == svc.Key.Name {
				w.Lines = append(w.Lines, fmt.Sprintf("reached at %s, ports %s, %d endpoints", item.ClusterIP, strings.Join(item.Ports, ", "), item.Endpoints))
			}
		}
	}
	w.Events, _ = n.Events(ctx, o.Key.String())
	return w
}

// belongs reports whether a pod was made for an object, over the ReplicaSet or Job between them.
func (n *Node) belongs(s *cluster.State, p *control.Pod, o *cluster.Object) bool {
	if p.Owner.UID == o.UID {
		return true
	}
	if rs, ok := s.ReplicaSets().Get(p.Owner.Key); ok && rs.Owner.UID == o.UID {
		return true
	}
	run, ok := s.Jobs().Get(p.Owner.Key)
	return ok && run.Owner.UID == o.UID
}

func (n *Node) troubles() map[control.PodID]map[string]plan.Trouble {
	if last := n.Agent.Last(); last != nil {
		return last.Trouble
	}
	return nil
}

func (n *Node) whyPod(ctx context.Context, s *cluster.State, p *control.Pod) api.Why {
	pod := n.pod(s, p, n.troubles()[p.ID])
	w := api.Why{Object: "Pod " + p.Namespace + "/" + p.Name}
	w.Lines = append(w.Lines, fmt.Sprintf("%s, %d/%d ready, %d restarts", pod.Status, pod.Ready, pod.Containers, pod.Restarts))
	if pod.Message != "" {
		w.Lines = append(w.Lines, pod.Message)
	}
	w.Lines = append(w.Lines, lastWords(&p.Status)...)
	if p.Node == "" {
		w.Lines = append(w.Lines, "not placed: "+p.Reason)
		for node := range s.Nodes().Values() {
			if node.DiskPressure != "" && !node.Down {
				w.Lines = append(w.Lines, "the disk of node "+node.Name+" is short: "+node.DiskPressure)
			}
			if node.ClockAhead != 0 && !node.Down {
				w.Lines = append(w.Lines, "the clock of node "+node.Name+" is "+api.Astray(node.ClockAhead))
			}
		}
	} else {
		w.Lines = append(w.Lines, "on node "+pod.Node+": "+p.Reason)
	}
	if j, ok := s.Jobs().Get(p.Owner.Key); ok && p.Attempt > 0 {
		w.Lines = append(w.Lines, attempt(p.Attempt, j))
	}
	if p.Owner.Key.Kind != "Pod" {
		w.Lines = append(w.Lines, "made for "+p.Owner.Key.String())
	}
	for key, o := range s.Objects().All() {
		if key.Namespace == p.Namespace && n.belongs(s, p, o) {
			w.Lines = append(w.Lines, n.origin(ctx, s, o)...)
		}
	}
	w.Events, _ = n.Events(ctx, w.Object)
	return w
}

// attempt says which attempt of its job a pod is, and how the job stands.
func attempt(n int32, j *control.Job) string {
	pods, have := "pods", "have"
	if n == 2 {
		pods = "pod"
	}
	if j.Failed == 1 {
		have = "has"
	}
	return fmt.Sprintf("attempt %d: %d %s of its job failed before it; now %d %s failed, %d succeeded", n, n-1, pods, j.Failed, have, j.Succeeded)
}

// lastWords are the termination messages of a pod's containers, whole; a terminal must not obey them.
func lastWords(s *corev1.PodStatus) (lines []string) {
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		last := cmp.Or(c.State.Terminated, c.LastTerminationState.Terminated)
		if last == nil || last.Message == "" {
			continue
		}
		lines = append(lines, "container "+c.Name+" left the message:")
		for line := range strings.Lines(last.Message) {
			lines = append(lines, "  "+strings.Map(func(r rune) rune {
				if r == '\t' || unicode.IsPrint(r) {
					return r
				}
				return -1
			}, line))
		}
	}
	return lines
}
