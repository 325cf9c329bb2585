package enginetest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// team pushes commits, each to the built-in Git server of some node.
type team struct {
	w       *World
	commits map[source.ID]*commit
	acked   map[cluster.From]string // pushes that were acknowledged, with what they are
	images  map[string]bool
}

// commit is what a team wrote, and what became of it.
type commit struct {
	environment string
	right       desired.Digest
	wrong       desired.Digest
	odd         uint32                 // nodes whose renders of it are wrong, a bit each
	renders     map[int]desired.Digest // by node
}

// variants is how many texts there are of an environment.
const variants = 12

// texts are manifests by name, with their objects.
type texts struct {
	digests map[string]desired.Digest
	all     Store
}

// manifests are the texts, compiled once for all runs, as that takes longer than anything else. Nobody changes them then.
var manifests = sync.OnceValue(func() texts {
	made := texts{map[string]desired.Digest{}, Store{}}
	for _, environment := range environments {
		for variant := range variants {
			for _, broken := range []bool{false, true} {
				d, err := made.all.Manifest(environment, teamText(environment, variant, broken))
				if err != nil {
					panic(err)
				}
				made.digests[textName(environment, variant, broken)] = d
			}
		}
	}
	return made
})

func textName(environment string, variant int, broken bool) string {
	return fmt.Sprintf("%s %d %v", environment, variant, broken)
}

func newTeam(w *World) *team {
	t := &team{w: w, commits: map[source.ID]*commit{}, acked: map[cluster.From]string{}, images: map[string]bool{}}
	for _, name := range []string{"app", "bad", "task", "flaky"} {
		for n := range 3 {
			t.images[fmt.Sprintf("%s:%d", name, n)] = true
		}
	}
	w.Content = manifests().all
	return t
}

// manifest is the digest of a text of an environment.
func (t *team) manifest(environment string, variant int, broken bool) desired.Digest {
	return manifests().digests[textName(environment, variant, broken)]
}

// begin has all environments active.
func (t *team) begin() {
	for i := range environments {
		t.w.after(int64(i+1)*second, func() { t.push(i, i, false, 0) })
	}
	t.w.after(30*second, t.write)
}

// write pushes now and then, as long as there are faults.
func (t *team) write() {
	w := t.w
	if !w.faults.on {
		return
	}
	t.push(w.rng.IntN(len(environments)), w.rng.IntN(variants), w.chance(150), 40)
	w.after(w.between(20*second, 6*minute), t.write)
}

// last has one good commit follow the last fault.
func (t *team) last() {
	for i := range environments {
		t.w.after(2*minute, func() { t.push(i, i, false, 0) })
	}
}

// push has a node take a commit. Of so many in 1000 commits some nodes' renders are wrong.
func (t *team) push(environment, variant int, broken bool, odd int) {
	w := t.w
	name := environments[environment]
	m := w.nodes[w.rng.IntN(len(w.nodes))]
	if !m.there() {
		w.after(5*second, func() { t.push(environment, variant, broken, odd) })
		return
	}
	w.Stats.Commits++
	id := commitID(w.Stats.Commits)
	c := &commit{environment: name, right: t.manifest(name, variant, broken), renders: map[int]desired.Digest{}}
	c.wrong = t.manifest(name, (variant+1)%variants, broken)
	if w.chance(odd) || w.Plant == Minority && w.chance(300) {
		for range 1 + w.rng.IntN(4) {
			c.odd |= 1 << w.rng.IntN(len(w.nodes))
			c.odd |= 1 << w.rng.IntN(w.voters)
		}
	}
	t.commits[id] = c
	var old source.ID
	if ref, ok := m.state.Refs().Get(refOf(name)); ok {
		old = ref.ID
	}
	from := cluster.From{Node: m.id, Boot: m.bootName(), Seq: m.outbox.seq + 1}
	done := false
	m.submit(cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: refOf(name), Old: old, New: id}}}}, func(out cluster.Outcome) {
		done = true
		if out.Rejected == "" {
			t.acked[from] = string(id)
		} else if !w.faults.on {
			t.push(environment, variant, broken, odd)
		}
	})
	if !w.faults.on {
		w.after(minute, func() { // the node may be lost, or behind
			if !done {
				t.push(environment, variant, broken, odd)
			}
		})
	}
}

// render is what a node makes of a commit.
func (t *team) render(m *machine, id source.ID) desired.Digest {
	c := t.commits[id]
	d := c.right
	if c.odd>>m.n&1 == 1 {
		d = c.wrong
	}
	c.renders[m.n] = d
	return d
}

// image is what a pod's one container runs, without its tag.
func (t *team) image(p *control.Pod) string {
	template, err := t.w.chain.head.TemplateOf(p.Object, t.w.Content)
	if err != nil {
		panic(err)
	}
	name, _, _ := strings.Cut(template.Spec.Containers[0].Image, ":")
	return name
}

// once says of what a pod is one, and how many may run at a time; "" for any number.
func (t *team) once(p *control.Pod) (string, int) {
	name := p.Source.String()
	switch {
	case !p.Fenced:
		return "", 0
	case p.Source.Kind == "CronJob" && p.Source.Name != "allow":
		return name, 1
	case p.Index != "":
		return name + " index " + p.Index, 1
	case p.Source.Kind == "CronJob":
		return "job " + p.Owner.UID, 1
	case p.Source.Kind == "Job", p.Source.Name == "two":
		return name, 2
	}
	return name, 1
}

// teamText is a choice of objects. How many of a strict Deployment and of a job's pods there are is the same in all.
func teamText(environment string, variant int, broken bool) string {
	var docs []string
	image := func(kind string) string { return fmt.Sprintf("%s:%d", kind, 1+variant%2) }
	app := image("app")
	if broken {
		app = image("bad")
	}
	deployment := func(name string, replicas int, spec, annotations string) {
		docs = append(docs, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, annotations: {%[5]s}}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  %[4]s
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {terminationGracePeriodSeconds: 15, containers: [{name: main, image: "%[3]s", resources: {requests: {cpu: 100m, memory: 64Mi}}}]}
`, name, replicas, app, spec, annotations))
	}
	deployment("web", 5+variant%3, []string{"", "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}", "minReadySeconds: 5"}[variant%3], "")
	if variant%4 != 3 {
		deployment("api", 3, []string{"", "strategy: {type: Recreate}"}[variant/2%2], "")
	}
	deployment("one", 1, "strategy: {type: Recreate}", `shoal.dev/strict: "true"`)
	deployment("two", 2, "strategy: {type: Recreate}", `shoal.dev/strict: "true"`)
	docs = append(docs, "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, type: NodePort, ports: [{port: 80}]}\n")
	pod := func(name, annotations string) {
		docs = append(docs, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, annotations: {%s}}\nspec: {terminationGracePeriodSeconds: 15, containers: [{name: main, image: \"%s\"}]}\n", name, annotations, app))
	}
	pod("bare", "")
	pod("kept", "shoal.dev/isolation: keep")
	cron := func(name, schedule, policy, image string) {
		docs = append(docs, fmt.Sprintf(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: %s}
spec:
  schedule: "%s"
  concurrencyPolicy: %s
  jobTemplate:
    spec:
      backoffLimit: 1
      template: {spec: {restartPolicy: Never, terminationGracePeriodSeconds: 15, containers: [{name: main, image: "%s"}]}}
`, name, schedule, policy, image))
	}
	if environment == "dev" {
		cron("forbid", "* * * * *", "Forbid", image("flaky"))
		cron("allow", "*/5 * * * *", "Allow", image("task"))
	} else {
		cron("forbid", "*/5 * * * *", "Forbid", image("task"))
		cron("replace", "*/7 * * * *", "Replace", image("task"))
	}
	mode := "completions: 4\n  parallelism: 2"
	if environment == "prod" {
		mode = "completions: 3\n  parallelism: 2\n  completionMode: Indexed"
	}
	docs = append(docs, fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: sums}
spec:
  backoffLimit: 6
  %s
  template: {spec: {restartPolicy: Never, terminationGracePeriodSeconds: 15, containers: [{name: main, image: "%s"}]}}
`, mode, image("task")))
	return strings.Join(docs, "\n---\n")
}
