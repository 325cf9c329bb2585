package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/internal/sealed"
)

// vault is the files of secrets/dev/ with one Secret.
func vault(t *testing.T) (*sealed.Identity, map[string]string) {
	t.Helper()
	id, err := sealed.NewIdentity("dev")
	if err != nil {
		t.Fatal(err)
	}
	f := &sealed.File{Environment: "dev", Name: "db", Recipient: id.Recipient(), Type: "Opaque"}
	if _, err := id.Set(f, "password", sealed.NewPlain([]byte("swordfish"))); err != nil {
		t.Fatal(err)
	}
	all := files("-- apps/web/web.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n")
	all["secrets/dev/recipient"] = id.Recipient() + "\n"
	all["secrets/dev/db.yaml"] = string(f.Encode())
	all["secrets/dev/README.md"] = "who may know what\n"
	return id, all
}

// said is what a render of dev comes to.
func said(t *testing.T, all map[string]string, env Environment) string {
	t.Helper()
	tree := treeOf(t, all)
	apps, err := AppsOf(tree, env)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, app := range Eval(tree, env, apps) {
		fmt.Fprintf(&b, "%s:", app.Name)
		for _, o := range app.Objects {
			fmt.Fprintf(&b, " %s:%d", o.File, o.Line)
		}
		for _, p := range app.Problems {
			fmt.Fprintf(&b, " !%s", p)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// TestFeature_G11: the secrets of an environment are an app of it, whose objects are sealed; an environment that gets none has none.
func TestFeature_G11(t *testing.T) {
	id, all := vault(t)
	if got, want := said(t, all, Environment{Name: "dev"}), "web: apps/web/web.yaml:1\nsecrets/dev: secrets/dev/db.yaml:1\n"; got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	for _, env := range []Environment{{Name: "dev", NoSecrets: true}, {Name: "prod"}} {
		if got, want := said(t, all, env), "web: apps/web/web.yaml:1\n"; got != want {
			t.Errorf("%+v: got:\n%swant:\n%s", env, got, want)
		}
	}
	object := Eval(treeOf(t, all), Environment{Name: "dev"}, []string{"secrets/dev"})[0].Objects[0]
	if bytes.Contains(object.JSON, []byte("swordfish")) || bytes.Contains(object.JSON, []byte("c3dvcmRmaXNo")) {
		t.Error("it is plain")
	}
	var s corev1.Secret
	if err := json.Unmarshal(object.JSON, &s); err != nil {
		t.Fatal(err)
	}
	o, err := sealed.ParseObject(s.Name, string(s.Type), s.Annotations, s.Data)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := id.OpenObject(o)
	if err != nil || len(entries) != 1 || entries[0].Key != "password" || string(entries[0].Plain.Bytes()) != "swordfish" {
		t.Errorf("%v %v", entries, err)
	}
}

// TestFeature_G11_problems: what is wrong is said with its file and line, without any key; the other apps go on.
func TestFeature_G11_problems(t *testing.T) {
	for name, c := range map[string]struct {
		change func(all map[string]string)
		want   string
	}{
		"no recipient": {func(all map[string]string) { delete(all, "secrets/dev/recipient") }, "secrets/dev/recipient: is missing: nobody can tell whom the values are for"},
		"not sealed": {func(all map[string]string) {
			all["secrets/dev/db.yaml"] = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: swordfish}\n"
		}, "secrets/dev/db.yaml:1: an unknown key; expected format, recipient, type, values"},
		"cut": {func(all map[string]string) {
			s := all["secrets/dev/db.yaml"]
			all["secrets/dev/db.yaml"] = s[:len(s)-20] + "\n"
		}, "secrets/dev/db.yaml:7: password: age: "},
		"another recipient": {func(all map[string]string) {
			id, err := sealed.NewIdentity("dev")
			if err != nil {
				t.Fatal(err)
			}
			all["secrets/dev/recipient"] = id.Recipient() + "\n"
		}, "secrets/dev/db.yaml: is sealed for another recipient than that of dev"},
		"a stranger":  {func(all map[string]string) { all["secrets/dev/notes.txt"] = "swordfish" }, "secrets/dev/notes.txt: is none of recipient, identity.age, <name>.yaml, a SOPS file <name>.json, *.md"},
		"a directory": {func(all map[string]string) { all["secrets/dev/more/db.yaml"] = "" }, "secrets/dev/more: is no file: nothing else may lie here"},
		"identity":    {func(all map[string]string) { all["secrets/dev/identity.age"] = "AGE-SECRET-KEY-1" }, "secrets/dev/identity.age: is not what shoal writes: an age file, armored"},
	} {
		t.Run(name, func(t *testing.T) {
			_, all := vault(t)
			c.change(all)
			got := said(t, all, Environment{Name: "dev"})
			if !strings.HasPrefix(got, "web: apps/web/web.yaml:1\n") || !strings.Contains(got, "secrets/dev: ") || !strings.Contains(got, "!"+c.want) {
				t.Errorf("got:\n%swant: %s", got, c.want)
			}
			if strings.Contains(got, "swordfish") {
				t.Errorf("it quotes:\n%s", got)
			}
		})
	}
}

// TestFeature_G11_keys: a result is kept for trees that agree in the secrets, and for no others.
func TestFeature_G11_keys(t *testing.T) {
	_, all := vault(t)
	env := Environment{Name: "dev"}
	key := func() string {
		t.Helper()
		tree := treeOf(t, all)
		k, err := NewKeys(tree, env).Key("secrets/dev", NewBatch(Prepare(), tree, env).Load("secrets/dev").Deps)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	was := key()
	all["apps/web/web.yaml"] += "data: {a: b}\n"
	if key() != was {
		t.Error("a change of an app changes the secrets")
	}
	all["secrets/dev/db.yaml"] += "#\n"
	if key() == was {
		t.Error("a change of the secrets does not change them")
	}
}

// TestUndeclaredSecrets: a directory that belongs to no environment is told.
func TestUndeclaredSecrets(t *testing.T) {
	_, all := vault(t)
	all["secrets/porduction/recipient"] = ""
	got, err := UndeclaredSecrets(treeOf(t, all), []Environment{{Name: "dev"}, {Name: "production"}})
	if err != nil || fmt.Sprint(got) != "[secrets/porduction]" {
		t.Error(got, err)
	}
}

// TestFeature_V4_SecretsOfPreviews: previews get what is sealed for their class, never what another environment, or one of their own name, has,
// wherever it was copied to; those of forks get nothing.
func TestFeature_V4_SecretsOfPreviews(t *testing.T) {
	_, all := vault(t)
	id, err := sealed.NewIdentity("preview")
	if err != nil {
		t.Fatal(err)
	}
	f := &sealed.File{Environment: "preview", Name: "db", Recipient: id.Recipient(), Type: "Opaque"}
	if _, err := id.Set(f, "password", sealed.NewPlain([]byte("herring"))); err != nil {
		t.Fatal(err)
	}
	all["secrets/preview/recipient"] = id.Recipient() + "\n"
	all["secrets/preview/db.yaml"] = string(f.Encode())
	all["secrets/pr-1/recipient"], all["secrets/pr-1/db.yaml"] = all["secrets/dev/recipient"], all["secrets/dev/db.yaml"]
	env := Environment{Name: "pr-1", Class: "preview", SecretsOf: "preview"}
	const web = "web: apps/web/web.yaml:1\n"
	if got, want := said(t, all, env), web+"secrets/preview: secrets/preview/db.yaml:1\n"; got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if object := Eval(treeOf(t, all), env, []string{"secrets/preview"})[0].Objects[0]; !bytes.Contains(object.JSON, []byte(`"shoal.dev/sealed":"preview"`)) {
		t.Errorf("whose it is: %s", object.JSON)
	}
	env.NoSecrets = true
	if got := said(t, all, env); got != web {
		t.Errorf("of a fork: %s", got)
	}
	env.NoSecrets = false
	all["secrets/preview/db.yaml"] = all["secrets/dev/db.yaml"]
	if got := said(t, all, env); !strings.Contains(got, "!secrets/preview/db.yaml: is sealed for another recipient than that of preview") {
		t.Errorf("copied from dev: %s", got)
	}
	undeclared, err := UndeclaredSecrets(treeOf(t, all), []Environment{{Name: "dev"}, env})
	if err != nil || fmt.Sprint(undeclared) != "[secrets/pr-1]" {
		t.Error(undeclared, err)
	}
}
