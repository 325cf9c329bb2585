package render

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzYAML: whatever a YAML file holds, it gives valid canonical JSON within the limits, or problems with a place.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{
		"a: 1\n", "a: &x [1, *x]\n", "<<: *a\n", "a: &a {b: 1}\nc: {<<: *a, b: 2}\n", "--- 1\n---\n", "a: !!binary eA==\n",
		"? [a]\n: b\n", "a: 1\na: 2\n", "a: 0x1F\nb: 0o17\nc: 1e400\nd: .inf\ne: 2001-01-01\nf: ~\n", "%YAML 1.1\n---\na: yes\n", "\xff\xfe", "a: |\n  x\n y\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		docs, problems := yamlDocuments("x.yaml", src)
		for _, p := range problems {
			if p.File != "x.yaml" || p.Text == "" {
				t.Errorf("problem without place or text: %+v", p)
			}
		}
		if len(problems) > 0 && docs != nil {
			t.Error("objects beside problems")
		}
		for _, d := range docs {
			if len(d.json) > 2*MaxObjectBytes {
				t.Errorf("an object of %d bytes", len(d.json))
			}
			dec := json.NewDecoder(strings.NewReader(string(d.json)))
			dec.UseNumber()
			var v any
			if err := dec.Decode(&v); err != nil {
				t.Fatalf("not JSON: %v: %s", err, d.json)
			}
			var again strings.Builder
			enc := json.NewEncoder(&again)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(v); err != nil {
				t.Fatal(err)
			}
			if strings.TrimSuffix(again.String(), "\n") != string(d.json) {
				t.Errorf("not canonical: %s and %s", d.json, again.String())
			}
		}
	})
}

// FuzzPath: what pathString writes, parsePath reads.
func FuzzPath(f *testing.F) {
	f.Add("app.web.ports[0]")
	f.Add(`data."a.b"[3].x`)
	f.Add("metadata.annotations[a.b/c]")
	f.Fuzz(func(t *testing.T, s string) {
		path := parsePath(s)
		if again := pathString(path); pathString(parsePath(again)) != again {
			t.Errorf("%q reads as %q, which writes as %q", s, path, again)
		}
	})
}

// FuzzLoad: whatever a CUE file holds, loading it gives an app, or problems with a place. It is not evaluated here:
// that has no limit.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"package a\n", "@if(dev)\npackage a\n", "@if(!(a&&b)||c)\n\npackage a\n_x: string @tag(ref)\n", "package a\nimport \"shoal.dev/schema\"\nschema.#Package\n",
		"@extern(embed)\npackage a\n_x: _ @embed(file=x)\n", "package a\nimport \"../x\"\n", "package a\nimport \"shop.example/cluster/apps/a\"\n", "package _\n", "\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 4096 {
			return
		}
		l := NewBatch(&Prepared{build: fuzzPrepared.build, schema: fuzzPrepared.schema}, treeOf(t, map[string]string{"cue.mod/module.cue": module, "apps/a/a.cue": src}), Environment{Name: "dev"}).Load("a")
		for _, p := range l.problems {
			if p.File == "" || p.Text == "" {
				t.Errorf("problem without place or text: %+v", p)
			}
		}
	})
}

var fuzzPrepared = Prepare()
