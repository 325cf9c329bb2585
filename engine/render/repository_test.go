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
environments: three: {ref: 3, after: ["dev"], gates: soak: "long", quota: {pods: -1, cpu: 3}, nodes: 3}
environments: four: {ref: "main", atomik: true}
previews: quotas: 3
`, `shoal.cue:7: environments.dev.ref: is required but not set
shoal.cue:7: environments.dev.reff: no such field; did you mean ref?
shoal.cue:8: environments.Two: is no name: expected lower-case letters, digits and -, at most 63, a letter or digit first and last
shoal.cue:9: environments.three.gates.soak: "long" does not match"^([0-9]+(d|h|m|s|ms))+$"
shoal.cue:9: environments.three.nodes: conflicting values 3 and {[string]:string} (mismatched types int and struct)
shoal.cue:9: environments.three.quota.cpu: no such field
shoal.cue:9: environments.three.quota.pods: invalid value -1 (out of bound >=0)
shoal.cue:9: environments.three.ref: conflicting values 3 and =~"^[^ ~^:?*\\[\\\\]+$" (mismatched types int and string)
shoal.cue:10: environments.four.atomik: no such field; did you mean atomic?
shoal.cue:11: previews.quotas: no such field
`},
		"nodes and quota": {`package shoal

import "shoal.dev/schema"

schema.#Repository

environments: dev: {ref: "main", nodes: {pool: "blue", "shop.example/disk": "ssd"}, quota: {pods: 20, "limits.memory": "4Gi"}}

environments: dev: quota: {
	"requests.cpu": 2.5
}
environments: none: {ref: "x", nodes: {}, quota: {}}
`, `dev ref=refs/heads/main class=dev namespace=dev namespaces=map[] atomic=false allow=[]
  nodes=map[pool:blue shop.example/disk:ssd] at shoal.cue:7, quota=map[limits.memory:4Gi pods:20 requests.cpu:2.5] at shoal.cue:10
none ref=refs/heads/x class=none namespace=none namespaces=map[] atomic=false allow=[]
`},
		"nodes and quota that are none": {`package shoal

import "shoal.dev/schema"

schema.#Repository

environments: dev: {
	ref: "main"
	nodes: {
		pool:   "a b"
		"a/b/c": "x"
	}
	quota: {
		"limits.cpu": "1e999"
		pods:         1000
	}
}
`, `shoal.cue:10: environments.dev.nodes.pool: "a b" is no value of a label: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
shoal.cue:11: environments.dev.nodes."a/b/c": is no key of a label: a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')
shoal.cue:14: environments.dev.quota."limits.cpu": Invalid value: a quantity must have at most 64 characters, and at most 2 digits in its exponent
`},
		"syntax":      {"package shoal\nenvironments: {\n", "shoal.cue:2: expected '}', found 'EOF'\n"},
		"not written": {"package shoal\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			envs, problems := Environments(repo(t, "-- shoal.cue --\n"+c.src))
			var b strings.Builder
			for _, e := range envs {
				fmt.Fprintf(&b, "%s ref=%s class=%s namespace=%s namespaces=%v atomic=%v allow=%v\n", e.Name, e.Ref, e.Class, e.Namespace, e.Namespaces, e.Atomic, e.Allow)
				if len(e.Nodes)+len(e.Quota) > 0 {
					at := func(path string) int { return e.Policy.Line(path) }
					fmt.Fprintf(&b, "  nodes=%v at shoal.cue:%d, quota=%v at shoal.cue:%d\n", e.Nodes, at(e.Policy.NodesAt), e.Quota, at(FieldPath(e.Policy.QuotaAt, "requests.cpu")))
				}
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
