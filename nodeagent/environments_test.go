package nodeagent

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// deploys is a node with a repository, whose commits are judged when a test says so.
type deploys struct {
	t testing.TB
	m *machine
	u *upstream
	d *Deployer
	n *Node
}

func newDeploys(t *testing.T) *deploys {
	m := newMachine(t)
	return deploysOn(m, m.agent())
}

func deploysOn(m *machine, a *Agent) *deploys {
	u := newUpstream()
	d := NewDeployer(DeployOptions{
		Ledger: (*memLedger)(m), Content: memContent{Store: m.ring.Content}, Source: u, Renderer: u, Images: u, Branch: dev.Ref,
		Journal: a.journal, Log: slog.New(slog.DiscardHandler),
	})
	n := &Node{
		Agent: a, Deployer: d, Version: "v0", Source: func() api.Source { return api.Source{URL: "here"} }, Warnings: func() []string { return nil },
	}
	return &deploys{m.t, m, u, d, n}
}

// look judges what is new, and gives what the pusher sees, without times.
func (ds *deploys) look() string {
	ds.t.Helper()
	var progress bytes.Buffer
	_, err := ds.d.Look(ds.t.Context(), &progress)
	if err != nil {
		fmt.Fprintln(&progress, err)
	}
	var lines []string
	for line := range strings.Lines(progress.String()) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " in 0 ms")
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// status is what is said of the environments: name, number of the commit, problems, warnings.
func (ds *deploys) status() string {
	ds.t.Helper()
	s, err := ds.n.Status(ds.t.Context())
	if err != nil {
		ds.t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range s.Environments {
		fmt.Fprintf(&b, "%s runs %s", e.Name, digits(e.Commit))
		if e.Candidate != "" {
			fmt.Fprintf(&b, ", not %s", digits(e.Candidate))
		}
		b.WriteString("\n")
		if e.Undeclared != "" {
			fmt.Fprintf(&b, "  %s\n", e.Undeclared)
		}
		for _, p := range e.Problems {
			fmt.Fprintf(&b, "  %s\n", p)
		}
		for _, p := range e.Warnings {
			fmt.Fprintf(&b, "  warning: %s\n", p)
		}
	}
	return strings.TrimSpace(b.String())
}

// digits is the number of a commit.
func digits(id string) string { return strings.TrimLeft(id[:min(2, len(id))], "0") }

func (ds *deploys) expect(what, got, want string) {
	ds.t.Helper()
	if got != want {
		ds.t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

// What is allowed and probably not meant is said to the pusher, in status, why and the journal, and goes with the
// next commit.
func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		ds.u.push(deployment("web") + "---\n" + service("nobody"))
		const warning = "apps/web/web.yaml:10: Service nobody: spec.selector: no pod of namespace dev has these labels: the Service has no endpoints"
		ds.expect("push", ds.look(), "dev: warning: "+warning+"\ndev: rendered 1 apps, 2 objects")
		ds.expect("status", ds.status(), "dev runs 1\n  warning: "+warning)
		w, err := ds.n.Why(t.Context(), "svc", "dev", "nobody")
		if err != nil || !strings.Contains(strings.Join(w.Lines, "\n"), "warning: "+warning) {
			t.Error(w, err)
		}
		events, _ := ds.n.Events(t.Context(), "Environment dev")
		ds.expect("journal", strings.Join(events, "\n"), "00:00:00.000 Environment dev: Warning: "+warning)

		ds.u.push(deployment("web") + "---\n" + service("web"))
		ds.expect("push of a mended one", ds.look(), "dev: rendered 1 apps, 2 objects")
		ds.expect("status of a mended one", ds.status(), "dev runs 2")
	})
}

// What the ring refuses, because another environment has it, is a problem of the commit, at the file and line of the
// object. It is not tried again and again, but when something else runs than did then.
func TestRefusedByTheRing(t *testing.T) {
	port := func(name string, port int) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %[1]s}\nspec: {type: NodePort, selector: {app: %[1]s}, ports: [{port: 80, nodePort: %[2]d}]}\n", name, port)
	}
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		ds.u.push(deployment("web") + "---\n" + port("web", 30080))
		ds.u.declared[ds.u.head] = append(ds.u.declared[ds.u.head], dev, prod)
		ds.u.pushTo(prod.Ref, deployment("web")+"---\n"+port("web-admin", 30080)+"---\n"+port("web", 30081))
		const problem = "apps/web/web.yaml:10: Service prod/web-admin in environment prod and Service dev/web in environment dev both have nodePort 30080"
		ds.expect("push", ds.look(), `dev: rendered 1 apps, 2 objects
prod: warning: apps/web/web.yaml:10: Service web-admin: spec.selector: no pod of namespace prod has these labels: the Service has no endpoints
prod: rendered 1 apps, 3 objects
prod: `+problem+`
prod: commit 020000000000 is not accepted; what ran goes on`)
		ds.expect("status", ds.status(), "dev runs 1\nprod runs , not 2\n  "+problem+"\n  warning: apps/web/web.yaml:10: Service web-admin: spec.selector: no pod of namespace prod has these labels: the Service has no endpoints")
		renders, entries := ds.u.renders, len(ds.m.ring.Log)
		ds.expect("another look", ds.look(), "")
		if ds.u.renders != renders || len(ds.m.ring.Log) != entries {
			t.Error("a commit that the ring refused was tried again although nothing had changed")
		}
		// The other environment gives the port up: both go on in one look.
		ds.u.push(deployment("web") + "---\n" + port("web", 30090))
		if got := ds.look(); strings.Contains(got, "not accepted") {
			t.Error(got)
		}
		ds.expect("status afterwards", ds.status(), "dev runs 3\nprod runs 2\n  warning: apps/web/web.yaml:10: Service web-admin: spec.selector: no pod of namespace prod has these labels: the Service has no endpoints")
	})
}

// An object of another environment is refused by its name.
func TestObjectOfAnotherEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		twin := prod
		twin.Namespace = "dev"
		ds.u.push(deployment("web"))
		ds.u.declared[ds.u.head] = append(ds.u.declared[ds.u.head], dev, twin)
		ds.u.pushTo(prod.Ref, deployment("other")+"---\n"+deployment("web"))
		ds.look()
		ds.expect("status", ds.status(), "dev runs 1\nprod runs , not 2\n  apps/web/web.yaml:10: Deployment dev/web is in environment dev and in environment prod")
	})
}

const undeclared = `shoal.cue of main declares it no longer: what runs goes on, and env/prod is not followed. To take it away, push a commit to main with the trailer "Shoal-Retire: prod"; to keep it, declare it again`

// An environment that vanishes from shoal.cue goes on as it runs, and is reported, until a commit names it.
func TestVanishedEnvironment(t *testing.T) {
	setUp := func(t *testing.T) *deploys {
		ds := newDeploys(t)
		ds.u.push(deployment("web"))
		ds.u.declared[ds.u.head] = append(ds.u.declared[ds.u.head], dev, prod)
		ds.u.pushTo(prod.Ref, deployment("shop")+"---\n"+service("shop"))
		ds.look()
		ds.expect("at first", ds.status(), "dev runs 1\nprod runs 2")
		return ds
	}
	for _, tt := range []struct {
		name   string
		do     func(ds *deploys)
		said   string // at the look after it
		status string
	}{
		{"without a word", func(ds *deploys) { ds.u.declare("no staging", dev) }, "prod: " + undeclared, "dev runs 3\nprod runs 2\n  " + undeclared},
		{"a new commit of its branch is not followed", func(ds *deploys) {
			ds.u.declare("no staging", dev)
			ds.look()
			ds.u.pushTo(prod.Ref, deployment("shop"))
		}, "", "dev runs 3\nprod runs 2\n  " + undeclared},
		{"by the commit that takes it out", func(ds *deploys) {
			ds.u.declare("no prod\n\nShoal-Retire: prod", dev)
		}, `prod: retired by commit 030000000000 "no prod" by Ann <ann@shop.example>; its pods stop`, "dev runs 3"},
		{"by a later one", func(ds *deploys) {
			ds.u.declare("no prod", dev)
			ds.look()
			ds.u.declare("now really\n\nShoal-Retire: prod", dev)
		}, `prod: retired by commit 040000000000 "now really" by Ann <ann@shop.example>; its pods stop`, "dev runs 4"},
		{"by one that came in the same push before others", func(ds *deploys) {
			ds.u.declare("no prod\n\nShoal-Retire: prod", dev)
			ds.u.declare("more", dev)
			ds.u.declare("and more", dev)
		}, `prod: retired by commit 030000000000 "no prod" by Ann <ann@shop.example>; its pods stop`, "dev runs 5"},
		{"by the second parent of a merge", func(ds *deploys) {
			main := ds.u.head
			ds.u.declare("no prod\n\nShoal-Retire: prod", dev)
			side := ds.u.head
			ds.u.head = main
			ds.u.declare("Merge pull request #1", dev)
			ds.u.parents[ds.u.head] = append(ds.u.parents[ds.u.head], side)
		}, `prod: retired by commit 030000000000 "no prod" by Ann <ann@shop.example>; its pods stop`, "dev runs 4"},
		{"a word for another one", func(ds *deploys) { ds.u.declare("x\n\nShoal-Retire: staging", dev) }, "prod: " + undeclared, "dev runs 3\nprod runs 2\n  " + undeclared},
		{"leave to delete objects is none to retire", func(ds *deploys) { ds.u.declare("x\n\nShoal-Allow-Delete: all", dev) }, "prod: " + undeclared, "dev runs 3\nprod runs 2\n  " + undeclared},
		{"an old word does not count again", func(ds *deploys) {
			ds.u.declare("no prod\n\nShoal-Retire: prod", dev)
			ds.look()
			ds.u.declare("prod again", dev, prod)
			ds.look()
			ds.u.declare("a bad merge", dev)
		}, "prod: " + undeclared, "dev runs 5\nprod runs 2\n  " + undeclared},
		{"a word for one that is declared", func(ds *deploys) { ds.u.declare("x\n\nShoal-Retire: prod", dev, prod) }, "", "dev runs 3\nprod runs 2"},
		{"declared again", func(ds *deploys) {
			ds.u.declare("no prod", dev)
			ds.look()
			ds.u.declare("prod again", dev, prod)
		}, "", "dev runs 4\nprod runs 2"},
		{"a list that cannot be read", func(ds *deploys) { ds.u.push("no list") }, "", "dev runs 1\nprod runs 2\nrepository runs \n  shoal.cue:1: is wrong"},
		{"a default branch that is gone", func(ds *deploys) { ds.u.head = "" }, "", "dev runs 1\nprod runs 2"},
		{"where history ends", func(ds *deploys) {
			ds.u.declare("no prod", dev)
			ds.u.parents[ds.u.head] = []source.ID{"ff00000000000000000000000000000000000000"}
		}, "prod: " + undeclared, "dev runs 3\nprod runs 2\n  " + undeclared},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ds := setUp(t)
				tt.do(ds)
				var said []string
				for line := range strings.Lines(ds.look()) {
					if strings.HasPrefix(line, "prod: ") {
						said = append(said, strings.TrimSpace(line))
					}
				}
				ds.expect("the pusher sees", strings.Join(said, "\n"), tt.said)
				ds.expect("status", ds.status(), tt.status)
				reads := ds.u.reads
				ds.expect("another look", ds.look(), "")
				if ds.u.reads > reads+1 {
					t.Errorf("another look at the same commit reads %d lists", ds.u.reads-reads)
				}
			})
		})
	}
}

// What was retired is gone from the ring, and what it held is free for others in the same look.
func TestRetiredMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		old, renamed := prod, prod
		old.Name, old.Namespace, renamed.Namespace = "old", "shop", "shop"
		ds.u.push(deployment("web"))
		ds.u.declared[ds.u.head] = append(ds.u.declared[ds.u.head], dev, old)
		ds.u.pushTo(prod.Ref, deployment("shop"))
		ds.look()
		w, err := ds.n.Why(t.Context(), "deploy", "shop", "shop")
		if err != nil || !strings.Contains(w.Lines[0], "environment old") {
			t.Fatal(w, err)
		}
		ds.u.declare("renamed", dev, renamed)
		ds.look()
		ds.expect("without a word", ds.status(), `dev runs 3
old runs 2
  `+strings.ReplaceAll(undeclared, "Retire: prod", "Retire: old")+`
prod runs , not 2
  apps/web/web.yaml:1: Deployment shop/shop is in environment old and in environment prod`)
		if w, err := ds.n.Why(t.Context(), "deploy", "shop", "shop"); err != nil || !strings.Contains(strings.Join(w.Lines, "\n"), "environment old: shoal.cue of main declares it no longer") {
			t.Error(w, err)
		}
		ds.u.declare("and away\n\nShoal-Retire: old", dev, renamed)
		ds.look()
		ds.expect("with it", ds.status(), "dev runs 4\nprod runs 2")
		events, _ := ds.n.Events(t.Context(), "Environment old")
		if len(events) != 2 || !strings.Contains(events[1], "Environment old: Retired: commit 04") {
			t.Error(events)
		}
	})
}

// The branches of all environments are followed. One that does not exist, or not any more, is said, and takes nothing away.
func TestAbsentBranch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDeploys(t)
		ds.u.push(deployment("web"))
		ds.u.declared[ds.u.head] = append(ds.u.declared[ds.u.head], dev, prod)
		ds.look()
		ds.expect("followed", fmt.Sprint(ds.u.followed), "[refs/heads/main refs/heads/env/prod]")
		ds.expect("before its first push", ds.status(), "dev runs 1\nprod runs \n  refs/heads/env/prod: there is no such branch yet; push it, or name another in shoal.cue")
		ds.u.pushTo(prod.Ref, deployment("shop"))
		ds.look()
		ds.expect("pushed", ds.status(), "dev runs 1\nprod runs 2")
		was := ds.u.heads[prod.Ref]
		delete(ds.u.heads, prod.Ref)
		ds.look()
		ds.expect("gone", ds.status(), "dev runs 1\nprod runs 2\n  refs/heads/env/prod: the branch is gone; what runs goes on")
		ds.u.heads[prod.Ref] = was
		ds.look()
		ds.expect("there again", ds.status(), "dev runs 1\nprod runs 2")
	})
}
