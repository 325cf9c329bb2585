//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gatedPipeline is promoted into staging by the ring itself, and into production by people. CLOSED is when production is frozen.
const gatedPipeline = `package shoal

import "shoal.dev/schema"

schema.#Repository

environments: {
	dev: ref: "main"
	staging: {
		ref: "env/staging", after: ["dev"], promote: "auto"
		gates: {
			soak: "1s"
			verify: ["smoke"]
			checks: {
				answers: {http: "http://web.dev.svc.cluster.local:8080/readyz", interval: "10s"}
				scraped: {promql: "count(up == 1) >= 1", at: "http://127.0.0.1:9090", interval: "10s"}
			}
		}
	}
	production: {
		ref: "env/production", after: ["staging"]
		gates: {
			verify: ["smoke"]
			approvals: [{of: ["leads"]}]
			freezes: [{CLOSED, zone: "Europe/Oslo", why: "holidays"}]
		}
	}
}
`

// smoke is a Job that asks the web server of its environment, or fails.
func smoke(command string) string {
	tries := "0"
	if strings.HasPrefix(command, `"get"`) { // where no gate asks for it, it may begin before what it asks
		tries = "3"
	}
	return `package smoke

import "shoal.dev/schema"

schema.#Package

job: smoke: spec: {
	backoffLimit: ` + tries + `
	template: spec: {
		restartPolicy: "Never"
		containers: [{name: "main", image: "shoal.local/probe:v1", args: [` + command + `]}]
	}
}
`
}

// prometheus runs Debian's Prometheus, which scrapes itself.
func (n *Node) prometheus() {
	n.t.Helper()
	dir := n.t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("scrape_configs: [{job_name: self, scrape_interval: 1s, static_configs: [{targets: ['127.0.0.1:9090']}]}]\n"), 0o644); err != nil {
		n.t.Fatal(err)
	}
	binary, err := filepath.Abs("../../../.tools/prometheus")
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := n.command(ctx, binary, "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", "127.0.0.1:9090")
	if err := cmd.Start(); err != nil {
		n.t.Fatalf("%v: make setup unpacks it", err)
	}
	n.t.Cleanup(func() { cancel(); _ = cmd.Wait() })
}

// The ring promotes by itself what has soaked, is healthy, verified and answers; what is not stays where it is. Into production somebody
// else than its author must have signed for it, and not while it is frozen.
func TestFeature_P3_Gates(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	n.prometheus()
	frozen := fmt.Sprintf(`since: %q, until: %q`, time.Now().AddDate(0, 0, -1).Format(time.DateOnly), time.Now().AddDate(0, 0, 1).Format(time.DateOnly))
	repo := n.Repository(map[string]string{
		"shoal.cue": strings.Replace(gatedPipeline, "CLOSED", frozen, 1), "apps/web/web.cue": stagedApp("one"), "apps/smoke/smoke.cue": smoke(`"get", "http://web:8080/readyz"`),
		"keys/trust.yaml": "groups:\n  leads: {environments: [production]}\nprincipals:\n  ann@shop.example: {approve: [leads]}\n  bob: {approve: [leads]}\n  ring: {}\n",
	})
	p := &people{&forge{t: t, Repository: repo}, t.TempDir()}
	for _, name := range []string{"ann@shop.example", "bob"} {
		p.key(name)
	}
	p.signers("ann@shop.example", "bob")
	repo.git("config", "gpg.format", "ssh")
	repo.Push("one")
	n.Eventually(60*time.Second, n.greetsIn("staging", "one"))
	staging := strings.TrimSpace(strings.Fields(repo.git("ls-remote", "origin", "env/staging"))[0])
	if e := n.shoal(0, "envs"); !strings.Contains(e, "approvals, freeze") {
		t.Errorf("envs:\n%s", e)
	}

	// One that does not do what it should is stopped, and the next one mends it.
	repo.Write("apps/smoke/smoke.cue", smoke(`"exit", "1"`))
	repo.Write("apps/web/web.cue", stagedApp("bad"))
	repo.Push("a bad one")
	n.Eventually(soon, n.greetsIn("dev", "bad"))
	n.Eventually(soon, func() error {
		if e := n.shoal(0, "envs", "-e", "staging"); !strings.Contains(e, "verify:smoke in dev: the Job failed") {
			return fmt.Errorf("envs:\n%s", e)
		}
		return nil
	})
	if err := n.greetsIn("staging", "one")(); err != nil {
		t.Errorf("staging with a bad commit before it: %v", err)
	}
	repo.Write("apps/smoke/smoke.cue", smoke(`"get", "http://web:8080/readyz"`))
	repo.Write("apps/web/web.cue", stagedApp("two"))
	repo.Write("shoal.cue", strings.Replace(gatedPipeline, "CLOSED", `since: "2020-12-20", until: "2021-01-02"`, 1))
	repo.Push("two")
	n.Eventually(60*time.Second, n.greetsIn("staging", "two"))
	staging = strings.TrimSpace(strings.Fields(repo.git("ls-remote", "origin", "env/staging"))[0])

	if said := n.shoal(1, "promote", "production"); !strings.Contains(said, "approvals") || strings.Contains(said, "waiting  freeze") {
		t.Errorf("promotion without an approval:\n%s", said)
	}
	repo.git("fetch", "-q", "origin")
	approve := func(who string) {
		t.Helper()
		p.as(who)
		if out, stderr, code := n.ShoalIn(repo.Dir, "", "approve", "production", staging, "--as", who); code != 0 {
			t.Fatalf("approve as %s: %d %s%s", who, code, out, stderr)
		}
	}
	approve("ann@shop.example")
	if said := n.shoal(1, "promote", "production"); !strings.Contains(said, "approvals") {
		t.Errorf("promotion with its author's own approval:\n%s", said)
	}
	approve("bob")
	said := n.shoal(0, "promote", "production", "--by", "rita")
	n.Eventually(soon, n.greetsIn("production", "two"))
	if !strings.Contains(said, "bob") {
		t.Errorf("nothing is said of who approved:\n%s", said)
	}
	t.Log("\n" + said)
}
