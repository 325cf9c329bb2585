package renderer

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// FuzzRender: whatever stands in an app's file, the app beside it renders, and the app gets objects or problems.
func FuzzRender(f *testing.F) {
	f.Add("package a\n"+endless(), "a: 1\n")
	f.Add("package a\n"+references(), "")
	f.Add(strings.TrimPrefix(webApp, "\n-- apps/web/web.cue --\n"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")
	f.Add("package a\nobjects: {a: 1, b: {}, c: [...], d: {kind: \"x\"}}\n", "a: &a [*a]\n")
	r := newRenderer(f, "desired", Limits{CPU: 500 * time.Millisecond, Wall: 5 * time.Second, Memory: 200 << 20})
	f.Fuzz(func(t *testing.T, cue, yaml string) {
		all := files(okApp)
		all["apps/a/a.cue"], all["apps/a/a.yaml"] = cue, yaml
		apps, _, err := r.Render(context.Background(), Request{Tree: treeOf(t, all), Environment: dev})
		if err != nil {
			t.Fatal(err)
		}
		if len(apps) != 2 || len(apps[1].Problems) > 0 {
			t.Errorf("the app beside it: %v", apps)
		}
		for _, a := range apps {
			if _, _, err := a.Desired(); err != nil {
				t.Error(err)
			}
			for _, p := range a.Problems {
				if p.File == "" || p.Text == "" || p.App != a.Name {
					t.Errorf("problem without place, text or app: %+v", p)
				}
			}
		}
	})
}

// FuzzFrames: the parent reads what a child that was taken over writes: no panic, and no more memory than came.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("A\x00\x00\x00\x06\x00\x00\x00\x02{}"))
	f.Add([]byte("A\x00\x00\x00\x04\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			fr, err := readFrame(r, 1<<20)
			if err != nil {
				return
			}
			var h appHeader
			if fr.decode(&h) != nil {
				continue
			}
			a, err := h.app(fr.body)
			if err != nil {
				continue
			}
			_, _, _ = a.Desired()
			a.Compiled = fr.body
			_, _, _ = a.Desired()
		}
	})
}
