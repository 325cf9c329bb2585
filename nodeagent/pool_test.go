package nodeagent

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/render"
)

// limited is an environment with nodes and a quota, as shoal.cue says them at lines 5 and 6.
func limited(env render.Environment, nodes, quota map[string]string) render.Environment {
	at := "environments." + env.Name
	env.Nodes, env.Quota = nodes, quota
	env.Policy = render.Policy{Lines: map[string]int{at + ".nodes": 5, at + ".quota": 6}, NodesAt: at + ".nodes", QuotaAt: at + ".quota"}
	return env
}

// A commit that exceeds its environment's quota is refused as a whole and what ran goes on; it is not looked at again until the quota is another,
// and then comes in by itself, also where shoal.cue stands on another branch.
func TestFeature_V5_QuotaOfACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		ds.u.push(replicas("web", 2))
		ds.u.declared[ds.u.head] = []render.Environment{limited(prod, nil, map[string]string{"pods": "3"})}
		ds.u.pushTo(prod.Ref, replicas("web", 2))
		ds.expect("what fits", ds.look(), "prod: rendered 1 apps, 1 objects")
		ds.u.pushTo(prod.Ref, joined(replicas("web", 2), replicas("api", 3), service("web")))
		const over = "shoal.cue:6: environments.prod.quota.pods: quota: environment prod would have 5 of pods, and may have 3: Deployment prod/api has 3 (apps/web/web.yaml:11), Deployment prod/web has 2 (apps/web/web.yaml:1)"
		ds.expect("what does not", ds.look(), "prod: "+over+"\nprod: commit 030000000000 is not accepted; what ran goes on")
		ds.expect("status", ds.status(), "prod runs 2, not 3\n  "+over)
		renders := ds.u.renders
		ds.expect("another look", ds.look(), "")
		if ds.u.renders != renders {
			t.Error("it was rendered again though nothing has changed")
		}
		ds.u.declare("more", limited(prod, nil, map[string]string{"pods": "5"}))
		ds.expect("a bigger quota", ds.look(), "prod: rendered 1 apps, 3 objects")
		ds.expect("status then", ds.status(), "prod runs 3")
		ds.u.declare("less", limited(prod, nil, map[string]string{"pods": "1"}))
		ds.expect("a smaller one", ds.look(), "")
		ds.expect("status of what ran before", ds.status(), "prod runs 3")
	})
}

// The pods of an environment run on its nodes; those that find none say so with the place in shoal.cue, and go there when there is one.
func TestFeature_V5_PodsSayTheirNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		ds.u.push(deployment("web"))
		ds.u.declared[ds.u.head] = []render.Environment{limited(dev, map[string]string{"pool": "blue"}, nil)}
		ds.look()
		status := func() string {
			t.Helper()
			s, err := ds.n.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, p := range s.Pods {
				out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s", p.Node, p.Message)))
			}
			return strings.Join(out, "\n")
		}
		ds.expect("without such a node", status(), "0/1 nodes: node selector pool=blue does not match; environment dev runs on nodes with pool=blue only (environments.dev.nodes, shoal.cue:5), and no node is one")
		for pod := range ds.m.ring.State.Pods().Values() {
			w, err := ds.n.Why(t.Context(), "pod", "", pod.Name)
			if err != nil || !strings.Contains(strings.Join(w.Lines, "\n"), "pool=blue only (environments.dev.nodes, shoal.cue:5), and no node is one") {
				t.Errorf("why: %v %v", w, err)
			}
		}
		second := enginetest.Node(2)
		second.Labels, second.Capacity.Pods = map[string]string{"pool": "blue"}, 0
		ds.m.ring.Must(cluster.Input{NodeUp: second})
		ds.expect("with one that is full", status(), "0/2 nodes: 1 node selector pool=blue does not match; 1 too many pods: 0 of 0; environment dev runs on nodes with pool=blue only (environments.dev.nodes, shoal.cue:5): n2")
		second.Capacity.Pods = 10
		ds.m.ring.Must(cluster.Input{NodeUp: second})
		ds.expect("with room", status(), "n2")
	})
}

// TestFault_P2_BiggerQuota: what a preview may ask for, and where it runs, is what the base says (F-P3), whatever the pull request brings. One that
// asks for more is refused, says so, and comes in after a push that asks for less.
func TestFault_P2_BiggerQuota(t *testing.T) {
	s := newPreviewed(t, `{"from": "pulls", "quota": 3, "nodes": {"pool": "cheap"}, "each": {"pods": 2, "services": "1"}}`)
	big := s.pull(1, replicas("web", 3))
	hostile := dev
	hostile.Policy.Previews = []byte(`{"from": "pulls", "quota": 3, "each": {"pods": 500}}`)
	s.u.declared[big] = []render.Environment{hostile}
	s.step("a pull request that asks for more, and brings a bigger quota", "pr-1 shows 3, does not run it")
	says := func(want string) {
		t.Helper()
		all, err := s.n.Previews(t.Context())
		if err != nil || len(all.Previews) != 1 || strings.Join(all.Previews[0].Problems, "\n") != want {
			t.Errorf("%+v, %v; want %s", all.Previews, err, want)
		}
	}
	says("shoal.cue: previews.each.pods: quota: environment pr-1 would have 3 of pods, and may have 2: Deployment pr-1/web has 3 (apps/web/web.yaml:1)")
	s.pull(1, replicas("web", 2))
	s.step("a push that asks for less", "pr-1 shows 4")
	says("")
	for p := range s.m.ring.State.Pods().Values() {
		if p.Environment == "pr-1" && (p.Node != "" || !strings.Contains(p.Reason, "node selector pool=cheap does not match")) {
			t.Errorf("pod %s: %s %s", p.Name, p.Node, p.Reason)
		}
	}
	foreign := strings.Replace(deployment("web"), "spec: {containers", "spec: {nodeSelector: {pool: production}, containers", 1)
	s.pull(1, foreign)
	s.step("a push that asks for other nodes", "pr-1 shows 5")
	all, _ := s.n.Previews(t.Context())
	if got := strings.Join(all.Previews[0].Problems, "\n"); !strings.Contains(got, "nodes/foreign: asks for pool=production, and environment pr-1 runs on nodes with pool=cheap only") {
		t.Errorf("problems: %s", got)
	}
}

// What the base says becomes another: the preview is merged with that, and its row in the ledger, by which every node renders it, says so. Nothing
// is written while nothing changes.
func TestFeature_V5_PreviewsFollowTheirRules(t *testing.T) {
	s := newPreviewed(t, `{"from": "pulls", "quota": 3, "nodes": {"pool": "a"}, "each": {"pods": 1}}`)
	s.pull(1, replicas("web", 2))
	s.sees()
	row := func() string {
		p, ok := s.m.ring.State.Previews().Get("pr-1")
		env := PreviewEnvironment(p.Environment)
		return fmt.Sprint(ok, env.Nodes, env.Quota)
	}
	s.expect("at first", row(), "true map[pool:a] map[pods:1]")
	writes := len(s.m.ring.Log)
	s.sees()
	if len(s.m.ring.Log) != writes {
		t.Error("it is written again though nothing has changed")
	}
	s.policy(`{"from": "pulls", "quota": 3, "nodes": {"pool": "b"}, "each": {"pods": 2}}`)
	s.step("by other rules", "pr-1 shows 3")
	s.expect("merged with other rules", row(), "true map[pool:b] map[pods:2]")
}

// A node that comes late renders what came in before the quota was smaller, or there was one: it changes no object.
func TestOwnRenderOfWhatIsOverItsQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newDeploys(t)
		nodes := map[string]string{"pool": "blue"}
		first.u.push(deployment("web"))
		first.u.declared[first.u.head] = []render.Environment{limited(prod, nodes, nil)}
		first.u.pushTo(prod.Ref, replicas("web", 2))
		first.look()
		for range maxOlder + 1 { // beyond what is searched for another declaration
			first.u.declare("a quota", limited(prod, nodes, map[string]string{"pods": "1", "requests.cpu": "1"}))
		}
		first.look()
		first.expect("status", first.status(), "prod runs 2")
		late := first.other(ownRenders(t, filepath.Join(t.TempDir(), "renders")))
		late.look()
		if late.u.renders != 1 || late.lacking("prod") != 0 {
			t.Errorf("%d renders, and %d objects are lacking", late.u.renders, late.lacking("prod"))
		}
	})
}
