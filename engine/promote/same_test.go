package promote

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/desired"
)

// objectsOf reads YAML documents.
func objectsOf(t *testing.T, text string) []Object {
	t.Helper()
	var out []Object
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		j, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		var head struct {
			APIVersion, Kind string
			Metadata         struct{ Name, Namespace string }
		}
		if err := json.Unmarshal(j, &head); err != nil {
			t.Fatal(err)
		}
		group, _, ok := strings.Cut(head.APIVersion, "/")
		if !ok {
			group = ""
		}
		out = append(out, Object{desired.Key{Group: group, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name}, j})
	}
	return out
}

func TestFeature_P6_Same(t *testing.T) {
	golden(t, "same_*", func(t *testing.T, files map[string]string) string {
		a := Side{objectsOf(t, files["staging.yaml"]), map[string]string{"staging": "", "staging-db": "db"}}
		b := Side{objectsOf(t, files["production.yaml"]), map[string]string{"production": "", "production-db": "db"}}
		except := strings.Fields(files["except"])
		differences, err := Same(a, b, except)
		if err != nil {
			return err.Error() + "\n"
		}
		var out strings.Builder
		for _, d := range differences {
			out.WriteString(d.String() + "\n")
		}
		if s := out.String(); strings.Contains(s, "hunter2") || strings.Contains(s, "aHVudGVyMg") {
			t.Errorf("it shows a secret:\n%s", s)
		}
		for _, side := range []Side{a, b} {
			if d, err := Same(side, side, nil); err != nil || len(d) > 0 {
				t.Errorf("differs from itself: %v, %v", d, err)
			}
		}
		return out.String()
	})
}

func TestSameBounds(t *testing.T) {
	big := func(v int) Side {
		m := map[string]any{}
		for i := range MaxDifferences + 5 {
			m[fmt.Sprint("k", i)] = v
		}
		j, _ := json.Marshal(map[string]any{"data": m})
		return Side{Objects: []Object{{desired.Key{Kind: "ConfigMap", Name: "a"}, j}}}
	}
	d, err := Same(big(1), big(2), nil)
	if err != nil || len(d) != MaxDifferences+1 || d[MaxDifferences].Path != "and more" {
		t.Errorf("%d, %v", len(d), err)
	}
	if _, err := Same(Side{Objects: []Object{{desired.Key{Kind: "X", Name: "a"}, []byte("[]")}}}, Side{}, nil); err == nil || err.Error() != "X a: it is no JSON object" {
		t.Error(err)
	}
	twice := Side{Objects: objectsOf(t, "apiVersion: v1\nkind: X\nmetadata: {name: a, namespace: ns}\n\n---\napiVersion: v1\nkind: X\nmetadata: {name: a, namespace: ms}\n"), Namespaces: map[string]string{"ns": "", "ms": ""}}
	if _, err := Same(twice, Side{}, nil); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Error(err)
	}
	if _, err := Same(Side{}, Side{}, make([]string, maxExcept+1)); err == nil {
		t.Error("too many fields are no error")
	}
}

// FuzzSame: no JSON and no list makes it panic; what is the same has no differences, and all that differs is told on both sides.
func FuzzSame(f *testing.F) {
	f.Add(`{"spec":{"a":[{"name":"x","v":1},{"name":"y"}]}}`, `{"spec":{"a":[{"name":"y"},{"name":"x","v":2}]}}`, "X/*:spec.a[x].v")
	f.Add(`{"a":1}`, `{"a":{"b":null}}`, "X/a:a.b")
	f.Fuzz(func(t *testing.T, a, b, except string) {
		side := func(j string) Side { return Side{Objects: []Object{{desired.Key{Kind: "X", Name: "a"}, []byte(j)}}} }
		ab, err := Same(side(a), side(b), []string{except})
		ba, err2 := Same(side(b), side(a), []string{except})
		if (err == nil) != (err2 == nil) || len(ab) != len(ba) {
			t.Fatalf("%v %v\n%v %v", ab, err, ba, err2)
		}
		if err != nil {
			return
		}
		for _, d := range ab {
			if d.Allowed != "" && d.Allowed != except {
				t.Fatalf("%+v", d)
			}
		}
		if aa, _ := Same(side(a), side(a), nil); len(aa) != 0 {
			t.Fatalf("%+v", aa)
		}
	})
}
