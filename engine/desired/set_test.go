package desired

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// shop is n apps of four objects each.
func shop(n int) []render.App {
	var apps []render.App
	for i := range n {
		apps = append(apps, objectsOf(fmt.Sprintf("app-%03d", i), 1))
	}
	return apps
}

// build compiles and builds, with nothing before.
func (s blobs) build(t *testing.T, env render.Environment, previous *Set, apps []render.App) Built {
	t.Helper()
	var compiled []App
	for _, a := range apps {
		compiled = append(compiled, s.compile(t, env, a))
	}
	built, err := Build(env, compiled, previous, s)
	if err != nil {
		t.Fatal(err)
	}
	consistent(t, built.Set, s)
	return built
}

// TestFault_R8: one bad object among 500. In an atomic environment the whole commit is refused, elsewhere its app is
// held back; either way all errors are told at once, and never is half an app applied.
func TestFault_R8(t *testing.T) {
	const bad = 62
	for _, atomic := range []bool{true, false} {
		env := render.Environment{Name: "dev", Atomic: atomic}
		store := blobs{}
		before := store.build(t, env, nil, shop(125))
		apps := shop(125)
		for i := range apps { // everybody changes
			apps[i] = objectsOf(apps[i].Name, 2)
		}
		apps[bad].Objects[1].JSON = bytes.Replace(apps[bad].Objects[1].JSON, []byte(`"replicas":2`), []byte(`"replicas":-2,"nonsense":1`), 1)
		apps[bad].Objects[3].JSON = bytes.Replace(apps[bad].Objects[3].JSON, []byte(`"port":80`), []byte(`"port":0`), 1)
		built := store.build(t, env, before.Set, apps)
		want := `apps/app-062/app.yaml:21: Deployment app-062: spec.nonsense: unknown field
apps/app-062/app.yaml:21: Deployment app-062: spec.replicas: Invalid value: -2: must be greater than or equal to 0
apps/app-062/app.yaml:61: Service app-062: spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive`
		if got := built.Problems.Error(); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		changes, err := Diff(before.Set, built.Set, store)
		if err != nil {
			t.Fatal(err)
		}
		changed := map[string]bool{}
		for _, c := range changes {
			changed[c.App] = true
		}
		switch {
		case atomic && (built.Set.D != before.Set.D || len(changes) != 0 || len(built.Held) != 125):
			t.Errorf("atomic: %d changes, %d held", len(changes), len(built.Held))
		case !atomic && (len(changed) != 124 || changed["app-062"] || !slices.Equal(built.Held, []string{"app-062"})):
			t.Errorf("isolated: %d apps changed, held %v", len(changed), built.Held)
		}
	}
}

// TestFault_R7: D does not depend on the order of apps, objects and keys, on the names of files, or on the run.
func TestFault_R7(t *testing.T) {
	env := render.Environment{Name: "dev"}
	want := blobs{}.build(t, env, nil, shop(20)).Set.D
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		apps := shop(20)
		rng.Shuffle(len(apps), func(i, j int) { apps[i], apps[j] = apps[j], apps[i] })
		for i := range apps {
			o := apps[i].Objects
			rng.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
			for j := range o {
				o[j].File, o[j].Line = fmt.Sprintf("apps/%s/moved-%d.yaml", apps[i].Name, rng.IntN(99)), rng.IntN(99)
			}
		}
		if got := (blobs{}).build(t, env, nil, apps).Set.D; got != want {
			t.Fatalf("D is %s, want %s", got, want)
		}
	}
}

// D is what it was when this test was written: a change of it is a new engine version.
func TestDigestIsKnown(t *testing.T) {
	store := blobs{}
	built := store.build(t, render.Environment{Name: "dev"}, nil, shop(1))
	want := `shoal manifest 1 dev
- ConfigMap dev app-000 `
	if !strings.HasPrefix(string(built.Manifest), want) || DigestOf(built.Manifest) != built.Set.D {
		t.Errorf("%s", built.Manifest)
	}
	const d = "24fe00a6d790725a1a3a28efe9acb50de48e2c165ba5b1430c1aa58667e7d083"
	if built.Set.D != d {
		t.Errorf("D is %s, want %s", built.Set.D, d)
		for _, e := range built.Set.Entries {
			t.Logf("%s", store[e.Digest])
		}
	}
}

func TestDecodeSet(t *testing.T) {
	store := blobs{}
	good := string(store.build(t, render.Environment{Name: "dev"}, nil, shop(2)).Manifest)
	lines := strings.SplitAfter(strings.TrimSuffix(good, "\n"), "\n")
	for _, c := range []struct{ in, want string }{
		{"", `decode manifest: line 1: expected "shoal manifest 1" and an environment, then lines`},
		{"shoal manifest 1 \n", `decode manifest: line 1: expected "shoal manifest 1" and an environment, then lines`},
		{"shoal manifest 2 dev\n", `decode manifest: line 1: expected "shoal manifest 1" and an environment, then lines`},
		{"shoal manifest 1 dev", `decode manifest: line 1: expected "shoal manifest 1" and an environment, then lines`},
		{good[:len(good)-1], "decode manifest: line 9: cut short"},
		{lines[0] + lines[2] + lines[1], "decode manifest: line 3: ConfigMap dev/app-000 is not after ConfigMap dev/app-001"},
		{lines[0] + lines[1] + lines[1], "decode manifest: line 3: ConfigMap dev/app-000 is not after ConfigMap dev/app-000"},
		{lines[0] + "a b c\n", "decode manifest: line 2: expected 7 words"},
		{lines[0] + strings.TrimSuffix(lines[1], "\n") + " more\n", "decode manifest: line 2: expected 7 words"},
		{lines[0] + "- Pod dev p abc - web\n", "decode manifest: line 2: expected digests of 64 hex digits"},
		{lines[0] + strings.Replace(lines[1], "ConfigMap", "-", 1), "decode manifest: line 2: kind, name and app must be there"},
		{good, ""},
		{lines[0], ""},
	} {
		s, err := DecodeSet([]byte(c.in))
		got := ""
		if err != nil {
			got = err.Error()
		} else if string(s.Encode()) != c.in {
			t.Errorf("%q does not encode to itself", c.in)
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.in, got, c.want)
		}
	}
}

func FuzzDecodeSet(f *testing.F) {
	f.Add([]byte("shoal manifest 1 dev\n- Pod dev p " + strings.Repeat("a", 64) + " - web\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := DecodeSet(b); err == nil && !bytes.Equal(s.Encode(), b) {
			t.Fatalf("%q decodes to %q", b, s.Encode())
		}
	})
}

func TestGuard(t *testing.T) {
	entries := func(kinds ...string) *Set {
		s := &Set{Environment: "dev"}
		for _, k := range kinds {
			kind, name, _ := strings.Cut(k, "/")
			s.Entries = append(s.Entries, Entry{Key: Key{Kind: kind, Name: name}})
		}
		slices.SortFunc(s.Entries, func(a, b Entry) int { return a.Key.Compare(b.Key) })
		return s
	}
	four := entries("Pod/a", "Pod/b", "Pod/c", "Namespace/n")
	for _, c := range []struct {
		prev, next *Set
		allow      string
		want       string
	}{
		{nil, entries(), "", ""},
		{entries(), entries(), "", ""},
		{four, four, "", ""},
		{four, entries("Pod/a", "Namespace/n"), "", ""}, // half
		{four, entries("Pod/x", "Namespace/n"), "", "3 of the 4 objects of environment dev (Pod a, Pod b, Pod c); if it is meant, add the trailer \"Shoal-Allow-Delete: 3\" to its message"},
		{four, entries(), "", "4 of the 4 objects of environment dev (Namespace n, Pod a, Pod b, Pod c); if it is meant, add the trailer \"Shoal-Allow-Delete: 4\" to its message"},
		{four, entries(), "3", "4 of the 4 objects of environment dev (Namespace n, Pod a, Pod b, Pod c); if it is meant, add the trailer \"Shoal-Allow-Delete: 4\" to its message; it allows only 3"},
		{four, entries(), "some", "4 of the 4 objects of environment dev (Namespace n, Pod a, Pod b, Pod c); if it is meant, add the trailer \"Shoal-Allow-Delete: 4\" to its message; found \"some\""},
		{four, entries(), "4", ""},
		{four, entries(), " all ", ""},
		{four, entries("Pod/a", "Pod/b", "Pod/c"), "", "1 of the 4 objects of environment dev (Namespace n); if it is meant, add the trailer \"Shoal-Allow-Delete: 1\" to its message"},
		{four, entries("Pod/a", "Pod/b", "Pod/c"), "1", ""},
	} {
		got := Guard(c.prev, c.next, c.allow).Error()
		if c.want != "" {
			c.want = "apps: this commit would delete " + c.want
		}
		if got != c.want {
			t.Errorf("%s\nwant\n%s", got, c.want)
		}
	}
}

// A value of a Secret appears in nothing that is shown: not in a diff, a redacted object, a problem or an app.
func TestSecretsAreNotShown(t *testing.T) {
	const secret, encoded = "hunter2", "aHVudGVyMg"
	clean := func(what, s string) {
		t.Helper()
		if strings.Contains(s, secret) || strings.Contains(s, encoded) {
			t.Errorf("%s shows the secret: %s", what, s)
		}
	}
	store := blobs{}
	env := render.Environment{Name: "dev"}
	before := store.build(t, env, nil, shop(1))
	after := shop(1)
	after[0].Objects[2].JSON = bytes.Replace(after[0].Objects[2].JSON, []byte(`"hunter2"`), []byte(`"new","more":"hunter2"`), 1)
	built := store.build(t, env, before.Set, after)
	changes, err := Diff(before.Set, built.Set, store)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(changes[0].Fields), "[data.more: + (redacted) data.password: (redacted) -> (redacted)]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	clean("diff", fmt.Sprintf("%+v", changes))
	for _, e := range built.Set.Entries {
		obj, err := Object(store, e.Digest)
		if err != nil {
			t.Fatal(err)
		}
		shown, err := kube.Canonical(Redact(obj))
		if err != nil {
			t.Fatal(err)
		}
		clean("redacted object", string(shown))
		clean("redacted bytes", string(RedactJSON(store[e.Digest])))
		if e.Key.Kind == "Secret" && !strings.Contains(string(RedactJSON(store[e.Digest])), `"password":"(redacted)"`) {
			t.Errorf("the key is gone: %s", RedactJSON(store[e.Digest]))
		}
		if s, ok := obj.(*corev1.Secret); ok && string(s.Data["more"]) != secret {
			t.Error("Redact changed the object itself")
		}
		if e.Key.Kind != "Secret" && !bytes.Equal(RedactJSON(store[e.Digest]), store[e.Digest]) {
			t.Errorf("%s was changed", e.Key)
		}
	}
	for _, authored := range []string{
		`{"kind":"Secret","stringData":{"a":"hunter2"},"data":"hunter2"}`,
		`{"kind":"Secret","stringData":["hunter2"],"data":{"a":{"b":"hunter2"}}}`,
		`{"kind":"Secret","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"hunter2"}}}`,
		`{"kind":"Secret","data":{"a":"hunter2"`,
	} {
		clean("redacted author's text", string(RedactJSON([]byte(authored))))
	}
	for _, bad := range []string{
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"a":"hunter2!"}}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":["hunter2"]}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"type":"kubernetes.io/dockerconfigjson","stringData":{".dockerconfigjson":"hunter2"}}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"type":"kubernetes.io/tls","stringData":{"tls.key":"hunter2"}}`,
	} {
		a, _ := Compile(env, render.App{Name: "a", Objects: []render.Object{{JSON: []byte(bad)}}})
		if len(a.Problems) == 0 {
			t.Errorf("no problem with %s", bad)
		}
		clean("problem", a.Problems.Error())
	}
}

func TestReader(t *testing.T) {
	store := &counting{blobs: blobs{}}
	set := store.build(t, render.Environment{Name: "dev"}, nil, shop(10)).Set
	store.n = 0
	r := NewReader(store, 5)
	for range 3 {
		for _, e := range set.Entries[:5] {
			obj, err := r.Object(e.Digest)
			if err != nil || keyOf(obj) != e.Key {
				t.Fatal(err, keyOf(obj))
			}
		}
	}
	if store.n != 5 {
		t.Errorf("%d reads, want 5", store.n)
	}
	for _, e := range set.Entries {
		if _, err := r.Object(e.Digest); err != nil {
			t.Fatal(err)
		}
		if n := len(r.new) + len(r.old); n > 10 {
			t.Fatalf("%d objects are kept", n)
		}
	}
	if _, err := r.Object(DigestOf(nil)); err == nil {
		t.Error("an absent object was read")
	}
}

type counting struct {
	blobs
	n int
}

func (c *counting) Get(d Digest) ([]byte, error) {
	c.n++
	return c.blobs.Get(d)
}

// Pods and Jobs get the defaults that their templates lack.
func TestPodAndJob(t *testing.T) {
	var cron batchv1.CronJob
	if err := yaml.Unmarshal([]byte(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: report, namespace: shop}
spec:
  schedule: "@hourly"
  jobTemplate:
    metadata: {labels: {of: report}}
    spec:
      template:
        metadata: {labels: {app: report}}
        spec:
          restartPolicy: Never
          containers: [{name: c, image: i, resources: {limits: {cpu: 1, memory: 1Mi}, requests: {cpu: 500m}}}]`), &cron); err != nil {
		t.Fatal(err)
	}
	kube.Default(&cron)
	before := cron.DeepCopy()
	j := Job(&cron, "report-1")
	if j.Name != "report-1" || j.Namespace != "shop" || j.Labels["of"] != "report" || *j.Spec.BackoffLimit != 6 || *j.Spec.Completions != 1 {
		t.Errorf("%+v", j)
	}
	p := Pod(&j.Spec.Template)
	got := p.Spec.Containers[0].Resources.Requests
	if got.Cpu().Cmp(resource.MustParse("500m")) != 0 || got.Memory().Cmp(resource.MustParse("1Mi")) != 0 || !*p.Spec.EnableServiceLinks {
		t.Errorf("%+v", p.Spec)
	}
	p.Labels["app"], j.Labels["of"] = "changed", "changed"
	if !reflect.DeepEqual(&cron, before) {
		t.Error("the CronJob was changed")
	}
}

// An object that cannot be read is an error, and never a deletion.
func TestUnreadableContent(t *testing.T) {
	store := blobs{}
	env := render.Environment{Name: "dev"}
	before := store.build(t, env, nil, shop(2))
	bad := App{Name: "app-000", Problems: render.Problems{{File: "f", Text: "broken", App: "app-000"}}}
	good := store.compile(t, env, shop(2)[1])
	if _, err := Build(env, []App{bad, good}, before.Set, blobs{}); err == nil || !strings.Contains(err.Error(), "of app app-000: no blob") {
		t.Errorf("error is %v", err)
	}
	if _, err := Build(env, []App{good, good}, before.Set, store); err == nil {
		t.Error("two apps of one name were accepted")
	}
	if _, err := Diff(before.Set, &Set{Entries: []Entry{{Key: before.Set.Entries[0].Key, Digest: DigestOf(nil)}}}, store); err == nil {
		t.Error("a diff without content")
	}
}
