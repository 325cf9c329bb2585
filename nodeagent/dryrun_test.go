package nodeagent

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

func replicas(name string, n int) string {
	return strings.Replace(deployment(name), "spec:\n", fmt.Sprintf("spec:\n  replicas: %d\n", n), 1)
}

func configMap(text string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: texts}\ndata: {greeting: %s}\n", text)
}

func cronJob(name string) string {
	return fmt.Sprintf(`apiVersion: batch/v1
kind: CronJob
metadata: {name: %[1]s}
spec:
  schedule: "* * * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: "%[1]s:v1"}]}}}}
`, name)
}

const much = `apiVersion: v1
kind: Pod
metadata: {name: much}
spec: {containers: [{name: app, image: "much:v1", resources: {requests: {memory: 1Ti}}}]}
`

// big leaves no room for a second one on its node, so the old one goes before the new one comes.
func big(version string) string {
	text := strings.Replace(deployment("big"), "spec:\n", "spec:\n  strategy: {type: Recreate}\n", 1)
	return strings.Replace(text, `image: "big:v1"`, `resources: {requests: {memory: 6Gi}}, image: "big:`+version+`"`, 1)
}

func joined(docs ...string) string { return strings.Join(docs, "---\n") }

// shown is a plan as text.
func shown(p api.Plan) string {
	var b strings.Builder
	for _, c := range p.Objects {
		fmt.Fprintf(&b, "%s %s %s\n", c.Op, c.Name, strings.Join(c.Fields, ", "))
	}
	for _, c := range p.Pods {
		fmt.Fprintf(&b, "pods: %s %s: %s\n", c.Op, c.Name, c.Why)
	}
	fmt.Fprintf(&b, "%d go on", p.Unchanged)
	return b.String()
}

// carry is a dry run of a manifest that is in the content store, or in theirs.
func carry(n *Node, environment string, manifest, theirs enginetest.Store, d desired.Digest, without ...string) (p api.Plan, err error) {
	next, err := desired.DecodeSet(manifest[d])
	if err != nil {
		return p, err
	}
	content := newOverlay(n.Agent.opt.Content)
	maps.Copy(content.blobs, theirs)
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	var previous *desired.Set
	if e, ok := s.Environments().Get(environment); ok {
		if previous, err = readSet(content, e.D); err != nil {
			return p, err
		}
	}
	changes, err := desired.Diff(previous, next, content)
	if err != nil {
		return p, err
	}
	for _, c := range changes {
		change := api.Change{Op: string(c.Op), Name: c.Key.String()}
		for _, f := range c.Fields {
			change.Fields = append(change.Fields, f.String())
		}
		p.Objects = append(p.Objects, change)
	}
	did, err := n.carryOut(s, content, target{environment: environment, namespace: environment, next: next, manifest: manifest[d], without: without})
	if err == nil && did.refused != "" {
		err = rejected(did.refused)
	}
	p.Pods, p.Unchanged, p.Actions, p.Losses = did.pods, did.unchanged, did.actions, did.losses
	return p, err
}

// A plan says what the ring would do, and changes nothing of it.
func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name, before, after, want string
	}{
		{"nothing", deployment("web"), deployment("web"), "1 go on"},
		{"the first commit", "", joined(replicas("web", 2), service("web")), `create Service dev/web
create Deployment dev/web
pods: create Deployment dev/web: 2 pods start: it is new
0 go on`},
		{"another image", joined(replicas("web", 3), deployment("api")), joined(strings.Replace(replicas("web", 3), "web:v1", "web:v2", 1), deployment("api")), `update Deployment dev/web spec.template.spec.containers[app].image: "web:v1" -> "web:v2"
pods: restart Deployment dev/web: 3 pods are replaced: its pod template changed
1 go on`},
		{"more of them", replicas("web", 1), replicas("web", 3), `update Deployment dev/web spec.replicas: 1 -> 3
pods: create Deployment dev/web: 2 pods start: replicas: 1 -> 3
1 go on`},
		{"fewer of them, in another version", replicas("web", 3), strings.Replace(replicas("web", 1), "web:v1", "web:v2", 1), `update Deployment dev/web spec.replicas: 3 -> 1, spec.template.spec.containers[app].image: "web:v1" -> "web:v2"
pods: restart Deployment dev/web: 1 pod is replaced: its pod template changed
pods: remove Deployment dev/web: 2 pods stop: its pod template changed
0 go on`},
		{"one is taken away", joined(deployment("web"), deployment("api")), deployment("web"), `delete Deployment dev/api
pods: remove Deployment dev/api: 1 pod stops: it is taken away
1 go on`},
		{"a text", joined(deployment("web"), configMap("hello")), joined(deployment("web"), configMap("bye")), `update ConfigMap dev/texts data.greeting: "hello" -> "bye"
1 go on`},
		{"a schedule: nothing runs yet", deployment("web"), joined(deployment("web"), cronJob("report")), "create CronJob dev/report\n1 go on"},
		{"a schedule is taken away while it runs", joined(deployment("web"), cronJob("report")), deployment("web"), `delete CronJob dev/report
pods: remove CronJob dev/report: 1 pod stops: it is taken away
1 go on`},
		{"room for one at a time", big("v1"), big("v2"), `update Deployment dev/big spec.template.spec.containers[app].image: "big:v1" -> "big:v2"
pods: restart Deployment dev/big: 1 pod is replaced: its pod template changed
0 go on`},
		{"no room", deployment("web"), joined(deployment("web"), much), `create Pod dev/much
pods: wait Pod dev/much: 1 pod finds no node: 0/1 nodes: insufficient memory: asks 1024Gi, 8Gi free
1 go on`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				n := &Node{Agent: m.agent()}
				if tt.before != "" {
					m.ring.Commit("dev", tt.before)
					m.ring.Settle()
					m.ring.Advance(90)
					m.ring.Settle()
				}
				next, err := m.ring.Content.Manifest("dev", tt.after)
				if err != nil {
					t.Fatal(err)
				}
				hash, entries := m.ring.State.Hash(), len(m.ring.Log)
				p, err := carry(n, "dev", m.ring.Content, nil, next)
				if err != nil {
					t.Fatal(err)
				}
				expect(t, "plan", shown(p), tt.want)
				if m.ring.State.Hash() != hash || len(m.ring.Log) != entries {
					t.Error("a plan changed the ring")
				}
			})
		})
	}
}

// What the node does first is what its planner says; the objects come with the request.
func TestPlanActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		n := &Node{Agent: m.agent()}
		m.images["here:v1"] = true
		theirs := enginetest.Store{}
		next, err := theirs.Manifest("dev", joined(deployment("here"), deployment("far")))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := carry(n, "dev", theirs, nil, next); err == nil {
			t.Error("a plan without the objects")
		}
		before := maps.Clone(m.ring.Content)
		p, err := carry(n, "dev", theirs, theirs, next)
		if err != nil {
			t.Fatal(err)
		}
		ops := map[string]int{}
		for _, a := range p.Actions {
			name, _, _ := strings.Cut(strings.TrimPrefix(a.Name, "dev/"), "-")
			ops[a.Node+" "+string(a.Op)+" "+name]++
		}
		if s := fmt.Sprint(ops); s != "map[n1 pull far:1 n1 sandbox far:1 n1 sandbox here:1 n1 start far:1 n1 start here:1]" {
			t.Error(s)
		}
		if len(m.ring.Content) != len(before) {
			t.Error("a plan stored objects")
		}
	})
}

// What the ring would refuse is refused, in its words.
func TestPlanRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		n := &Node{Agent: m.agent()}
		web := "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}\n"
		m.ring.Commit("dev", web)
		next, err := m.ring.Content.Manifest("prod", web)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct{ name, environment, want string }{
			{"a port that is taken", "prod", "Service prod/web in environment prod and Service dev/web in environment dev both have nodePort 30080"},
			{"a manifest of another environment", "dev", `is of environment "prod", not of dev`},
			{"an environment's name", "../x", `environment "../x": want a DNS label`},
		} {
			if _, err := carry(n, tt.environment, m.ring.Content, nil, next); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
			}
		}
	})
}
