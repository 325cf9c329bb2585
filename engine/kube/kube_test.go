package kube

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden part of testdata")

// TestGolden reads manifests as their authors write them. The golden part is what Kubernetes 1.37 makes of them on
// create, or says against them.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i+1 < len(ar.Files); i += 2 {
				in, want := ar.Files[i], &ar.Files[i+1]
				got := []byte(outcome(t, in.Data))
				if *update {
					want.Data = got
				} else if !bytes.Equal(got, want.Data) {
					t.Errorf("%s:\n%s\nwant:\n%s", in.Name, got, want.Data)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// outcome is the canonical form as YAML, or every error, one a line.
func outcome(t *testing.T, manifest []byte) string {
	t.Helper()
	j, err := yaml.YAMLToJSON(manifest)
	if err != nil {
		t.Fatal(err)
	}
	obj, faults := Decode(j)
	var b strings.Builder
	for _, f := range faults {
		fmt.Fprintln(&b, f)
	}
	if obj != nil {
		Default(obj)
		for _, e := range Validate(obj) {
			fmt.Fprintln(&b, e)
		}
	}
	if b.Len() > 0 {
		return b.String()
	}
	c, err := Canonical(obj)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.JSONToYAML(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(y)
}

// manifests are those of testdata that are good.
func manifests(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/defaults.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	ar, err := txtar.ParseFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]byte{}
	for i := 0; i < len(ar.Files); i += 2 {
		j, err := yaml.YAMLToJSON(ar.Files[i].Data)
		if err != nil {
			t.Fatal(err)
		}
		m[ar.Files[i].Name] = j
	}
	return m
}

func canonical(t testing.TB, j []byte) []byte {
	t.Helper()
	obj, faults := Decode(j)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	Default(obj)
	c, err := Canonical(obj)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Canonical bytes depend neither on the order of keys nor on how often they were read and written.
func TestCanonicalIsOneForm(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, j := range manifests(t) {
		want := canonical(t, j)
		var v any
		if err := decodeNumbers(j, &v); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if got := canonical(t, []byte(shuffled(rng, v))); !bytes.Equal(got, want) {
				t.Fatalf("%s: keys in another order give\n%s\nwant\n%s", name, got, want)
			}
		}
		obj, err := Read(want)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Canonical(obj)
		if err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s: read and written again:\n%s\nwant\n%s (%v)", name, again, want, err)
		}
		if twice := canonical(t, want); !bytes.Equal(twice, want) {
			t.Errorf("%s: defaulted again:\n%s\nwant\n%s", name, twice, want)
		}
		if bytes.Contains(want, []byte("null")) {
			t.Errorf("%s: a null in %s", name, want)
		}
	}
}

// shuffled encodes a JSON value with the keys of its objects in a random order and nulls strewn in.
func shuffled(rng *rand.Rand, v any) string {
	switch v := v.(type) {
	case map[string]any:
		keys := sorted(v)
		rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		var parts []string
		for _, k := range keys {
			name, _ := json.Marshal(k)
			parts = append(parts, string(name)+" : "+shuffled(rng, v[k]))
		}
		return "{ " + strings.Join(parts, ",\n") + "}"
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, shuffled(rng, e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// What a server writes goes, and `kubectl get -o yaml` can be committed.
func TestServerSideFieldsAreLeftOut(t *testing.T) {
	const clean = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"d"},"data":{"k":"v"}}`
	const dumped = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"d","uid":"1","resourceVersion":"7",
		"generation":2,"creationTimestamp":"2026-01-01T00:00:00Z","selfLink":"/x","managedFields":[{"manager":"kubectl"}],
		"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}},"data":{"k":"v"}}`
	if got, want := canonical(t, []byte(dumped)), canonical(t, []byte(clean)); !bytes.Equal(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{``, "not a JSON object: unexpected end of JSON input"},
		{`null`, "kind: Required value: expected the name of a kind"},
		{`[]`, "not a JSON object: cannot unmarshal array"},
		{`{"kind":"Gadget"}`, "kind: Gadget: not supported yet"},
		{`{"kind":"StatefulSet","apiVersion":"apps/v1"}`, "kind: StatefulSet: not supported yet"},
		{`{"kind":7}`, "kind: Required value: expected the name of a kind"},
		{`{"kind":"Deployment","apiVersion":"extensions/v1beta1"}`, `apiVersion: Unsupported value: "extensions/v1beta1": supported values: "apps/v1"`},
		{`{"kind":"Pod"}`, `apiVersion: Unsupported value: "": supported values: "v1"`},
		{
			`{"apiVersion":"apps/v1","kind":"Deployment","Spec":{},"spec":{"replicas":"3","replicas":1,"minReadySeconds":4294967296,"paused":"yes",
			"strategy":[],"template":{"spec":{"containers":{"name":"a"},"volumes":["x",{"name":1}],"nodeSelector":{"a":true}}}}}`,
			`Spec: unknown field
spec.minReadySeconds: Invalid value: expected an integer of 32 bits
spec.paused: Invalid type: found string, expected boolean
spec.replicas: duplicate field
spec.strategy: Invalid type: found list, expected object
spec.template.spec.containers: Invalid type: found object, expected list
spec.template.spec.nodeSelector[a]: Invalid type: found boolean, expected string
spec.template.spec.volumes[0]: Invalid type: found string, expected object
spec.template.spec.volumes[1].name: Invalid type: found number, expected string`,
		},
		{
			`{"apiVersion":"v1","kind":"Secret","data":{"a":"%%%","b":7},"stringData":{"pin":1234}}`,
			`data[a]: Invalid value: illegal base64 data at input byte 0
data[b]: Invalid type: found number, expected string (base64)
stringData[pin]: Invalid type: found number, expected string`,
		},
		{
			`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"resources":{"limits":{"cpu":"lots","memory":true}},"ports":[{"containerPort":1.5}],
			"livenessProbe":{"httpGet":{"port":[]}}}]}}`,
			`spec.containers[0].livenessProbe.httpGet.port: Invalid value: cannot unmarshal array into Go value of type int32
spec.containers[0].ports[0].containerPort: Invalid value: expected an integer of 32 bits
spec.containers[0].resources.limits[cpu]: Invalid value: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
spec.containers[0].resources.limits[memory]: Invalid value: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`,
		},
		{
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"1e-99999999"},"spec":{"containers":[{"resources":{"limits":{"cpu":"1e-99999999","memory":1e2147483647},
			"requests":{"cpu":" 1E999","memory":"` + strings.Repeat("1", 100) + `","a":"1e99"}}}],"volumes":[{"emptyDir":{"sizeLimit":"1e-100"}}]}}`,
			`spec.containers[0].resources.limits[cpu]: ` + absurdText + `
spec.containers[0].resources.limits[memory]: ` + absurdText + `
spec.containers[0].resources.requests[cpu]: ` + absurdText + `
spec.containers[0].resources.requests[memory]: ` + absurdText + `
spec.volumes[0].emptyDir.sizeLimit: ` + absurdText,
		},
		{
			`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"1e-99999999"}}}]}}}}`,
			`spec.template.spec.containers[0].resources.limits[cpu]: ` + absurdText,
		},
		{ // looks like one and is none
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"1e-99999999"},"spec":{"containers":[{"image":"a@sha256:0123456789012345678901234567890123456789012345678901234567890123"}]}}`,
			"",
		},
	} {
		obj, faults := Decode([]byte(c.in))
		var lines []string
		for _, f := range faults {
			lines = append(lines, f.String())
		}
		got := strings.Join(lines, "\n")
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.in, got, c.want)
		}
		if obj == nil && len(faults) == 0 {
			t.Errorf("%s: neither object nor fault", c.in)
		}
	}
}

// A host's own tzdata neither adds a zone nor takes one away.
func TestTimeZonesAreNotTheHosts(t *testing.T) {
	dir := t.TempDir()
	utc, err := os.ReadFile("/usr/share/zoneinfo/UTC")
	if err != nil {
		utc = []byte("TZif2" + strings.Repeat("\x00", 39))
	}
	if err := os.MkdirAll(filepath.Join(dir, "Mars"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Mars", "Olympus"), utc, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZONEINFO", dir)
	for _, c := range []struct{ zone, want string }{
		{"Europe/Oslo", "[]"},
		{"UTC", "[]"},
		{"Mars/Olympus", `[spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus]`},
		{"Local", `[spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones]`},
		{"../etc", `[spec.timeZone: Invalid value: "../etc": unknown time zone ../etc]`},
		{"", `[spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string]`},
	} {
		j := fmt.Sprintf(`{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"a","namespace":"d"},"spec":{"schedule":"0 3 * * *","timeZone":%q,
			"jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}`, c.zone)
		obj, faults := Decode([]byte(j))
		if faults != nil {
			t.Fatal(faults)
		}
		Default(obj)
		before, _ := json.Marshal(obj)
		if got := fmt.Sprint(Validate(obj)); got != c.want {
			t.Errorf("%q: %s\nwant %s", c.zone, got, c.want)
		}
		if after, _ := json.Marshal(obj); !bytes.Equal(before, after) {
			t.Errorf("%q: Validate changed the object to %s", c.zone, after)
		}
	}
}

func TestKinds(t *testing.T) {
	want := "ConfigMap CronJob Deployment Job Namespace Pod ReplicaSet Secret Service"
	if got := strings.Join(Kinds(), " "); got != want || !slices.IsSorted(Kinds()) {
		t.Errorf("%s, want %s", got, want)
	}
	for _, k := range Kinds() {
		namespaced, ok := Namespaced(k)
		if !ok || namespaced == (k == "Namespace") {
			t.Errorf("%s: namespaced %t, known %t", k, namespaced, ok)
		}
	}
}

// Whatever bytes come, the front door answers, and what it lets in has one canonical form.
func FuzzDecode(f *testing.F) {
	for _, j := range manifests(f) {
		f.Add(j)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		obj, faults := Decode(b)
		if obj == nil {
			if len(faults) == 0 {
				t.Fatal("neither object nor fault")
			}
			return
		}
		Default(obj)
		Validate(obj)
		c, err := Canonical(obj)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(c)
		if err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		if c2, err := Canonical(again); err != nil || !bytes.Equal(c, c2) {
			t.Fatalf("%s\n%s\n%v", c, c2, err)
		}
	})
}

func BenchmarkObject(b *testing.B) {
	for name, j := range manifests(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				obj, _ := Decode(j)
				Default(obj)
				if errs := Validate(obj); len(errs) > 0 {
					b.Fatal(errs)
				}
				if _, err := Canonical(obj); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
