package nodeagent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/logs"
)

// A pod's line in status has the words of kubectl, and the message that helps most.
func TestPodInStatus(t *testing.T) {
	n := &Node{Agent: newMachine(t).agent(), Deployer: &Deployer{}}
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	ended := func(reason string, code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code}}
	}
	status := func(phase corev1.PodPhase, containers ...corev1.ContainerStatus) corev1.PodStatus {
		return corev1.PodStatus{Phase: phase, ContainerStatuses: containers}
	}
	type troubles = map[string]plan.Trouble
	for _, tt := range []struct {
		name     string
		pod      control.Pod
		troubles troubles
		want     string
	}{
		{"placed nowhere", control.Pod{Reason: "0/1 nodes: no room"}, nil, "0/0 Pending 0: 0/1 nodes: no room"},
		{"placed", control.Pod{Node: "x"}, nil, "0/0 Pending 0"},
		{"being made", control.Pod{Node: "x", Status: status(corev1.PodPending, corev1.ContainerStatus{State: waiting("ContainerCreating", "")})}, nil, "0/1 ContainerCreating 0"},
		{"a pull that fails", control.Pod{Node: "x", Status: status(corev1.PodPending, corev1.ContainerStatus{State: waiting("ErrImagePull", "no such host")})}, nil, "0/1 ErrImagePull 0: no such host"},
		{"runs", control.Pod{Node: "x", Status: status(corev1.PodRunning, corev1.ContainerStatus{Ready: true, State: running}, corev1.ContainerStatus{State: running, RestartCount: 2})}, nil, "1/2 Running 2"},
		{"crashes", control.Pod{Node: "x", Status: status(corev1.PodRunning, corev1.ContainerStatus{Name: "app", RestartCount: 5, State: waiting("CrashLoopBackOff", ""), LastTerminationState: ended("Error", 3)})}, nil, "0/1 CrashLoopBackOff 5: container app ended with 3 (Error)"},
		{"has done its work", control.Pod{Node: "x", Status: status(corev1.PodSucceeded, corev1.ContainerStatus{State: ended("Completed", 0)})}, nil, "0/1 Completed 0"},
		{"out of memory", control.Pod{Node: "x", Status: status(corev1.PodFailed, corev1.ContainerStatus{State: ended("OOMKilled", 137)})}, nil, "0/1 OOMKilled 0"},
		{"initializes", control.Pod{Node: "x", Status: corev1.PodStatus{
			Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{State: ended("Completed", 0)}, {Name: "prepare", State: waiting("CrashLoopBackOff", ""), LastTerminationState: ended("Error", 1)}},
			ContainerStatuses: []corev1.ContainerStatus{{State: waiting("PodInitializing", "")}},
		}}, nil, "0/1 Init:CrashLoopBackOff 0: container prepare ended with 1 (Error)"},
		{"is initialized", control.Pod{Node: "x", Status: corev1.PodStatus{
			Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{{State: ended("Completed", 0)}}, ContainerStatuses: []corev1.ContainerStatus{{Ready: true, State: running}},
		}}, nil, "1/1 Running 0"},
		{"past its deadline", control.Pod{Node: "x", Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "DeadlineExceeded", Message: "longer than 5 s"}}, nil, "0/0 DeadlineExceeded 0: longer than 5 s"},
		{"is told to stop", control.Pod{Node: "x", Deleting: 1, Why: "the template changed", Status: status(corev1.PodRunning, corev1.ContainerStatus{Ready: true, State: running})}, nil, "1/1 Terminating 0: the template changed"},
		{"a step that fails on this node", control.Pod{Node: "x", Status: status(corev1.PodPending)}, troubles{"app": {Reason: "FailedMount", Message: "no space left"}}, "0/0 Pending 0: no space left"},
	} {
		p := n.pod(cluster.NewState(), &tt.pod, tt.troubles)
		got := fmt.Sprintf("%d/%d %s %d", p.Ready, p.Containers, p.Status, p.Restarts)
		if p.Message != "" {
			got += ": " + p.Message
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// running is a node on which commits run, with a log directory.
func running(t *testing.T) *deploys {
	m := newMachine(t)
	ds := deploysOn(m, m.run())
	ds.n.LogDir = t.TempDir()
	return ds
}

func (ds *deploys) pod(base string) *control.Pod {
	ds.t.Helper()
	for p := range ds.m.ring.State.Pods().Values() {
		if strings.HasPrefix(p.Name, base+"-") {
			return p
		}
	}
	ds.t.Fatalf("no pod of %s", base)
	return nil
}

// Status is what people ask first: whole, sorted, in kubectl's words.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := running(t)
		ds.m.images["web:v1"] = true
		nodePort := "apiVersion: v1\nkind: Service\nmetadata: {name: open}\nspec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, nodePort: 30080}, {name: dns, port: 53, protocol: UDP}]}\n"
		headless := "apiVersion: v1\nkind: Service\nmetadata: {name: head}\nspec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}\n"
		ds.u.push(joined(replicas("web", 2), nodePort, headless, cronJob("report")))
		ds.look()
		nudge(ds.m.changes)
		synctest.Wait()
		time.Sleep(90 * time.Second)
		ds.m.mu.Lock()
		ds.m.ring.Now = time.Now().UnixMilli()
		ds.m.ring.Must(cluster.Input{Tick: &cluster.Tick{}})
		ds.m.mu.Unlock()
		nudge(ds.m.changes)
		synctest.Wait()
		s, err := ds.n.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s %s engine %t ring %s %t\n", s.Version, s.Node, s.Address, s.Engine == cluster.EngineVersion, s.Ring[:4], s.Index > 3 && len(s.StateHash) == 64)
		for _, e := range s.Environments {
			fmt.Fprintf(&b, "%s %s %s %q by %s, %d objects, %s\n", e.Name, e.Ref, e.Namespace, e.Subject, e.Author, e.Objects, e.Activated.UTC().Format(time.TimeOnly))
		}
		for _, p := range s.Pods {
			name, _, _ := strings.Cut(p.Name, "-")
			owner, _, _ := strings.Cut(p.Owner, "-")
			fmt.Fprintf(&b, "%s/%s of %s on %s %s: %d/%d %s\n", p.Namespace, name, owner, p.Node, p.IP, p.Ready, p.Containers, p.Status)
		}
		for _, v := range s.Services {
			fmt.Fprintf(&b, "%s/%s %s %s %d\n", v.Namespace, v.Name, v.ClusterIP, strings.Join(v.Ports, ","), v.Endpoints)
		}
		for _, c := range s.CronJobs {
			fmt.Fprintf(&b, "%s/%s %s active %d last %s next %s\n", c.Namespace, c.Name, c.Schedule, c.Active, c.Last.UTC().Format(time.TimeOnly), c.Next.UTC().Format(time.TimeOnly))
		}
		expect(t, "status", b.String(), `v0 n1 192.0.2.1 engine true ring 0123 true
dev refs/heads/main dev "subject" by Ann <ann@shop.example>, 4 objects, 00:00:00
dev/report of Job/report on n1 10.42.0.4: 1/1 Running
dev/web of ReplicaSet/web on n1 10.42.0.2: 1/1 Running
dev/web of ReplicaSet/web on n1 10.42.0.3: 1/1 Running
dev/head 80/TCP 2
dev/open 10.43.0.2 80:30080/TCP,53:30000/UDP 2
dev/report * * * * * active 1 last 00:01:00 next 00:02:00`)
	})
}

// Logs are those of the container that is meant, and what cannot be shown is said.
func TestLogsOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := running(t)
		ds.m.images["web:v1"] = true
		ds.u.push(joined(deployment("web"), deployment("slow")))
		ds.m.pullErr["slow:v1"] = errors.New("no such host")
		ds.look()
		nudge(ds.m.changes)
		synctest.Wait()
		web, slow := ds.pod("web"), ds.pod("slow")
		dir := logs.Dir(ds.n.LogDir, "dev", web.Name, string(web.ID), "app")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for attempt, text := range []string{"the first life", "the second life"} {
			line := "2026-01-01T00:00:00.000000000Z stdout F " + text + "\n"
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.log", attempt)), []byte(line), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		read := func(pod string, o api.LogOptions) string {
			var out bytes.Buffer
			o.Tail = -1
			if err := ds.n.Logs(t.Context(), "dev", pod, o, &out, &out); err != nil {
				return err.Error()
			}
			return strings.TrimSpace(out.String())
		}
		expect(t, "log", read(web.Name, api.LogOptions{}), "the first life")
		expect(t, "a previous log that there is not", read(web.Name, api.LogOptions{Previous: true}), "container app of pod dev/"+web.Name+" was never restarted: there is no previous log")
		expect(t, "another container", read(web.Name, api.LogOptions{Container: "side"}), `pod dev/`+web.Name+` has no container "side"; it has app`)
		expect(t, "another pod", read("nobody", api.LogOptions{}), "pod dev/nobody: not found")
		expect(t, "one that has not started", read(slow.Name, api.LogOptions{}), "container app of pod dev/"+slow.Name+" has not started yet")
		ds.m.exit("web:v1", 1)
		synctest.Wait()
		expect(t, "after a restart", read(web.Name, api.LogOptions{}), "the second life")
		expect(t, "before it", read(web.Name, api.LogOptions{Previous: true}), "the first life")
	})
}

// A command runs in the container that is meant, with what its terminal says.
func TestExecOnANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := running(t)
		ds.m.images["web:v1"] = true
		ds.u.push(deployment("web"))
		ds.look()
		nudge(ds.m.changes)
		synctest.Wait()
		resize := make(chan api.Size, 1)
		resize <- api.Size{Width: 80, Height: 25}
		var out bytes.Buffer
		ds.m.exec = func(id control.PodID, container string, o ExecOptions) (int, error) {
			size := <-o.Resize
			fmt.Fprint(o.Stdout, id == ds.pod("web").ID, " ", container, " ", o.Args, " ", o.TTY, " ", size)
			return 7, nil
		}
		code, err := ds.n.Exec(t.Context(), "dev", ds.pod("web").Name, api.ExecRequest{Args: []string{"sh"}, TTY: true}, api.Streams{Stdout: &out, Resize: resize})
		if s := fmt.Sprint(code, " ", err, " ", out.String()); s != "7 <nil> true app [sh] true {80 25}" {
			t.Error(s)
		}
		if _, err := ds.n.Exec(t.Context(), "dev", "nobody", api.ExecRequest{}, api.Streams{}); !errors.Is(err, api.ErrNotFound) {
			t.Error(err)
		}
		if _, err := ds.n.Exec(t.Context(), "dev", ds.pod("web").Name, api.ExecRequest{Container: "side"}, api.Streams{}); err == nil || !strings.Contains(err.Error(), `no container "side"`) {
			t.Error(err)
		}
	})
}

// What is active can be read, and what happened, with how often.
func TestWhatCanBeRead(t *testing.T) {
	ds := newDeploys(t)
	ds.u.push(deployment("web"))
	ds.look()
	active := ds.d.active("dev")
	if b, err := ds.n.Manifest(t.Context(), "dev"); err != nil || !bytes.Equal(b, ds.m.ring.Content[active.D]) {
		t.Error(err)
	}
	if _, err := ds.n.Manifest(t.Context(), "prod"); !errors.Is(err, api.ErrNotFound) {
		t.Error(err)
	}
	for _, o := range slices.Collect(maps.Values(maps.Collect(ds.m.ring.State.Objects().All()))) {
		b, err := ds.n.Blob(t.Context(), string(o.Digest))
		if err != nil || !json.Valid(b) {
			t.Errorf("%s: %v", o.Key, err)
		}
	}
	if _, err := ds.n.Blob(t.Context(), strings.Repeat("0", 64)); err == nil {
		t.Error("bytes that are not there")
	}
	ds.n.Agent.journal.now = func() time.Time { return time.UnixMilli(enginetest.Epoch).UTC() }
	for range 3 {
		ds.n.Agent.journal.Add(Event{Object: "Node", Reason: "Drift", Message: "a rule is gone"})
	}
	events, err := ds.n.Events(t.Context(), "Node")
	if err != nil || strings.Join(events, "\n") != "00:00:00.000 Node: Drift: a rule is gone (3 times)" {
		t.Error(events, err)
	}
}
