package enginetest

import (
	"fmt"
	"math"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// userModel commits manifests.
type userModel struct {
	s       *Sim
	next    int64
	commits int
	stale   desired.Digest // a render that was active once
}

func (u *userModel) at() int64 {
	if u.s.calm {
		if u.next == 0 {
			return math.MaxInt64
		}
		return u.next
	}
	return max(u.next, Epoch+1000)
}

// last has one good commit follow the last fault.
func (u *userModel) last() { u.next = u.s.now + 60_000 }

// commit activates something: mostly sound, at times with an image that never becomes ready, at times refused.
func (u *userModel) commit() {
	s := u.s
	environment := []string{"dev", "prod"}[s.rng.IntN(2)]
	u.next = s.now + s.between(1_000, 240_000)
	if s.calm {
		u.next = 0
		for _, environment := range []string{"dev", "prod"} {
			u.activate(environment, u.manifest(environment), s.active(environment))
		}
		return
	}
	previous := s.active(environment)
	switch {
	case s.chance(5):
		previous = u.stale
	case s.chance(5) && previous != "":
		s.append(cluster.Input{Retire: &cluster.Retire{Environment: environment}}, 1)
		return
	}
	u.activate(environment, u.manifest(environment), previous)
	u.stale = s.active(environment)
}

func (u *userModel) activate(environment, text string, previous desired.Digest) {
	d, err := u.s.Content.Manifest(environment, text)
	if err != nil {
		panic(err)
	}
	u.commits++
	u.s.Stats.Commits++
	u.s.append(cluster.Input{Activate: &cluster.Activate{
		Environment: environment, Namespace: environment, Ref: "refs/heads/main", Previous: previous,
		Commit: source.ID(fmt.Sprintf("%040x", u.commits)), Tree: source.ID(d[:40]), D: d,
	}}, 1)
}

// manifest is a choice of objects.
func (u *userModel) manifest(environment string) string {
	s := u.s
	image := func(kind string) string {
		if kind == "app" && !s.calm && s.chance(15) {
			kind = "bad"
		}
		return fmt.Sprintf("%s:%d", kind, s.rng.IntN(3))
	}
	var docs []string
	for i, name := range []string{"web", "api"} {
		if s.chance(80) {
			strategy := []string{"", "strategy: {type: Recreate}", "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}", "minReadySeconds: 5", "revisionHistoryLimit: 1"}[s.rng.IntN(5)]
			if !s.calm && s.chance(5) {
				strategy = "paused: true"
			}
			docs = append(docs, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  %[4]s
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: "%[3]s", resources: {requests: {cpu: 100m, memory: 64Mi}}}]}
`, name, s.rng.IntN(6), image("app"), strategy))
		}
		if s.chance(60) {
			kind := []string{"ports: [{port: 80}]", "type: NodePort\n  ports: [{port: 80}]", fmt.Sprintf("type: NodePort\n  ports: [{port: 80, nodePort: %d}]", 30000+2*s.rng.IntN(2)+i)}[s.rng.IntN(3)]
			if s.calm {
				kind = "ports: [{port: 80}]"
			}
			docs = append(docs, fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %[1]s}\nspec:\n  selector: {app: %[1]s}\n  %[2]s\n", name, kind))
		}
	}
	for _, policy := range []string{"Allow", "Forbid", "Replace"} {
		if s.chance(60) {
			schedule := map[string]string{"dev": "* * * * *", "prod": "*/3 * * * *"}[environment]
			if s.chance(10) {
				schedule = []string{"*/2 * * * *", "*/5 * * * *", "30 2 * * *"}[s.rng.IntN(3)]
			}
			docs = append(docs, fmt.Sprintf(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: %s}
spec:
  schedule: "%s"
  concurrencyPolicy: %s
  suspend: %v
  jobTemplate:
    spec:
      backoffLimit: %d
      activeDeadlineSeconds: 600
      template: {spec: {restartPolicy: Never, containers: [{name: main, image: "%s"}]}}
`, strings.ToLower(policy), schedule, policy, !s.calm && s.chance(10), s.rng.IntN(2), image([]string{"task", "flaky"}[s.rng.IntN(2)])))
		}
	}
	if s.chance(50) {
		mode := []string{"completions: 3\n  parallelism: 2", "completions: 4\n  parallelism: 3\n  completionMode: Indexed", "parallelism: 2", "ttlSecondsAfterFinished: 30"}[s.rng.IntN(4)]
		docs = append(docs, fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: task}
spec:
  backoffLimit: 3
  %s
  template: {spec: {restartPolicy: Never, containers: [{name: main, image: "%s"}]}}
`, mode, image("flaky")))
	}
	if s.chance(50) {
		docs = append(docs, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: bare, labels: {app: %s}}\nspec: {containers: [{name: main, image: \"%s\"}]}\n",
			[]string{"web", "none"}[s.rng.IntN(2)], image("app")))
	}
	return strings.Join(docs, "\n---\n")
}

// rested tells whether all is as the last commits want it.
func (s *Sim) rested() error { return rested(s.State) }

func rested(state *cluster.State) error {
	for d := range state.Deployments().Values() {
		o, _ := state.Objects().Get(d.Key)
		if o == nil || o.Digest != d.Object {
			return fmt.Errorf("%s is not as its object says", d.Key)
		}
		if d.State != control.Complete || d.Pods != d.Updated || d.Available != d.Pods {
			return fmt.Errorf("%s is %s: %d pods, %d updated, %d available", d.Key, d.State, d.Pods, d.Updated, d.Available)
		}
		var pods int32
		for rs := range state.Revisions(d.Key) {
			for p := range state.PodsOf(rs.UID) {
				if pods++; p.Deleting != 0 {
					return fmt.Errorf("pod %s does not stop", p.Name)
				}
			}
		}
		if pods != d.Pods {
			return fmt.Errorf("%s has %d pods, and counts %d", d.Key, pods, d.Pods)
		}
	}
	for j := range state.Jobs().Values() {
		if j.Owner.UID == "" && j.Finished == 0 {
			return fmt.Errorf("%s has not finished: %+v", j.Key, *j)
		}
		if j.Owner.UID != "" && j.Finished == 0 && state.Time()-j.Run > 1_200_000 {
			return fmt.Errorf("%s has not finished", j.Key)
		}
	}
	for c := range state.CronJobs().Values() {
		if c.Next <= state.Time() || c.Next > state.Time()+86_400_000+1 {
			return fmt.Errorf("%s comes next at %d, it is %d", c.Key, c.Next, state.Time())
		}
	}
	for p := range state.Pods().Values() {
		if p.Node == "" || p.Deleting != 0 && state.Time()-p.Deleting > 60_000 {
			return fmt.Errorf("pod %s/%s: node %q, deleting since %d: %s", p.Namespace, p.Name, p.Node, p.Deleting, p.Reason)
		}
		if env, ok := state.Environments().Get(p.Environment); !ok {
			return fmt.Errorf("pod %s/%s is left of environment %s (%v)", p.Namespace, p.Name, p.Environment, env)
		}
	}
	return nil
}
