package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
)

// An environment is healthy while each object of it is that Git names and pods are made for: a Deployment whose pods are all of its
// newest revision and available, a ReplicaSet whose pods are, a Pod that is ready or has succeeded, a Job that has not failed. Which
// ones are not is kept in an index; since when there are none is in the record of the environment's run.

// illness says why an object is not healthy, or "".
func (s *State) illness(k desired.Key) string {
	switch {
	case k.Group == "apps" && k.Kind == "Deployment":
		d, ok := s.deployments.Get(k)
		switch {
		case !ok:
			return "not begun"
		case d.Updated < d.Sized || d.Pods > d.Updated:
			return fmt.Sprintf("%d of %d pods are of its newest revision, beside %d others", min(d.Updated, d.Sized), d.Sized, d.Pods-d.Updated)
		case d.Available < d.Sized:
			return fmt.Sprintf("%d of %d pods are available", d.Available, d.Sized)
		}
	case k.Group == "apps" && k.Kind == "ReplicaSet":
		rs, ok := s.replicasets.Get(k)
		if !ok {
			return "not begun"
		}
		if rs.Available < rs.Replicas {
			return fmt.Sprintf("%d of %d pods are available", rs.Available, rs.Replicas)
		}
	case k.Group == "" && k.Kind == "Pod":
		p, ok := s.PodNamed(k.Namespace, k.Name)
		switch {
		case !ok || p.Source != k:
			return "not begun"
		case p.Deleting != 0:
			return "being stopped"
		case p.Ready == 0 && p.Status.Phase != "Succeeded":
			return "not ready"
		}
	case k.Group == "batch" && k.Kind == "Job":
		if j, ok := s.jobs.Get(k); ok && j.State == control.JobFailed {
			return strings.TrimSuffix("failed: "+j.Reason, ": ")
		}
	}
	return ""
}

// examine keeps the index of what is not healthy, after anything about an object has changed.
func (s *State) examine(k desired.Key) {
	if k.Kind == "CronJob" || !hasRule(k) {
		return
	}
	o, ok := s.objects.Get(k)
	if !ok {
		return
	}
	_, was := s.ill.pairs.get(pair[string, desired.Key]{o.Environment, k})
	switch is := s.illness(k) != ""; {
	case is && !was:
		s.ill.add(o.Environment, k)
		s.stir(o.Environment)
	case !is && was:
		s.ill.remove(o.Environment, k)
		s.stir(o.Environment)
	}
}

// recovered forgets an object that its environment does not have any more.
func (s *State) recovered(environment string, k desired.Key) {
	if hasRule(k) {
		s.ill.remove(environment, k)
		s.stir(environment)
	}
}

// examinePod examines what a pod stands for, if Git names it by itself.
func (s *State) examinePod(gone, came **control.Pod) {
	var last desired.Key
	for _, p := range []**control.Pod{gone, came} {
		if p != nil && (*p).Source.Kind == "Pod" && (*p).Source != last {
			last = (*p).Source
			s.examine(last)
		}
	}
}

// stir notes that the health of an environment may be another one.
func (s *State) stir(environment string) {
	if !slices.Contains(s.stirred, environment) {
		s.stirred = append(slices.Clip(s.stirred), environment)
	}
}

// Ill says which objects of an environment are not healthy and why, at most so many, by key; more is how many others there are.
func (s *State) Ill(environment string, most int) (texts []string, more int) {
	for k := range s.ill.at(environment) {
		if len(texts) >= most {
			more++
			continue
		}
		texts = append(texts, k.Kind+" "+k.Name+": "+s.illness(k))
	}
	return texts, more
}

// settleHealth notes since when the environments that were stirred are healthy. It tells whether that lets rules go on.
func (t *tx) settleHealth() (more bool) {
	for _, name := range t.s.stirred {
		run, ok := t.s.lastRun(name)
		if !ok {
			continue
		}
		healthy := !t.s.ill.has(name)
		if healthy == (run.Healthy != 0) {
			continue
		}
		now := *run
		now.Healthy = 0
		if healthy {
			now.Healthy = t.now
			now.Proven = cmp.Or(now.Proven, t.now)
		}
		t.s.runs.set(&t.s, &now)
		if healthy && t.queueVerifiers(name) {
			more = true
		}
	}
	return more
}
