package enginetest

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
)

var update = flag.Bool("update", false, "record the logs of testdata/ledger anew")

const recordings = "../../testdata/ledger"

// TestRecordedLogs replays logs that were recorded earlier: a change of the rules, of Kubernetes' defaulting or of
// an encoding that gives another State is found here. It wants a higher EngineVersion; before 1.0 the logs may be
// recorded anew by a commit that raises it and says why. Logs of rings that run an older version, in a directory of its
// number, replay to what they always did.
func TestRecordedLogs(t *testing.T) {
	if *update {
		record(t)
	}
	names, err := filepath.Glob(filepath.Join(recordings, "*.log.gz"))
	if err != nil || len(names) < 4 {
		t.Fatalf("%d recordings in %s: %v", len(names), recordings, err)
	}
	older, err := filepath.Glob(filepath.Join(recordings, "*", "*.log.gz"))
	if err != nil || len(older) == 0 {
		t.Fatalf("%d recordings of older versions in %s: %v", len(older), recordings, err)
	}
	for _, name := range append(names, older...) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ReadRecording(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := cluster.EngineVersion
		if dir := filepath.Base(filepath.Dir(name)); slices.Contains(older, name) {
			want, _ = strconv.Atoi(dir)
		}
		if r.Engine != want {
			t.Errorf("%s is of engine version %d, not %d", name, r.Engine, want)
		}
		if err := r.Verify(); err != nil {
			t.Errorf("%s (%s): %v", name, r.About, err)
		}
		r.Log[len(r.Log)/2].Time += 1_000_000_000 // what it is for: another log gives another hash
		if r.Verify() == nil {
			t.Errorf("%s: a changed log replays to the same hash", name)
		}
	}
}

// record writes the logs anew.
func record(t *testing.T) {
	write := func(name string, r Recording) {
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(recordings, name+".log.gz"), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, seed := range map[string]uint64{"sim-1": 1, "sim-2": 2} {
		s := NewSim(seed)
		if err := s.Run(900_000); err != nil {
			t.Fatal(err)
		}
		write(name, Record("a simulated ring under faults", s.State, s.Log, Used(s.Log, s.Content)))
	}
	for name, story := range map[string]func(*Ring){"rollout": rolloutStory, "batch": batchStory, "nodes": nodesStory} {
		r := NewRing(t)
		r.Up(2)
		story(r)
		Check(t, r)
		write(name, Record(name, r.State, r.Log, Used(r.Log, r.Content)))
	}
}

func rolloutStory(r *Ring) {
	manifest := func(image, service string) string {
		return strings.NewReplacer("IMAGE", image, "SERVICE", service).Replace(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: IMAGE, resources: {requests: {cpu: 50m}, limits: {memory: 64Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}], SERVICE}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {greeting: hello}
`)
	}
	r.Commit("dev", manifest("web:1", "type: ClusterIP"))
	r.Settle()
	r.Commit("dev", manifest("web:2", "type: NodePort"))
	r.Must(Report(r.Pods()[0], corev1.PodRunning, false))
	r.Advance(30)
	r.Settle()
	r.Commit("prod", manifest("web:1", "type: ClusterIP"))
	r.Commit("dev", manifest("web:3", "type: NodePort"))
	r.Advance(700)
	r.Commit("dev", manifest("web:2", "type: NodePort"))
	r.Settle()
	r.Must(cluster.Input{Retire: &cluster.Retire{Environment: "prod", Why: "a test"}})
	r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: Node(2).ID}})
	r.Step(cluster.Input{Cordon: &cluster.Cordon{ID: "nobody"}})
	r.Settle()
}

// nodesStory has nodes join, get lost, come back, be drained and leave.
func nodesStory(r *Ring) {
	token := cluster.Token{ID: "third", Hash: strings.Repeat("0", 64), Expires: r.Now + 60_000}
	r.Must(cluster.Input{Token: &token})
	image := cluster.Tag{Name: "shoal.local/web:v1", Digest: "sha256:" + strings.Repeat("0", 64)}
	r.Must(cluster.Input{Tag: &image})
	up := Node(3)
	r.Must(cluster.Input{Join: &cluster.Join{
		Token: token.ID, Node: up.ID, Name: up.Name, Key: strings.Repeat("A", 43) + "=", Address: up.Address, Peer: 7947, Gossip: 7946,
	}})
	r.Must(cluster.Input{NodeUp: up})
	r.Commit("dev", `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 5
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main, image: web}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: one, annotations: {shoal.dev/strict: "true"}}
spec:
  strategy: {type: Recreate}
  selector: {matchLabels: {app: one}}
  template: {metadata: {labels: {app: one}}, spec: {containers: [{name: main, image: one}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec: {containers: [{name: main, image: bare}]}
`)
	r.Settle()
	r.Must(cluster.Input{Lead: &cluster.Lead{Term: 2}})
	r.Step(cluster.Input{NodeDown: &cluster.NodeDown{ID: Node(1).ID, Term: 1}})
	for _, id := range []place.NodeID{Node(1).ID, Node(2).ID, Node(1).ID, up.ID} {
		r.Advance(20)
		r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Term: 2}})
		r.Advance(9)
		r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Fenced: true, Term: 2}})
		r.Settle()
		for n := 1; n <= 3; n++ {
			if back := Node(n); back.ID == id && n < 3 {
				r.Must(cluster.Input{NodeUp: back})
			}
		}
		r.Settle()
	}
	r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: Node(1).ID, Term: 2, More: []place.NodeID{Node(2).ID, up.ID}}})
	r.Settle()
	r.Must(cluster.Input{NodeUp: Node(1)})
	r.Must(cluster.Input{NodeUp: Node(2)})
	r.Settle()
	bad := place.Taint{Key: "bad", Value: "yes", Effect: corev1.TaintEffectNoExecute}
	r.Must(cluster.Input{Taint: &cluster.Taint{ID: Node(2).ID, Taint: bad}})
	r.Settle()
	r.Must(cluster.Input{Taint: &cluster.Taint{ID: Node(2).ID, Taint: bad, Off: true}})
	r.Must(cluster.Input{Leave: &cluster.Leave{ID: up.ID}})
	r.Must(cluster.Input{From: cluster.From{Node: Node(2).ID}, Pressure: &cluster.Pressure{Disk: "a test"}})
	r.Commit("prod", "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec: {containers: [{name: main, image: bare}]}\n")
	r.Must(cluster.Input{From: cluster.From{Node: Node(2).ID}, Pressure: &cluster.Pressure{}})
	r.Must(cluster.Input{Clock: &cluster.Clock{ID: Node(2).ID, Ahead: 300_000, Term: 2}})
	r.Step(cluster.Input{Clock: &cluster.Clock{ID: Node(2).ID, Term: 1}})
	r.Must(cluster.Input{Clock: &cluster.Clock{ID: Node(2).ID, Term: 2}})
	r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: Node(1).ID, Drain: true}})
	r.Must(cluster.Input{From: cluster.From{Node: Node(2).ID}, Restarting: &cluster.Restarting{Until: r.Now + 30_000}})
	r.Step(cluster.Input{NodeDown: &cluster.NodeDown{ID: Node(2).ID, Term: 2}})
	r.Advance(700)
	r.Settle()
	r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: Node(1).ID, Off: true}})
	r.Must(cluster.Input{Rebalance: &cluster.Rebalance{}})
	r.Settle()
}

func batchStory(r *Ring) {
	r.Commit("dev", `
apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
spec:
  schedule: "*/7 3,4 * * *"
  timeZone: Europe/Oslo
  concurrencyPolicy: Forbid
  jobTemplate: {spec: {backoffLimit: 1, template: {spec: {restartPolicy: Never, containers: [{name: main, image: r}]}}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: sums}
spec:
  completions: 5
  parallelism: 2
  completionMode: Indexed
  template: {spec: {restartPolicy: Never, containers: [{name: main, image: s}]}}
`)
	for i := range 40 {
		r.Advance(300)
		for _, p := range r.Pods() {
			switch {
			case p.Deleting != 0:
				r.Must(Gone(p))
			case p.Active() && i%5 == 3:
				r.Must(Report(p, corev1.PodFailed, false))
			case p.Active():
				r.Must(Report(p, corev1.PodSucceeded, false))
			}
		}
	}
}
