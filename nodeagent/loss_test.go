package nodeagent

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// lossesShown are losses as text.
func lossesShown(losses []api.Loss) string {
	var b strings.Builder
	for _, l := range losses {
		fmt.Fprintf(&b, "%s: majority %t, %d of %d voters, %d move, %d wait\n", strings.Join(l.Nodes, "+"), l.Majority, l.Voters-l.Lost, l.Voters, l.Moved, l.Waiting)
		for _, c := range append(l.Pods, l.Services...) {
			fmt.Fprintf(&b, "  %s %s: %s\n", c.Op, c.Name, c.Why)
		}
	}
	return b.String()
}

// onNode has a pod ask for a node by its host name.
func onNode(text, name string) string {
	return strings.Replace(text, "containers:", "nodeSelector: {kubernetes.io/hostname: "+name+"}, containers:", 1)
}

func sized(name, memory string) string {
	return strings.Replace(deployment(name), "image:", "resources: {requests: {memory: "+memory+"}}, image:", 1)
}

// nodesOf is a node of a ring of count nodes that runs the objects, of which the first voters vote.
func nodesOf(t testing.TB, count, voters int, text string) (*Node, *machine) {
	m := newMachine(t)
	m.ring.Up(count)
	m.ring.Step(cluster.Input{Lead: &cluster.Lead{Term: 3}}) // what no leader says now is void
	m.ring.Commit("dev", text)
	m.ring.Settle()
	standing := map[place.NodeID]Standing{}
	for i := range count {
		standing[enginetest.Node(i+1).ID] = Standing{Voter: i < voters, Leader: i == 0}
	}
	return &Node{Agent: m.agent(), Facts: RingFacts{Standing: func() map[place.NodeID]Standing { return standing }}}, m
}

// A plan without nodes says where their pods go, what finds no place and why, which Services nobody answers, and whether
// the ring goes on deciding.
func TestFeature_R5_PlanWithoutNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := nodesOf(t, 3, 3, joined(
			replicas("web", 3), service("web"), onNode(deployment("disk"), "n2"), service("disk"),
			sized("big-a", "5Gi"), sized("big-b", "5Gi"), sized("big-c", "5Gi"),
		))
		hash := m.ring.State.Hash()
		for _, tt := range []struct {
			without []string
			want    string
		}{
			{[]string{"n2"}, `n2: majority true, 2 of 3 voters, 1 move, 2 wait
wait Deployment dev/big-b: 1 pod finds no node: 0/3 nodes: 1 down; 2 insufficient memory
wait Deployment dev/disk: 1 pod finds no node: 0/3 nodes: 1 down; 2 node selector kubernetes.io/hostname=n2 does not match
move Deployment dev/web: 1 pod starts on n1
down Service dev/disk: nobody answers until a node is back`},
			{[]string{"n2", "n1", "n2"}, `n2+n1: majority false, 1 of 3 voters, 0 move, 5 wait
stay Deployment dev/big-a: 1 pod waits for its node: no majority is left to start it elsewhere
stay Deployment dev/big-b: 1 pod waits for its node: no majority is left to start it elsewhere
stay Deployment dev/disk: 1 pod waits for its node: no majority is left to start it elsewhere
stay Deployment dev/web: 2 pods wait for their nodes: no majority is left to start it elsewhere
down Service dev/disk: nobody answers until a node is back`},
			{[]string{"n1", "n2", "n3"}, `n1+n2+n3: majority false, 0 of 3 voters, 0 move, 7 wait
stay Deployment dev/big-a: 1 pod waits for its node: no majority is left to start it elsewhere
stay Deployment dev/big-b: 1 pod waits for its node: no majority is left to start it elsewhere
stay Deployment dev/big-c: 1 pod waits for its node: no majority is left to start it elsewhere
stay Deployment dev/disk: 1 pod waits for its node: no majority is left to start it elsewhere
stay Deployment dev/web: 3 pods wait for their nodes: no majority is left to start it elsewhere
down Service dev/disk: nobody answers until a node is back
down Service dev/web: nobody answers until a node is back`},
			{[]string{"any"}, `n2: majority true, 2 of 3 voters, 1 move, 2 wait
wait Deployment dev/big-b: 1 pod finds no node: 0/3 nodes: 1 down; 2 insufficient memory
wait Deployment dev/disk: 1 pod finds no node: 0/3 nodes: 1 down; 2 node selector kubernetes.io/hostname=n2 does not match
move Deployment dev/web: 1 pod starts on n1
down Service dev/disk: nobody answers until a node is back
n1: majority true, 2 of 3 voters, 1 move, 1 wait
wait Deployment dev/big-a: 1 pod finds no node: 0/3 nodes: 1 down; 2 insufficient memory
move Deployment dev/web: 1 pod starts on n2
n3: majority true, 2 of 3 voters, 1 move, 1 wait
wait Deployment dev/big-c: 1 pod finds no node: 0/3 nodes: 1 down; 2 insufficient memory
move Deployment dev/web: 1 pod starts on n1`},
		} {
			p, err := n.Plan(t.Context(), api.PlanRequest{Without: tt.without})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, strings.Join(tt.without, ","), strings.TrimSuffix(lossesShown(p.Losses), "\n"), tt.want)
		}
		if m.ring.State.Hash() != hash {
			t.Error("a plan changed the ring")
		}
		if _, err := n.Plan(t.Context(), api.PlanRequest{Without: []string{"n1", "elsewhere"}}); err == nil || !strings.Contains(err.Error(), `no node is named "elsewhere"`) {
			t.Errorf("%v", err)
		}
	})
}

// Pods of a node that is not relied on yet have their substitutes: its loss takes nothing away.
func TestFeature_R5_PlanWithoutAnUnsteadyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := nodesOf(t, 3, 3, joined(replicas("web", 3)))
		for range 2 {
			m.ring.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: enginetest.Node(2).ID, Term: 3}})
			m.ring.Settle()
			m.ring.Must(cluster.Input{NodeUp: enginetest.Node(2)})
			m.ring.Settle()
		}
		p, err := n.Plan(t.Context(), api.PlanRequest{Without: []string{"n2"}})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "n2", strings.TrimSuffix(lossesShown(p.Losses), "\n"), "n2: majority true, 2 of 3 voters, 0 move, 0 wait")
	})
}

// A roll-out that is under way is carried out before the question is asked: its surplus pod is none that waits.
func TestFeature_R5_PlanWithoutDuringARollOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := nodesOf(t, 3, 3, joined(replicas("web", 3)))
		m.ring.Commit("dev", strings.Replace(replicas("web", 3), "image:", "env: [{name: GREETING, value: two}], image:", 1))
		if pods := len(m.ring.Pods()); pods != 4 {
			t.Fatalf("%d pods, want one more than three", pods)
		}
		p, err := n.Plan(t.Context(), api.PlanRequest{Without: []string{"any"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range p.Losses {
			if l.Moved != 1 || l.Waiting != 0 {
				t.Errorf("%s", lossesShown([]api.Loss{l}))
			}
		}
	})
}

// An unsteady node is where pods go that no other suits.
func TestFeature_R5_PlanWithoutTheSteadyOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := nodesOf(t, 3, 3, joined(replicas("web", 2)))
		for _, node := range []int{2, 2, 3} {
			m.ring.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: enginetest.Node(node).ID, Term: 3}})
			m.ring.Settle()
			if node == 2 {
				m.ring.Must(cluster.Input{NodeUp: enginetest.Node(node)})
				m.ring.Settle()
			}
		}
		p, err := n.Plan(t.Context(), api.PlanRequest{Without: []string{"n1"}})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "n1", strings.TrimSuffix(lossesShown(p.Losses), "\n"), `n1: majority true, 2 of 3 voters, 2 move, 0 wait
move Deployment dev/web: 1 pod starts on n2 (unsteady; nothing steadier suits)
move Deployment dev/web: 1 pod that runs still takes its place on n2 (unsteady; nothing steadier suits)`)
	})
}

// Of five two may be lost: all losses of one or two are looked at, and what has one pod is away for a time. The commit that
// is planned counts, not what runs.
func TestFeature_R5_PlanWithoutAnyTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := nodesOf(t, 5, 5, joined(replicas("web", 3), service("web"), deployment("redis"), service("redis")))
		p, err := n.Plan(t.Context(), api.PlanRequest{Without: []string{"2"}})
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]int{}
		for _, l := range p.Losses {
			kind := fmt.Sprintf("%d lost, majority %t, waiting %d", len(l.Nodes), l.Majority, l.Waiting)
			for _, c := range l.Services {
				kind += ", " + c.Op + " " + c.Name
			}
			kinds[kind]++
		}
		want := "map[1 lost, majority true, waiting 0:4 1 lost, majority true, waiting 0, gap Service dev/redis:1 2 lost, majority true, waiting 0:6 2 lost, majority true, waiting 0, gap Service dev/redis:4]"
		if got := fmt.Sprint(kinds); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}

		next, err := m.ring.Content.Manifest("dev", joined(replicas("web", 3), service("web"), replicas("redis", 2), service("redis")))
		if err != nil {
			t.Fatal(err)
		}
		p, err = carry(n, "dev", m.ring.Content, nil, next, "1")
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Losses) != 5 || len(p.Pods) != 1 {
			t.Errorf("%+v", p)
		}
		for _, l := range p.Losses {
			if len(l.Services) > 0 {
				t.Errorf("with two of it: %+v", l)
			}
		}
	})
}

// A lost node of a ring that has lost one already.
func TestFeature_R5_PlanWithoutOneMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := nodesOf(t, 4, 3, joined(replicas("web", 4)))
		m.ring.Must(cluster.Input{NodeDown: &cluster.NodeDown{ID: enginetest.Node(4).ID, Term: 3}})
		p, err := n.Plan(t.Context(), api.PlanRequest{Without: []string{"n3"}})
		if err != nil {
			t.Fatal(err)
		}
		if l := p.Losses[0]; l.Waiting != 0 || strings.Contains(fmt.Sprint(l.Pods), "n4") || l.Moved == 0 {
			t.Errorf("%+v", l)
		}
	})
}

// All losses of one or two of 20 nodes that run 1,000 pods.
func BenchmarkPlanWithoutTwo(b *testing.B) {
	var docs []string
	for i := range 100 {
		docs = append(docs, replicas(fmt.Sprintf("app%d", i), 10), service(fmt.Sprintf("app%d", i)))
	}
	n, _ := nodesOf(b, 20, 5, joined(docs...))
	for b.Loop() {
		p, err := n.Plan(b.Context(), api.PlanRequest{Without: []string{"2"}})
		if err != nil || len(p.Losses) != 210 {
			b.Fatal(len(p.Losses), err)
		}
	}
}
