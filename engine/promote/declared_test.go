package promote_test

import (
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
