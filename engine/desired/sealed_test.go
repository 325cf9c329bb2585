package desired

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/internal/sealed"
)

// sealedApp is secrets/dev/ with one Secret, of values that are written "key=value".
func sealedApp(t *testing.T, id *sealed.Identity, kind string, values ...string) render.App {
	t.Helper()
	f := sealed.File{Environment: "dev", Name: "db", Recipient: id.Recipient(), Type: kind}
	for _, kv := range values {
		key, value, _ := strings.Cut(kv, "=")
		if _, err := id.Set(&f, key, sealed.NewPlain([]byte(value))); err != nil {
			t.Fatal(err)
		}
	}
	o := sealed.Object{File: f, Identity: []byte("-----BEGIN AGE ENCRYPTED FILE-----\n...")}
	s := corev1.Secret{Type: corev1.SecretType(kind), Data: o.Data()}
	s.APIVersion, s.Kind, s.Name, s.Annotations = "v1", "Secret", "db", o.Annotations()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return render.App{Name: "secrets/dev", Objects: []render.Object{{JSON: b, File: "secrets/dev/db.yaml", Line: 1}}}
}

const swordfish = "swordfish"

// plain says whether a text has the value in it.
func plain(s string) bool {
	return strings.Contains(s, swordfish) || strings.Contains(s, base64.StdEncoding.EncodeToString([]byte(swordfish)))
}

func newSealedID(t *testing.T) *sealed.Identity {
	t.Helper()
	id, err := sealed.NewIdentity("dev")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// user is an app with a pod that uses a key of the Secret.
func user(key string) render.App {
	return render.App{Name: "web", Objects: []render.Object{{File: "apps/web/web.yaml", Line: 1, JSON: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},
"spec":{"containers":[{"name":"main","image":"x:1","env":[{"name":"P","valueFrom":{"secretKeyRef":{"name":"db","key":%q}}}]}]}}`, key)}}}
}

// TestFeature_G11: a sealed Secret is one of the environment: references are checked by its keys, in its type's form or not; what is stored
// and shown is sealed.
func TestFeature_G11(t *testing.T) {
	env := render.Environment{Name: "dev"}.WithDefaults()
	id, store := newSealedID(t), blobs{}
	for _, kind := range []string{"Opaque", "kubernetes.io/basic-auth", "kubernetes.io/dockerconfigjson", "kubernetes.io/tls"} {
		built := store.build(t, env, nil, []render.App{sealedApp(t, id, kind, "password="+swordfish, ".dockerconfigjson={}", "tls.crt=x", "tls.key=y"), user("password")})
		if len(built.Problems) > 0 || len(built.Set.Entries) != 2 {
			t.Errorf("%s: %v", kind, built.Problems)
		}
	}
	built := store.build(t, env, nil, []render.App{sealedApp(t, id, "Opaque", "password="+swordfish), user("pasword")})
	want := `apps/web/web.yaml:1: Pod web: spec.containers[0].env[0].valueFrom.secretKeyRef: key "pasword" not found in Secret dev/db; it has password`
	if text := built.Problems.Error(); text != want {
		t.Errorf("%s\nwant %s", text, want)
	}
	broken := render.App{Name: "secrets/dev", Problems: render.Problems{{File: "secrets/dev/db.yaml", Line: 3, Text: "is no YAML", App: "secrets/dev"}}}
	built = store.build(t, env, nil, []render.App{broken, user("password")})
	if text := built.Problems.Error(); text != "secrets/dev/db.yaml:3: is no YAML" || fmt.Sprint(built.Held) != "[secrets/dev web]" {
		t.Errorf("with secrets that are wrong: %v, held %v", text, built.Held)
	}
	for d, b := range store {
		if plain(string(b)) || plain(string(RedactJSON(b))) {
			t.Errorf("blob %s is plain", d)
		}
		obj, err := kube.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if shown := fmt.Sprint(Redact(obj)); strings.Contains(shown, "BEGIN AGE") || bytes.Contains(RedactJSON(b), []byte("BEGIN AGE")) {
			t.Errorf("shown at length: %s", shown)
		}
	}
}

// TestFeature_G11_changes: a new value, another key and other nodes are told by name; no pod is replaced.
func TestFeature_G11_changes(t *testing.T) {
	env := render.Environment{Name: "dev"}.WithDefaults()
	id, store := newSealedID(t), blobs{}
	first := store.build(t, env, nil, []render.App{sealedApp(t, id, "Opaque", "password="+swordfish, "user=shop"), user("user")})
	other := sealedApp(t, id, "Opaque", "password=pike", "user=shop", "new=x")
	other.Objects[0].JSON = bytes.Replace(other.Objects[0].JSON, []byte("FILE-----"), []byte("FILE-----again"), 1)
	second := store.build(t, env, first.Set, []render.App{other, user("user")})
	changes, err := Diff(first.Set, second.Set, store)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s %v\n", c.Op, c.Key, c.Template)
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "  %s\n", f)
		}
	}
	// user was sealed again for this test, and so is another ciphertext.
	want := `update Secret dev/db false
  data.new: + (redacted)
  data.password: (redacted) -> (redacted)
  data.user: (redacted) -> (redacted)
  metadata.annotations.shoal.dev/identity: (redacted) -> (redacted)
`
	if b.String() != want {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

// TestFault_A9_NobodyMayClaim: who writes a manifest cannot say that its values are sealed, and so nothing is held for checked that was not.
func TestFault_A9_NobodyMayClaim(t *testing.T) {
	app := sealedApp(t, newSealedID(t), "Opaque", "password="+swordfish)
	for _, name := range []string{"web", "secrets/production"} {
		app.Name = name
		got, _ := Compile(render.Environment{Name: "dev"}, app)
		if !strings.Contains(got.Problems.Error(), "metadata.annotations[shoal.dev/sealed]: name/reserved: only") {
			t.Errorf("app %s: %v", name, got.Problems)
		}
	}
}

// TestFeature_V4_MissingSecretsOfPreviews: who lacks a Secret in a preview is told where it would come from, and of a fork's that none does. A
// fork's render takes no sealed Secret, whatever hands it one.
func TestFeature_V4_MissingSecretsOfPreviews(t *testing.T) {
	const at = "apps/web/web.yaml:1: Pod web: spec.containers[0].env[0].valueFrom.secretKeyRef: Secret pr-1/db not found"
	own := render.Environment{Name: "pr-1", SecretsOf: "preview"}.WithDefaults()
	fork := own
	fork.NoSecrets = true
	for env, want := range map[*render.Environment]string{
		&own:  at + ": environment pr-1 gets those of secrets/preview",
		&fork: at + ": environment pr-1 gets no secrets, as a preview of a fork",
	} {
		if text := (blobs{}).build(t, *env, nil, []render.App{user("password")}).Problems.Error(); text != want {
			t.Errorf("%s\nwant %s", text, want)
		}
	}
	brought := sealedApp(t, newSealedID(t), "Opaque", "password="+swordfish)
	brought.Name = "secrets/preview"
	if built := (blobs{}).build(t, own, nil, []render.App{brought, user("password")}); len(built.Problems) > 0 || built.Set.Entries[1].Key.String() != "Secret pr-1/db" {
		t.Errorf("%v %v", built.Problems, built.Set.Entries)
	}
	built := (blobs{}).build(t, fork, nil, []render.App{brought, user("password")})
	if text := built.Problems.Error(); !strings.Contains(text, "only ") || !strings.Contains(text, "may be set under shoal.dev/") {
		t.Errorf("a fork's: %s", text)
	}
}
