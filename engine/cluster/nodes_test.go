package cluster_test

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
)

// onNodes is what the ledger says of each node's pods: "n1: web web lost; n2: web stopping; nowhere: web".
func onNodes(r *enginetest.Ring) string {
	at := map[string][]string{}
	for _, p := range r.Pods() {
		node := "nowhere"
		if n, ok := r.State.Nodes().Get(p.Node); ok {
			node = n.Name
		}
		word, _, _ := strings.Cut(p.Name, "-")
		switch {
		case p.Deleting != 0:
			word += " stopping"
		case p.Lost != 0:
			word += " lost"
		case p.Leaving != 0:
			word += " leaving"
		case p.IsReady():
			word += " ready"
		}
		at[node] = append(at[node], word)
	}
	var lines []string
	for node, pods := range at {
		slices.Sort(pods)
		lines = append(lines, node+": "+strings.Join(pods, ", "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// settleOn plays what the agents of some nodes do: pods become ready there, or are gone.
func settleOn(r *enginetest.Ring, nodes string) {
	r.T.Helper()
	for range 100 {
		moved := false
		for _, p := range r.Pods() {
			n, ok := r.State.Nodes().Get(p.Node)
			switch {
			case !ok || !strings.Contains(nodes, n.Name):
			case p.Deleting != 0:
				r.Must(enginetest.Gone(p))
				moved = true
			case p.Ready == 0 && p.Finished == 0:
				r.Must(enginetest.Report(p, corev1.PodRunning, true))
				moved = true
			}
		}
		for e := range r.State.Ended().Values() {
			if n, _ := r.State.Nodes().Get(e.Node); strings.Contains(nodes, n.Name) && !n.Down {
				r.Must(cluster.Input{From: cluster.From{Node: e.Node}, Phase: &cluster.Phase{Pod: e.Pod, Epoch: e.Epoch, Removed: true}})
				moved = true
			}
		}
		if !moved {
			return
		}
	}
	r.T.Fatal("the ring does not settle")
}

func workload(name, replicas string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s}
spec:
  replicas: %s
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: a}]}
`, name, replicas)
}

const strictly = `, annotations: {shoal.dev/strict: "true"}}
spec:
  strategy: {type: Recreate}
  replicas: 1
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {containers: [{name: main, image: a}]}
`

// TestFeature_R2 plays what becomes of pods when nodes go and come back. Steps are "down n1", "fence n1", "up n1", "drain
// n1", "uncordon n1", "leave n1", "away n1", "advance seconds", "settle n2 n3", "commit manifest", or what is to be seen.
func TestFeature_R2(t *testing.T) {
	manifests := map[string]string{
		"web3": workload("web", "3"), "web1": workload("web", "1"), "web2": workload("web", "2"), "none": "",
		"strict": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: one" + strictly,
		"kept":   "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: one" + strings.Replace(strictly, `"true"`, `"true", shoal.dev/isolation: keep`, 1),
		"bound":  "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: one" + strings.Replace(strictly, "{containers", "{nodeSelector: {kubernetes.io/hostname: n1}, containers", 1),
		"pod":    "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec: {containers: [{name: main, image: a}]}\n",
		"two":    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: one" + strings.Replace(strictly, "replicas: 1", "replicas: 2", 1),
		"kept2":  "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: one" + strings.Replace(strings.Replace(strictly, "replicas: 1", "replicas: 2", 1), `"true"`, `"true", shoal.dev/isolation: keep`, 1),
		"job":    job("", "a"), "tolerant": strings.Replace(workload("web", "3"), "{containers", "{tolerations: [{key: node.kubernetes.io/disk-pressure, operator: Exists}], containers", 1),
	}
	for _, c := range []struct {
		name  string
		steps []string
	}{
		{"spread over the nodes", []string{"commit web3", "settle n1 n2 n3", "n1: web ready; n2: web ready; n3: web ready"}},
		{"a lost node's pods run elsewhere; when it returns what runs there stays", []string{
			"commit web3", "settle n1 n2 n3", "down n1", "n1: web lost; n2: web, web ready; n3: web ready", "settle n2 n3",
			"n1: web lost; n2: web ready, web ready; n3: web ready", "up n1", "n1: web ready; n2: web ready, web stopping; n3: web ready",
			"settle n2", "n1: web ready; n2: web ready; n3: web ready",
		}},
		{"the lease changes nothing for them", []string{"commit web1", "settle n1", "down n1", "fence n1", "n1: web lost; n2: web", "settle n2", "up n1", "n1: web ready; n2: web stopping"}},
		{"it returns before the substitute has started", []string{"commit web1", "settle n1", "down n1", "n1: web lost; n2: web", "up n1", "n1: web ready; n2: web stopping"}},
		{"both nodes of three", []string{"commit web2", "settle n1 n2", "down n1", "down n2", "n1: web lost; n2: web lost; n3: web, web"}},
		{"all nodes: nothing is given up", []string{
			"commit web2", "settle n1 n2", "down n1", "down n2", "down n3", "n1: web lost; n2: web lost; n3: web stopping, web stopping; nowhere: web, web",
			"up n2", "n1: web lost; n2: web, web ready; n3: web stopping, web stopping", "up n1", "n1: web ready; n2: web ready, web stopping; n3: web stopping, web stopping",
		}},
		{"smaller while a node is lost", []string{"commit web3", "settle n1 n2 n3", "down n1", "settle n2 n3", "commit none", "settle n2 n3", "n1: web stopping", "fence n1", "", "ended 1"}},
		{"strict: none runs before the lease is over", []string{"commit strict", "settle n1", "n1: one ready", "down n1", "n1: one lost", "fence n1", "n2: one", "settle n2", "ended 1", "up n1", "n2: one ready", "settle n1", "ended 0"}},
		{"strict: it comes back in time", []string{"commit strict", "settle n1", "down n1", "up n1", "n1: one ready"}},
		{"strict, kept in isolation", []string{"commit kept", "settle n1", "down n1", "fence n1", "n1: one lost", "up n1", "n1: one ready"}},
		{"strict, bound to its node", []string{"commit bound", "settle n1", "down n1", "fence n1", "n1: one lost", "up n1", "n1: one ready"}},
		{"a pod of Git has one name", []string{"commit pod", "settle n1", "down n1", "n1: bare lost", "fence n1", "n2: bare"}},
		{"a job's pod", []string{"commit job", "settle n1", "down n1", "n1: work lost", "fence n1", "", "advance 10", "n2: work"}},
		{"an announced restart replaces nothing", []string{"commit web1", "settle n1", "away n1", "n1: web ready", "up n1", "n1: web ready"}},
		{"an announced restart that takes too long", []string{"commit web1", "settle n1", "away n1", "advance 31", "down n1", "n1: web lost; n2: web"}},
		{"flapping: the second time it is not relied on at once", []string{
			"commit web1", "settle n1", "down n1", "settle n2", "up n1", "settle n2", "n1: web ready", "down n1", "settle n2", "up n1", "n1: web lost; n2: web ready",
			"down n1", "up n1", "advance 29", "n1: web lost; n2: web ready", "advance 1", "n1: web ready; n2: web stopping",
		}},
		{"flapping long ago does not count", []string{"commit web1", "settle n1", "down n1", "up n1", "settle n2", "advance 601", "down n1", "up n1", "n1: web ready; n2: web stopping"}},
		{"no node is steady: what is lost goes on where it is, as soon as it is there", []string{
			"commit web2", "settle n1 n2", "down n1", "up n1", "settle n1 n2 n3", "down n2", "up n2", "settle n1 n2 n3", "down n3", "up n3", "settle n1 n2 n3", "n1: web ready; n2: web ready",
			"down n1", "down n2", "down n3", "n1: web lost; n2: web lost; n3: web stopping, web stopping; nowhere: web, web",
			"up n1", "n1: web, web ready; n2: web lost; n3: web stopping, web stopping", "up n2", "n1: web, web ready; n2: web lost; n3: web stopping, web stopping",
			"advance 15", "n1: web ready, web stopping; n2: web ready; n3: web stopping, web stopping",
		}},
		{"a substitute that is lost too gives way to the pod it stood for", []string{
			"commit web1", "settle n1", "down n1", "up n1", "down n1", "settle n2", "up n1", "down n3", "n1: web lost; n2: web ready", "down n2", "n1: web ready; n2: web stopping",
		}},
		{"no node is steady: new pods go to those that are there", []string{
			"down n1", "up n1", "down n1", "up n1", "down n2", "up n2", "down n2", "up n2", "down n3", "commit web2", "n1: web; n2: web",
		}},
		{"strict: on an unsteady node it is taken for what it is at once", []string{"commit strict", "settle n1", "down n1", "up n1", "down n1", "n1: one lost", "up n1", "n1: one ready"}},
		{"strict: its lease was over, so another starts where it was", []string{
			"commit strict", "settle n1", "down n1", "up n1", "down n2", "down n3", "down n1", "fence n1", "nowhere: one", "ended 1", "up n1", "n1: one", "settle n1", "n1: one ready", "ended 0",
		}},
		{"drain: pods stay until their substitutes are available", []string{
			"commit web3", "settle n1 n2 n3", "drain n1", "n1: web leaving; n2: web, web ready; n3: web ready", "settle n2", "n1: web stopping; n2: web ready, web ready; n3: web ready",
			"settle n1", "n2: web ready, web ready; n3: web ready",
		}},
		{"drain taken back", []string{"commit web1", "settle n1", "drain n1", "n1: web leaving; n2: web", "uncordon n1", "n1: web ready; n2: web stopping"}},
		{"drain of what may run once", []string{"commit strict", "settle n1", "drain n1", "n1: one stopping", "settle n1", "n2: one"}},
		{"drain of a pod of Git", []string{"commit pod", "settle n1", "drain n1", "n1: bare stopping", "settle n1", "n2: bare"}},
		{"drain of a job", []string{"commit job", "settle n1", "drain n1", "n1: work stopping", "settle n1", "n2: work"}},
		{"drain of all: pods stay where they are", []string{"commit web1", "settle n1", "drain n1", "drain n2", "drain n3", "n1: web leaving; n2: web stopping; n3: web stopping; nowhere: web"}},
		{"a short disk: what runs stays, what is new goes elsewhere", []string{
			"commit web1", "settle n1", "short n1", "n1: web ready", "commit web3", "n1: web ready; n2: web; n3: web",
			"settle n2 n3", "down n2", "n1: web ready; n2: web lost; n3: web, web ready", "room n1", "down n3", "n1: web, web, web ready; n2: web lost; n3: web lost, web lost",
		}},
		{"a short disk: what has not begun goes elsewhere", []string{"commit web3", "settle n2 n3", "short n1", "n1: web stopping; n2: web, web ready; n3: web ready"}},
		{"a short disk: what may run once waits for it", []string{"commit strict", "short n1", "n1: one", "room n1", "n1: one"}},
		{"a short disk: who tolerates that stays, and comes", []string{"commit tolerant", "short n1", "short n2", "short n3", "n1: web; n2: web; n3: web"}},
		{"short disks everywhere", []string{"short n1", "short n2", "short n3", "commit web1", "nowhere: web", "room n2", "n2: web"}},
		{"a short disk, and a short absence", []string{"short n1", "down n1", "up n1", "commit web2", "n2: web; n3: web"}},
		{"rebalance: a node that came back empty gets its share, and no pod goes before its substitute is there", []string{
			"commit web3", "settle n1 n2 n3", "down n1", "settle n2 n3", "commit none", "settle n2 n3", "commit web3", "settle n2 n3", "fence n1", "up n1", "settle n1", "n2: web ready, web ready; n3: web ready",
			"rebalance", "n1: web; n2: web leaving, web ready; n3: web ready", "settle n1", "n1: web ready; n2: web ready, web stopping; n3: web ready",
			"settle n2", "n1: web ready; n2: web ready; n3: web ready", "balanced", "rebalance", "balanced",
		}},
		{"rebalance of what may run once: it is stopped first", []string{
			"drain n2", "drain n3", "commit two", "settle n1", "n1: one ready, one ready", "uncordon n2", "uncordon n3", "rebalance", "n1: one ready, one stopping",
			"settle n1", "n1: one ready; n2: one", "settle n2", "n1: one ready; n2: one ready", "balanced",
		}},
		{"rebalance: what is kept for its node stays", []string{"drain n2", "drain n3", "commit kept2", "settle n1", "uncordon n2", "uncordon n3", "rebalance", "balanced", "n1: one ready, one ready"}},
		{"rebalance taken back", []string{
			"drain n2", "drain n3", "commit web2", "settle n1", "uncordon n2", "uncordon n3", "rebalance", "n1: web leaving, web ready; n2: web", "rebalance off", "balanced", "n1: web ready, web ready; n2: web stopping",
		}},
		{"rebalance is given up when a substitute does not become ready", []string{
			"drain n2", "drain n3", "commit web2", "settle n1", "uncordon n2", "uncordon n3", "rebalance", "advance 599", "n1: web leaving, web ready; n2: web", "advance 1", "balanced", "n1: web ready, web ready; n2: web stopping",
		}},
		{"rebalance: the node of a pod that moves is lost", []string{
			"drain n2", "drain n3", "commit web2", "settle n1", "uncordon n2", "uncordon n3", "rebalance", "down n1", "n1: web lost, web lost; n2: web; n3: web", "settle n2 n3", "up n1",
			"settle n1 n2 n3", "advance 600", "balanced",
		}},
		{"rebalance: off a node whose disk is short", []string{"commit web1", "settle n1", "short n1", "rebalance", "n1: web leaving; n2: web", "settle n2", "settle n1", "n2: web ready", "balanced"}},
		{"a wrong clock: what is there stays, what is new goes elsewhere", []string{"commit web1", "settle n1", "n1: web ready", "wrong n1", "commit web2", "n1: web ready; n2: web", "wrong n2", "wrong n3", "commit web3", "n1: web ready; n2: web; nowhere: web", "right n3", "n1: web ready; n2: web; n3: web"}},
		{"leave, drained", []string{"commit web1", "settle n1", "drain n1", "settle n2", "settle n1", "leave n1", "n2: web ready"}},
		{"leave, lost", []string{"commit web1", "settle n1", "down n1", "settle n2", "commit strict", "settle n2", "ended 0", "fence n1", "ended 1", "leave n1", "n2: one ready", "ended 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := enginetest.NewRing(t)
			for i := range 3 {
				up := enginetest.Node(i + 1)
				up.Labels = map[string]string{corev1.LabelHostname: up.Name}
				r.Must(cluster.Input{NodeUp: up})
			}
			for i, step := range c.steps {
				word, rest, _ := strings.Cut(step, " ")
				r.Now += 10
				var number int
				fmt.Sscanf(rest, "n%d", &number)
				id := enginetest.Node(number).ID
				switch word {
				case "commit":
					r.Commit("dev", manifests[rest])
				case "settle":
					settleOn(r, rest)
				case "down":
					r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: id}})
				case "fence":
					r.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: id, Fenced: true}})
				case "up":
					up := enginetest.Node(number)
					up.Labels = map[string]string{corev1.LabelHostname: up.Name}
					r.Must(cluster.Input{NodeUp: up})
				case "away":
					r.Must(cluster.Input{From: cluster.From{Node: id}, Restarting: &cluster.Restarting{Until: r.Now + 30_000}})
					if out := r.Step(cluster.Input{NodeDown: &cluster.NodeDown{ID: id}}); !strings.Contains(out.Rejected, "announced to be away") {
						t.Errorf("step %d: %q", i, out.Rejected)
					}
				case "drain":
					r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: id, Drain: true}})
				case "short", "room":
					words := map[string]string{"short": "it is full"}[word]
					r.Must(cluster.Input{From: cluster.From{Node: id}, Pressure: &cluster.Pressure{Disk: words}})
				case "wrong", "right":
					r.Must(cluster.Input{Clock: &cluster.Clock{ID: id, Ahead: map[string]int64{"wrong": -300_000}[word]}})
				case "rebalance":
					r.Must(cluster.Input{Rebalance: &cluster.Rebalance{Off: rest == "off"}})
				case "balanced":
					if ring, _ := r.State.Ring(); ring.Rebalance != nil {
						t.Fatalf("step %d: a rebalance goes on: %+v", i, ring.Rebalance)
					}
				case "uncordon":
					r.Must(cluster.Input{Cordon: &cluster.Cordon{ID: id, Off: true}})
				case "leave":
					r.Must(cluster.Input{Leave: &cluster.Leave{ID: id}})
				case "ended": // rows that prove what the node has to take down
					if got := fmt.Sprint(r.State.Ended().Len()); got != rest {
						t.Fatalf("step %d: %s have ended", i, got)
					}
				case "advance":
					fmt.Sscan(rest, &number)
					r.Advance(int64(number))
				default:
					if got := onNodes(r); got != step {
						t.Fatalf("step %d: got\n%s\nwant\n%s", i, got, step)
					}
				}
				for f := range r.State.Faults().Values() {
					t.Fatalf("step %d: %s: %s", i, f.Key, f.Reason)
				}
				if err := enginetest.Invariants(r.State); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			enginetest.Check(t, r)
		})
	}
}

// TestFeature_R1_Join shows who may join with which token, and what is said to the others.
func TestFeature_R1_Join(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	hash := strings.Repeat("ab", 32)
	token := func(id string, life int64) {
		r.Must(cluster.Input{Token: &cluster.Token{ID: id, Hash: hash, Expires: r.Now + life}})
	}
	token("first", 60_000)
	token("second", 60_000)
	token("late", 1000)
	r.Advance(2)
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	join := func(token, name string, id place.NodeID, change func(*cluster.Join)) string {
		j := &cluster.Join{Token: token, Node: id, Name: name, Key: key, Address: netip.MustParseAddr("192.0.2.9"), Peer: 7947, Gossip: 7946}
		if change != nil {
			change(j)
		}
		return r.Step(cluster.Input{Join: j}).Rejected
	}
	for _, c := range []struct{ what, got, want string }{
		{"unknown token", join("third", "n2", "b", nil), "join: node n2: the token is not known; make another with `shoal token create`"},
		{"late", join("late", "n2", "b", nil), "join: node n2: the token has expired; make another with `shoal token create`"},
		{"taken name", join("first", "n1", "b", nil), "join: node n1 (b, 192.0.2.9): the name is that of node 0000000000000001 at 192.0.2.1"},
		{"no name", join("first", "", "b", nil), `join: name "": want a DNS name in lower case`},
		{"no key", join("first", "n2", "b", func(j *cluster.Join) { j.Key = "x" }), "join: node n2: its key is no ed25519 public key in base64"},
		{"no port", join("first", "n2", "b", func(j *cluster.Join) { j.Peer = 0 }), "join: node n2 has no address and ports"},
		{"good", join("first", "n2", "b", nil), ""},
		{"again, for it did not hear", join("first", "n2", "b", nil), ""},
		{"used by another", join("first", "n3", "c", nil), "join: node n3: the token was used by node b; make another with `shoal token create`"},
		{"its id with another key", join("second", "n2", "b", func(j *cluster.Join) { j.Key = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 32))) }), "join: node n2: b is the id of node n2, whose key is another one"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	if n, ok := r.State.Nodes().Get("b"); !ok || n.PodCIDR.String() != "10.42.1.0/24" || n.Up {
		t.Errorf("the node that joined: %+v", n)
	}
	r.Commit("dev", workload("web", "4"))
	if got := onNodes(r); got != "n1: web, web, web, web" {
		t.Errorf("a node that has not said what it has gets no pods: %s", got)
	}
	r.Must(cluster.Input{Leave: &cluster.Leave{ID: "b"}})
	if got, want := join("first", "n2", "b", nil), "join: node n2 has left the ring; make another token with `shoal token create`"; got != want {
		t.Errorf("back by its old token: %q", got)
	}
	r.Advance(60)
	token("fourth", 1000)
	if n := r.State.Tokens().Len(); n != 1 {
		t.Errorf("%d tokens are known, the expired ones among them", n)
	}
	enginetest.Check(t, r)
}
