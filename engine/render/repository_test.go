package render

import (
	"fmt"
	"strings"
	"testing"
)

func TestEnvironments(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"plain": {`package shoal

import "shoal.dev/schema"

schema.#Repository

environments: production: {ref: "env/production", class: "prod", namespace: "shop", namespaces: {logs: "logs-shop"}, atomic: true, allow: ["pod-security/host-path"]}
environments: dev: ref: "refs/heads/main"
`, `dev ref=refs/heads/main class=dev namespace=dev namespaces=map[] atomic=false allow=[]
production ref=refs/heads/env/production class=prod namespace=shop namespaces=map[logs:logs-shop] atomic=true allow=[pod-security/host-path]
`},
		"without import": {"package shoal\n\nenvironments: dev: ref: \"main\"\n", "dev ref=refs/heads/main class=dev namespace=dev namespaces=map[] atomic=false allow=[]\n"},
		"errors": {`package shoal

import "shoal.dev/schema"

schema.#Repository

environments: dev: {reff: "main"}
environments: Two: ref: "main"
environments: three: {ref: 3, after: ["dev"], gates: soak: "long", quota: {}}
environments: four: {ref: "main", atomik: true}
previews: quotas: 3
`, `shoal.cue:7: environments.dev.ref: is required but not set
shoal.cue:7: environments.dev.reff: no such field; did you mean ref?
shoal.cue:8: environments.Two: is no name: expected lower-case letters, digits and -, at most 63, a letter or digit first and last
shoal.cue:9: environments.three.gates.soak: "long" does not match"^([0-9]+(d|h|m|s|ms))+$"
shoal.cue:9: environments.three.quota: quota is not supported yet
shoal.cue:9: environments.three.ref: conflicting values 3 and =~"^[^ ~^:?*\\[\\\\]+$" (mismatched types int and string)
shoal.cue:10: environments.four.atomik: no such field; did you mean atomic?
shoal.cue:11: previews.quotas: no such field
`},
		"syntax":      {"package shoal\nenvironments: {\n", "shoal.cue:2: expected '}', found 'EOF'\n"},
		"not written": {"package shoal\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			envs, problems := Environments(repo(t, "-- shoal.cue --\n"+c.src))
			var b strings.Builder
			for _, e := range envs {
				fmt.Fprintf(&b, "%s ref=%s class=%s namespace=%s namespaces=%v atomic=%v allow=%v\n", e.Name, e.Ref, e.Class, e.Namespace, e.Namespaces, e.Atomic, e.Allow)
			}
			for _, p := range problems {
				fmt.Fprintln(&b, p)
			}
			if b.String() != c.want {
				t.Errorf("got:\n%swant:\n%s", b.String(), c.want)
			}
		})
	}
	if _, problems := Environments(repo(t, "")); problems.Error() != "shoal.cue: is missing; expected environments: NAME: ref: BRANCH" {
		t.Errorf("without shoal.cue: %v", problems)
	}
}
