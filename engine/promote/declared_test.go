package promote_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
)

func TestRepositoryNamesTheLine(t *testing.T) {
	policy := func(json string, lines map[string]int) render.Policy {
		return render.Policy{JSON: []byte(json), Lines: lines}
	}
	dev := render.Environment{Name: "dev", Ref: "refs/heads/main"}
	good := render.Environment{Name: "staging", Ref: "refs/heads/env/staging", Policy: policy(`{"after":["dev"],"gates":{"soak":"24h","health":true}}`, nil)}
	all, problems := promote.Repository([]render.Environment{good, dev})
	if len(problems) > 0 || len(all) != 2 || all[0].Name != "dev" || all[1].Gates.Soak.String() != "1d" || !all[1].Gated() || all[0].Gated() {
		t.Fatalf("%+v, %v", all, problems)
	}
	for _, c := range []struct{ json, want string }{
		{`{"after":["production"]}`, "shoal.cue:7: environments.staging.after[0]: \"production\" is no environment; expected dev"},
		{`{"after":["dev"],"gates":{"verify":["a b"]}}`, "shoal.cue:8: environments.staging.gates.verify[0]: \"a b\" is no name of a Job"},
		{`{"gates":{"soak":"12 parsecs"}}`, "shoal.cue:6: environments.staging: \"12 parsecs\" is no duration from 0s to 366d, like 90s, 15m, 24h or 7d"},
		{`{"gaits":{}}`, `shoal.cue:6: environments.staging: json: unknown field "gaits"`},
	} {
		bad := good
		bad.Policy = policy(c.json, map[string]int{"environments.staging": 6, "environments.staging.after": 7, "environments.staging.gates": 8})
		if _, problems := promote.Repository([]render.Environment{bad, dev}); problems.Error() != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.json, problems.Error(), c.want)
		}
	}
}

// What previews may ask for is read as it was written, numbers and texts alike; nothing is no map, so that a row of the ledger stays what it is.
func TestPreviewsHaveLimits(t *testing.T) {
	env := render.Environment{Name: "dev", Policy: render.Policy{Lines: map[string]int{"previews.each": 9}}}
	env.Policy.Previews = []byte(`{"from": "pulls", "quota": 3, "nodes": {}, "each": {}}`)
	p, ok, problems := promote.Previews([]render.Environment{env}, "refs/heads/main")
	if !ok || len(problems) > 0 || p.Nodes != nil || p.Each != nil {
		t.Errorf("%+v %v", p, problems)
	}
	env.Policy.Previews = []byte(`{"from": "pulls", "quota": 3, "nodes": {"pool": "a"}, "each": {"pods": 20, "requests.cpu": "500m", "limits.cpu": 1.5, "services": "2"}}`)
	p, _, problems = promote.Previews([]render.Environment{env}, "refs/heads/main")
	if got := fmt.Sprint(p.Nodes, p.Each); got != "map[pool:a] map[limits.cpu:1.5 pods:20 requests.cpu:500m services:2]" || len(problems) > 0 {
		t.Errorf("%s %v", got, problems)
	}
	env.Policy.Previews = []byte(`{"from": "pulls", "quota": 3, "each": {"requests.cpu": "1e-99999999", "pods": true}}`)
	if _, _, problems = promote.Previews([]render.Environment{env}, "refs/heads/main"); len(problems) == 0 {
		t.Error("true is no quantity")
	}
	env.Policy.Previews = []byte(`{"from": "pulls", "quota": 3, "each": {"requests.cpu": "1e-99999999"}}`)
	if _, _, problems = promote.Previews([]render.Environment{env}, "refs/heads/main"); len(problems) != 1 ||
		!strings.HasPrefix(problems[0].String(), `shoal.cue:9: previews.each."requests.cpu": Invalid value: a quantity must have`) {
		t.Error(problems)
	}
}
