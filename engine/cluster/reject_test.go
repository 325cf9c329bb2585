package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

const commitID = source.ID("00000000000000000000000000000000000000aa")

// TestRejected lists inputs that change nothing but the list of rejected inputs, with their reasons.
func TestRejected(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	r.Commit("dev", web(1, "v1"))
	p := r.Pods()[0]
	dev, _ := r.State.Environments().Get("dev")
	garbage := r.Content.Put([]byte("no manifest"))
	notAnObject := r.Content.Put([]byte(`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":"many"}}`))
	badObject := (&desired.Set{Environment: "dev", Entries: []desired.Entry{{Key: deploymentKey("dev", "web"), Digest: notAnObject, App: "web"}}}).Encode()
	huge, err := r.Content.Manifest("dev", web(2_000_000_000, "v1"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := r.Content.Manifest("prod", web(1, "v1"))
	if err != nil {
		t.Fatal(err)
	}
	activate := func(change func(*cluster.Activate)) cluster.Input {
		a := &cluster.Activate{Environment: "dev", Namespace: "dev", Ref: "refs/heads/main", Commit: commitID, Previous: dev.D, D: dev.D}
		change(a)
		return cluster.Input{Activate: a}
	}
	node := func(change func(*cluster.NodeUp)) cluster.Input {
		n := enginetest.Node(2)
		change(n)
		return cluster.Input{NodeUp: n}
	}
	phase := func(from cluster.From, change func(*cluster.Phase)) cluster.Input {
		ph := &cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		change(ph)
		return cluster.Input{From: from, Phase: ph}
	}
	owner := cluster.From{Node: p.Node}
	for _, c := range []struct {
		name     string
		in       cluster.Input
		want     string
		recorded bool
	}{
		{"nothing", cluster.Input{}, "an input says exactly one thing, not 0", true},
		{"two things", cluster.Input{Tick: &cluster.Tick{}, Retire: &cluster.Retire{Environment: "dev"}}, "an input says exactly one thing, not 2", true},
		{"second genesis", cluster.Input{Genesis: enginetest.Genesis()}, "the ring has had its genesis", true},
		{"previous", activate(func(a *cluster.Activate) { a.Previous = other }), "environment dev: the active render is", true},
		{"commit", activate(func(a *cluster.Activate) { a.Commit = "HEAD" }), `environment dev: commit "HEAD" is no object id`, true},
		{"environment's name", activate(func(a *cluster.Activate) { a.Environment = "../x" }), `environment "../x": want a DNS label`, true},
		{"digest", activate(func(a *cluster.Activate) { a.D = "abc" }), "environment dev: d \"abc\": want 64 hex digits", true},
		{"garbage for a manifest", activate(func(a *cluster.Activate) { a.D = garbage }), "decode manifest: line 1", true},
		{"garbage for an object", activate(func(a *cluster.Activate) { a.D = r.Content.Put(badObject) }), "Deployment dev/web: object", true},
		{"another environment's manifest", activate(func(a *cluster.Activate) { a.D = other }), `is of environment "prod", not of dev`, true},
		{"more pods than one entry may make", activate(func(a *cluster.Activate) { a.D = huge }), "takes more work than one entry may", true},
		{"node without a name", node(func(n *cluster.NodeUp) { n.Name = "" }), "want a DNS name in lower case", true},
		{"node with another's name", node(func(n *cluster.NodeUp) { n.Name = "n1" }), "node n1 (0000000000000002, 192.0.2.2): the name is that of node 0000000000000001 at 192.0.2.1", true},
		{"node of negative size", node(func(n *cluster.NodeUp) { n.Capacity.Memory = -1 }), "node n2: its capacity is out of range", true},
		{"unknown node down", cluster.Input{NodeDown: &cluster.NodeDown{ID: "x"}}, `there is no node "x"`, true},
		{"leave of the only node", cluster.Input{Leave: &cluster.Leave{ID: enginetest.Node(1).ID}}, "node n1: it is the only one of its ring", true},
		{"leave of nobody", cluster.Input{Leave: &cluster.Leave{ID: "x"}}, `there is no node "x"`, true},
		{"lease of a node that is up", cluster.Input{NodeDown: &cluster.NodeDown{ID: enginetest.Node(1).ID, Fenced: true}}, "node n1: it has returned", false},
		{"away for an hour", cluster.Input{From: owner, Restarting: &cluster.Restarting{Until: r.Now + 3_600_000}}, "want at most 120000 ms from now", true},
		{"cordon off and drain", cluster.Input{Cordon: &cluster.Cordon{ID: enginetest.Node(1).ID, Off: true, Drain: true}}, "exclude each other", true},
		{"token's id", cluster.Input{Token: &cluster.Token{ID: "A B"}}, `token "A B": the id has 1 to 32 small letters and digits`, true},
		{"token's hash", cluster.Input{Token: &cluster.Token{ID: "a", Hash: "x"}}, "token a: hash: want 64 hex digits", true},
		{"token for ever", cluster.Input{Token: &cluster.Token{ID: "a", Hash: strings.Repeat("0", 64), Expires: 1 << 60}}, "within 30 days", true},
		{"tag of nothing", cluster.Input{Tag: &cluster.Tag{Name: "shoal.local/web:v1"}}, "tag shoal.local/web:v1: there is none to take away", true},
		{"tag of garbage", cluster.Input{Tag: &cluster.Tag{Name: "shoal.local/web:v1", Digest: "v2"}}, `digest "v2": want sha256: and 64 hex digits`, true},
		{"tag without a name", cluster.Input{Tag: &cluster.Tag{Digest: "sha256:" + strings.Repeat("0", 64)}}, "its name has 1 to 1024 bytes", true},
		{"ref moved meanwhile", cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: "refs/heads/main", Old: commitID, New: commitID}}}}, `ref refs/heads/main: it is at "", not at`, true},
		{"a push of nothing", cluster.Input{Push: &cluster.Push{}}, "push of 0 refs: want 1 to", true},
		{"a ref moved twice", cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: "refs/heads/a", New: commitID}, {Name: "refs/heads/a", Old: commitID}}}}, "ref refs/heads/a: moved twice", true},
		{"one ref of two is elsewhere", cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: "refs/heads/a", New: commitID}, {Name: "refs/heads/b", Old: commitID, New: commitID}}}}, `ref refs/heads/b: it is at "", not at`, true},
		{"ref's name", cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: "refs/heads/../x", New: commitID}}}}, "git check-ref-format", true},
		{"ref's name of control characters", cluster.Input{Push: &cluster.Push{Refs: []cluster.Ref{{Name: "refs/heads/a\nb", New: commitID}}}}, "git check-ref-format", true},
		{"unknown environment", cluster.Input{Retire: &cluster.Retire{Environment: "x"}}, `there is no environment "x"`, true},
		{"disk pressure of nobody", cluster.Input{From: cluster.From{Node: "x"}, Pressure: &cluster.Pressure{Disk: "full"}}, `there is no node "x"`, true},
		{"disk pressure in too many words", cluster.Input{From: owner, Pressure: &cluster.Pressure{Disk: strings.Repeat("x", 1025)}}, "has 1025 bytes, at most 1024 are kept", true},
		{"disk pressure by hand", cluster.Input{Taint: &cluster.Taint{ID: enginetest.Node(1).ID, Off: true, Taint: place.Taint{Key: "node.kubernetes.io/disk-pressure"}}}, "a node gives it to itself while its disk is short", true},
		{"clock of nobody", cluster.Input{Clock: &cluster.Clock{ID: "x", Ahead: 1}}, `there is no node "x"`, true},
		{"clock by hand", cluster.Input{Taint: &cluster.Taint{ID: enginetest.Node(1).ID, Taint: place.Taint{Key: "shoal.dev/clock-skew", Effect: "NoSchedule"}}}, "a node has it while its clock is off that of most voters", true},
		{"no rebalance to end", cluster.Input{Rebalance: &cluster.Rebalance{Off: true}}, "rebalance: none goes on", true},
		{"engine goes back", cluster.Input{SetEngine: &cluster.SetEngine{Version: cluster.EngineVersion - 1}}, fmt.Sprintf("engine version %d: it is %d already", cluster.EngineVersion-1, cluster.EngineVersion), true},
		{"engine a node does not know", cluster.Input{SetEngine: &cluster.SetEngine{Version: cluster.EngineVersion + 1}}, fmt.Sprintf("engine version %d: node n1 knows only %d", cluster.EngineVersion+1, cluster.EngineVersion), true},
		{"report of a pod that is not there", phase(owner, func(ph *cluster.Phase) { ph.Pod = "x" }), `there is no pod "x"`, false},
		{"report of another node", phase(cluster.From{Node: "y"}, func(*cluster.Phase) {}), "node y with epoch", false},
		{"report of another epoch", phase(owner, func(ph *cluster.Phase) { ph.Epoch++ }), "does not own it", false},
		{"a status too large", phase(owner, func(ph *cluster.Phase) { ph.Status.Message = strings.Repeat("x", 70_000) }), "at most 65536 are kept", true},
	} {
		before, list := text(t, r.State), r.State.Rejected().Len()
		out := r.Step(c.in)
		if !strings.Contains(out.Rejected, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, out.Rejected, c.want)
		}
		if got := r.State.Rejected().Len() - list; (got == 1) != c.recorded {
			t.Errorf("%s: %d recorded", c.name, got)
		}
		if after := text(t, r.State); after != before {
			t.Errorf("%s: it changed something:\n%s", c.name, after)
		}
	}
	r.Settle()
	r.Commit("dev", web(2, "v2"))
	r.Settle()
	if got := show(r); got != "2 ReplicaSet r2 ready" {
		t.Error(got)
	}
	enginetest.Check(t, r)
}

// text is all of a State but where it is in the log and what was rejected.
func text(t *testing.T, s *cluster.State) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Encode(&b); err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(b.String(), "\n")
	var keep []string
	for line := range strings.SplitSeq(rows, "\n") {
		if !strings.HasPrefix(line, `{"t":"rejected"`) {
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "\n")
}

// poisoned is content that makes rules panic: what it gives for one digest is chosen by the test.
type poisoned struct {
	desired.Content
	digest desired.Digest
	get    func() ([]byte, error)
}

func (p poisoned) Get(d desired.Digest) ([]byte, error) {
	if d == p.digest {
		return p.get()
	}
	return p.Content.Get(d)
}

// TestPoisonedInput shows an input that panics Step: it is rejected, and the next one goes through.
func TestPoisonedInput(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	r.Commit("dev", web(1, "v1"))
	r.Settle()
	before := text(t, r.State)
	in := r.Activation("dev", web(1, "v2"))
	content := poisoned{r.Content, in.Activate.D, func() ([]byte, error) { panic("a bug of ours") }}
	out := cluster.Step(r.State, cluster.Entry{Index: r.State.Index() + 1, Time: r.Now, Input: in}, content)
	if out.Rejected != "panic: a bug of ours" || out.Stalled != "" {
		t.Fatalf("%+v", out)
	}
	if text(t, r.State) != before {
		t.Error("a poisoned input changed something")
	}
	for rejection := range r.State.Rejected().Values() {
		if rejection.Reason != out.Rejected || rejection.Input != "activate dev" {
			t.Errorf("recorded: %+v", rejection)
		}
	}
	in = r.Activation("dev", web(1, "v3"))
	if out := cluster.Step(r.State, cluster.Entry{Index: r.State.Index() + 1, Time: r.Now, Input: in}, r.Content); out.Rejected != "" {
		t.Fatal(out.Rejected)
	}
	if err := enginetest.Invariants(r.State); err != nil {
		t.Error(err)
	}
}

// TestStalled shows an entry whose bytes are not here: nothing changes, not even the index, and it goes through
// once they are.
func TestStalled(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	in := r.Activation("dev", web(1, "v1"))
	for _, digest := range []desired.Digest{in.Activate.D, firstObject(t, r.Content, in.Activate.D)} {
		hash := r.State.Hash()
		content := poisoned{r.Content, digest, func() ([]byte, error) { return nil, errors.New("input/output error") }}
		e := cluster.Entry{Index: r.State.Index() + 1, Time: r.Now, Input: in}
		out := cluster.Step(r.State, e, content)
		if !strings.Contains(out.Stalled, "input/output error") || out.Rejected == "" || r.State.Hash() != hash {
			t.Fatalf("%+v", out)
		}
	}
	r.Must(in)
	enginetest.Check(t, r)
}

func firstObject(t *testing.T, content enginetest.Store, d desired.Digest) desired.Digest {
	t.Helper()
	set, err := desired.DecodeSet(content[d])
	if err != nil {
		t.Fatal(err)
	}
	return set.Entries[0].Digest
}

// TestFault_OneRule shows an object whose rule fails: the others go on, time goes on, and the next commit mends it.
func TestFaultOfOneRule(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	taken := strings.Replace(strings.Replace(`
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec: {containers: [{name: main, image: x}]}
`, "apiVersion", "apiVersion", 1), "NAME", "web", 1)
	r.Commit("dev", deployment("web", 1, "v1"))
	r.Settle()
	name := r.Pods()[0].Name
	r.Commit("dev", all(deployment("web", 1, "v1"), strings.Replace(taken, "name: web", "name: "+name, 1), deployment("other", 1, "v1")))
	f, ok := r.State.Faults().Get(desired.Key{Kind: "Pod", Namespace: "dev", Name: name})
	if !ok || !strings.Contains(f.Reason, "the name is that of a pod of ReplicaSet dev/web-") {
		t.Fatalf("%+v", f)
	}
	r.Settle()
	if got := show(r); got != "2 ReplicaSet r1 ready" {
		t.Error(got)
	}
	r.Advance(1000) // tried again now and then
	r.Commit("dev", all(deployment("web", 1, "v1"), deployment("other", 1, "v1")))
	if n := r.State.Faults().Len(); n != 0 {
		t.Errorf("%d faults are left", n)
	}
	if n := r.State.Wake(); n != 0 {
		t.Errorf("a ring at rest wants a tick at %d", n)
	}
	enginetest.Check(t, r)
}

// TestDuplicates shows inputs that arrive again, and out of order.
func TestDuplicates(t *testing.T) {
	r := enginetest.NewRing(t)
	ref := func(boot string, seq uint64) cluster.Input {
		return cluster.Input{From: cluster.From{Node: "a", Boot: boot, Seq: seq}, Push: &cluster.Push{Refs: []cluster.Ref{{Name: fmt.Sprintf("refs/heads/%s%d", boot, seq), New: commitID}}}}
	}
	for _, c := range []struct {
		boot      string
		seq       uint64
		duplicate bool
	}{
		{"x", 1, false},
		{"x", 1, true},
		{"x", 3, false},
		{"x", 2, false},
		{"x", 2, true},
		{"x", 3, true},
		{"y", 1, false},
		{"x", 3, true},
		{"x", 4, false},
		{"y", 1, true},
		{"x", 200, false},
		{"x", 4, true},
		{"x", 137, false},
		{"x", 136, true},
		{"x", 199, false},
		{"x", 199, true},
	} {
		out := r.Step(ref(c.boot, c.seq))
		if out.Duplicate != c.duplicate || out.Rejected != "" {
			t.Errorf("%s %d: %+v", c.boot, c.seq, out)
		}
		if out.Duplicate && len(out.Changed) != 0 {
			t.Errorf("%s %d: changed %v", c.boot, c.seq, out.Changed)
		}
	}
	for i := range 20 { // boots are bounded
		r.Must(ref(fmt.Sprintf("b%02d", i), 1))
	}
	enginetest.Check(t, r)
}

// TestEntriesInOrder shows entries that are not after the last one, and time that goes back.
func TestEntriesInOrder(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	hash := r.State.Hash()
	if out := cluster.Step(r.State, r.Log[1], r.Content); !strings.Contains(out.Rejected, "entry 2 is not after entry 2") || r.State.Hash() != hash {
		t.Errorf("%+v", out)
	}
	now := r.Now
	r.Now -= 3_600_000
	r.Commit("dev", web(1, "v1"))
	if r.State.Time() != now {
		t.Errorf("time went from %d to %d", now, r.State.Time())
	}
	enginetest.Check(t, r)
}

// TestRejectionsAreBounded shows that the newest are kept.
func TestRejectionsAreBounded(t *testing.T) {
	r := enginetest.NewRing(t)
	for range 400 {
		r.Step(cluster.Input{Cordon: &cluster.Cordon{ID: "x"}})
	}
	if n := r.State.Rejected().Len(); n != 256 {
		t.Errorf("%d are kept", n)
	}
	for i := range r.State.Rejected().All() {
		if i != 146 { // of 401 entries
			t.Errorf("the oldest is %d", i)
		}
		break
	}
}

func TestChanged(t *testing.T) {
	r := enginetest.NewRing(t)
	out := r.Must(cluster.Input{NodeUp: enginetest.Node(1)})
	if got := fmt.Sprint(out.Changed); got != "[{nodes 0000000000000001 false}]" {
		t.Error(got)
	}
	if v := r.State.Nodes().Version(enginetest.Node(1).ID); v != 2<<20 {
		t.Errorf("version %d", v)
	}
	out = r.Must(cluster.Input{NodeUp: enginetest.Node(1)})
	if len(out.Changed) != 0 {
		t.Errorf("the same again changed %v", out.Changed)
	}
	r.Commit("dev", web(1, "v1"))
	out = r.Must(cluster.Input{Retire: &cluster.Retire{Environment: "dev"}})
	var lines []string
	for _, c := range out.Changed {
		line := c.Table
		if c.Deleted {
			line += " gone"
		}
		lines = append(lines, line)
	}
	if got := strings.Join(lines, ", "); got != "deployments gone, environments gone, objects gone, pods, replicasets gone, runs gone, wakes gone" {
		t.Error(got)
	}
}

// TestAddresses shows that a released pod address rests while another one is free.
func TestAddresses(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	ips := func() string {
		var out []string
		for _, p := range r.Pods() {
			out = append(out, strings.TrimPrefix(p.IP.String(), "10.42.0."))
		}
		return strings.Join(out, " ")
	}
	r.Commit("dev", web(1, "v1"))
	r.Settle()
	if got := ips(); got != "2" {
		t.Fatal(got)
	}
	r.Must(enginetest.Gone(r.Pods()[0]))
	if got := ips(); got != "3" {
		t.Fatal(got)
	}
	r.Now += 600_000
	r.Must(enginetest.Gone(r.Pods()[0]))
	if got := ips(); got != "2" {
		t.Fatal(got)
	}
	for range 300 { // every address was had once: the one released first is taken
		r.Must(enginetest.Gone(r.Pods()[0]))
	}
	if a := r.State.Addresses().Len(); a != 253 {
		t.Errorf("%d addresses are remembered", a)
	}
	if n, _ := r.State.Nodes().Get("0000000000000001"); n.PodCIDR != netip.MustParsePrefix("10.42.0.0/24") {
		t.Error(n.PodCIDR)
	}
	enginetest.Check(t, r)
}

// TestPending shows pods that wait for room, with the reason, and get it.
func TestPending(t *testing.T) {
	r := enginetest.NewRing(t)
	big := strings.Replace(web(1, "v1"), "cpu: 100m", "cpu: 3, memory: 1Gi", 1)
	r.Commit("dev", big)
	if got := show(r); got != "1 ReplicaSet r1 pending: 0/0 nodes: no node has joined" {
		t.Fatal(got)
	}
	r.Up(1)
	if got := show(r); got != "1 ReplicaSet r1 starting" {
		t.Fatal(got)
	}
	r.Settle()
	r.Commit("dev", all(big, strings.ReplaceAll(big, "web", "two")))
	if got := show(r); got != "1 ReplicaSet r1 pending: 0/1 nodes: insufficient cpu: asks 3, 1 free\n1 ReplicaSet r1 ready" {
		t.Fatal(got)
	}
	r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: enginetest.Node(1).ID}})
	r.Commit("dev", strings.ReplaceAll(big, "web", "two"))
	r.Settle()
	if got := show(r); got != "1 ReplicaSet r1 pending: 0/1 nodes: cordoned" {
		t.Fatal(got)
	}
	r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: enginetest.Node(1).ID, Off: true}})
	if got := show(r); got != "1 ReplicaSet r1 starting" {
		t.Fatal(got)
	}
	p := r.Pods()[0]
	if p.Epoch != r.State.Index() || p.Reason != "the only node" {
		t.Errorf("epoch %d, reason %q", p.Epoch, p.Reason)
	}
	enginetest.Check(t, r)
}
