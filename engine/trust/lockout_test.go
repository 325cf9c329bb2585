package trust

import (
	"strings"
	"testing"
)

// TestLockouts says who is kept out by what is written well and not meant.
func TestLockouts(t *testing.T) {
	for _, c := range []struct {
		name, trust, option, want string
	}{
		{"nothing required", "", "", ""},
		{"all may sign", required, "", ""},
		{"each environment has somebody", required + "principals:\n  ada: {environments: [dev]}\n  bob: {environments: [prod]}\n", "", ""},
		{
			"an environment has nobody", required + "principals:\n  ada: {environments: [dev]}\n  bob: {environments: [dev]}\n", "",
			"keys/trust.yaml: require: true, but nobody whose key is good may sign for prod: nothing new can run there",
		},
		{
			"its one has an expired key", required + "principals:\n  ada: {environments: [prod]}\n  bob: {environments: [dev]}\n", `valid-before="20260301Z"`,
			"keys/trust.yaml: require: true, but nobody whose key is good may sign for prod: nothing new can run there",
		},
		{
			"keys/ is out of everybody's paths", required + "principals:\n  ada: {paths: [apps/**]}\n  bob: {paths: [docs/**]}\n", "",
			"keys/trust.yaml: nobody whose key is good may change keys/signers and keys/trust.yaml: a key that is lost or expires cannot be replaced",
		},
		{"keys/ is in somebody's", required + "principals:\n  ada: {paths: [apps/**]}\n  bob: [{paths: [docs/**]}, {paths: [keys/*]}]\n", "", ""},
		{"all are expired", required, `valid-before="20260301Z" all`, "keys/trust.yaml: require: true, but no key in keys/ is good now: nobody can sign the next commit"},
		{"all will be", required, `valid-before="20260310Z" all`, "keys/trust.yaml: require: true, and the last key in keys/ expires at 2026-03-10T00:00:00Z: renew one before, signed by one that is still good"},
		{"one will be", required, `valid-before="20260310Z"`, ""},
	} {
		fsys := keysFS(t, c.trust, "ada", "bob")
		option, all := strings.CutSuffix(c.option, " all")
		if option != "" {
			n := 1
			if all {
				n = 2
			}
			fsys["keys/signers"].Data = []byte(strings.Replace(string(fsys["keys/signers"].Data), `namespaces="git"`, option, n))
		}
		k, ps := Parse(fsys)
		if len(ps) > 0 {
			t.Fatal(ps)
		}
		if got := k.Lockouts([]string{"prod", "dev"}, noon).Error(); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}
