package render

import (
	"strings"
	"testing"
)

// No problem of a Secret quotes its values, however it is written; what is wrong elsewhere is told as it is.
func TestSecretsAreNotQuoted(t *testing.T) {
	for _, tt := range []struct {
		text  string
		place string
	}{
		{`secret: keys: stringData: password: "canary" & int`, "secret.keys.stringData.password"},
		{`secret: keys: stringData: password: "canary"
secret: keys: stringData: password: "other"`, "secret.keys.stringData.password"},
		{`secret: keys: stringData: ["canary"]`, "secret.keys.stringData"},
		{`secret: keys: stringData: password: 5550123`, "secret.keys.stringData.password"},
		{`secret: keys: "canary"`, "secret.keys"},
		{`secret: keys: data: password: "canary" & =~"^b"`, "secret.keys.data.password"},
		{`objects: "secret/keys": {apiVersion: "v1", kind: "Secret", stringData: password: "canary" & int}`, `objects."secret/keys".stringData.password`},
		{`objects: keys: {apiVersion: "v1", kind: "Secret", metadata: name: "keys", data: password: "canary" & int}`, "objects.keys.data.password"},
	} {
		problems := problemsOf(t, "schema.#Package\n"+tt.text+"\n")
		if len(problems) == 0 {
			t.Errorf("%s: no problem", tt.text)
		}
		for _, p := range problems {
			if strings.Contains(p.Text, "canary") || strings.Contains(p.Text, "5550123") || p.Path != tt.place || p.Line == 0 {
				t.Errorf("%s: %s", tt.text, p)
			}
		}
	}
	for _, text := range []string{
		`configMap: texts: data: a: "plain" & int`,
		`objects: "configMap/texts": data: a: "plain" & int`,
		`deployment: web: spec: replicas: "plain"`,
	} {
		if problems := problemsOf(t, "schema.#Package\n"+text+"\n"); len(problems) == 0 || !strings.Contains(problems[0].Text, "plain") {
			t.Errorf("%s: %v", text, problems)
		}
	}
}

// problemsOf are the problems of a package with this text.
func problemsOf(t *testing.T, text string) Problems {
	t.Helper()
	tree := treeOf(t, map[string]string{
		"cue.mod/module.cue": "module: \"shop.example/cluster\"\nlanguage: version: \"v0.15.0\"\n",
		"apps/web/web.cue":   "package web\n\nimport \"shoal.dev/schema\"\n\n" + text,
	})
	app := Eval(tree, Environment{Name: "dev", Namespace: "dev", Class: "dev"}, []string{"web"})[0]
	return app.Problems
}
