package cluster_test

import (
	"bytes"
	"fmt"
	"slices"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/render"

	"sigs.k8s.io/yaml"
)

// apps is a ring with n apps of one object of a pod each, and the entries of its manifest.
func apps(b *testing.B, n, nodes int) (*enginetest.Ring, []desired.Entry) {
	b.Helper()
	r := enginetest.NewRing(b)
	for i := range nodes {
		up := enginetest.Node(i + 1)
		up.Capacity.Pods, up.Capacity.MilliCPU = 250, 1_000_000
		r.Must(cluster.Input{NodeUp: up})
	}
	var entries []desired.Entry
	for i := range n {
		entries = append(entries, appEntry(b, r, i, "v1"))
	}
	slices.SortFunc(entries, func(a, b desired.Entry) int { return a.Key.Compare(b.Key) })
	activateEntries(r, entries)
	return r, entries
}

func appEntry(b *testing.B, r *enginetest.Ring, i int, image string) desired.Entry {
	b.Helper()
	name := fmt.Sprintf("app%05d", i)
	js, err := yaml.YAMLToJSON([]byte(deployment(name, 1, image)))
	if err != nil {
		b.Fatal(err)
	}
	app, blobs := desired.Compile(render.Environment{Name: "dev", Namespace: "dev"}, render.App{Name: name, Objects: []render.Object{{JSON: js, File: name}}})
	if len(app.Problems) > 0 {
		b.Fatal(app.Problems)
	}
	r.Content.Put(blobs[0].Bytes)
	return desired.Entry{Key: app.Items[0].Key, Digest: app.Items[0].Digest, Template: app.Items[0].Template, App: name}
}

func activateEntries(r *enginetest.Ring, entries []desired.Entry) {
	r.T.Helper()
	manifest := (&desired.Set{Environment: "dev", Entries: entries}).Encode()
	var previous desired.Digest
	if env, ok := r.State.Environments().Get("dev"); ok {
		previous = env.D
	}
	r.Must(cluster.Input{Activate: &cluster.Activate{
		Environment: "dev", Namespace: "dev", Ref: "refs/heads/main", Commit: commitID, Previous: previous, D: r.Content.Put(manifest),
	}})
}

// cpu reports what the process used for each turn: on a machine that others use too, the time by the clock says
// little.
func cpu(b *testing.B) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	begin := used()
	return func() { b.ReportMetric(float64(used()-begin)/float64(b.N)/1000, "cpu-us/op") }
}

// status is a report as a node makes it.
func status(i int) corev1.PodStatus {
	on := metav1.Unix(1_767_225_600+int64(i), 0)
	s := corev1.PodStatus{Phase: corev1.PodRunning, HostIP: "192.0.2.1", PodIP: "10.42.0.7", StartTime: &on}
	for _, c := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: on})
	}
	s.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "main", Ready: true, RestartCount: int32(i), Image: "app:v1", ImageID: "sha256:0123456789abcdef", ContainerID: "containerd://0123456789abcdef",
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: on}},
	}}
	return s
}

// BenchmarkStepPhase is a report on one of 1,000 pods that changes its status.
func BenchmarkStepPhase(b *testing.B) {
	r, _ := apps(b, 1000, 5)
	pods := slices.Collect(r.State.Pods().Values())
	index := r.State.Index()
	i := 0
	defer cpu(b)()
	for b.Loop() {
		p := pods[i%len(pods)]
		i++
		index++
		out := cluster.Step(r.State, cluster.Entry{Index: index, Time: r.Now, Input: cluster.Input{
			From: cluster.From{Node: p.Node, Boot: "b", Seq: uint64(i)}, Phase: &cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Status: status(i)},
		}}, r.Content)
		if out.Rejected != "" || out.Duplicate {
			b.Fatalf("%+v", out)
		}
	}
}

// BenchmarkStepActivateOne is a commit that changes one app of 1,000.
func BenchmarkStepActivateOne(b *testing.B) {
	r, entries := apps(b, 1000, 5)
	versions := [2]desired.Entry{entries[500], appEntry(b, r, 500, "v2")}
	i := 0
	defer cpu(b)()
	for b.Loop() {
		i++
		entries[500] = versions[i%2]
		activateEntries(r, entries)
	}
}

// BenchmarkStepActivateAll is the first commit of 1,000 apps.
func BenchmarkStepActivateAll(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		r, entries := apps(b, 0, 5)
		for i := range 1000 {
			entries = append(entries, appEntry(b, r, i, "v1"))
		}
		b.StartTimer()
		activateEntries(r, entries)
	}
}

// BenchmarkSnapshot encodes and decodes a State of 1,000 apps.
func BenchmarkSnapshot(b *testing.B) {
	r, _ := apps(b, 1000, 5)
	var size int
	defer cpu(b)()
	for b.Loop() {
		var buf bytes.Buffer
		if err := r.State.Encode(&buf); err != nil {
			b.Fatal(err)
		}
		size = buf.Len()
		if _, err := cluster.DecodeState(&buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size), "bytes")
}
