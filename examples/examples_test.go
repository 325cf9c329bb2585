// Package examples holds repositories to copy. Its test renders each as a node would.
package examples

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cuelang.org/go/cue/format"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/images"
)

// objects renders a repository for one environment, and returns what Kubernetes' defaulting and checks make of it.
func objects(t *testing.T, repository, environment string) (render.Environment, map[string]string) {
	t.Helper()
	tree, err := source.FromFS(os.DirFS(repository), source.FSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all, problems := render.Environments(tree)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	i := slices.IndexFunc(all, func(e render.Environment) bool { return e.Name == environment })
	if i < 0 {
		t.Fatalf("%s has no environment %s", repository, environment)
	}
	names, err := render.Apps(tree)
	if err != nil {
		t.Fatal(err)
	}
	var apps []desired.App
	out := map[string]string{}
	for _, app := range render.Eval(tree, all[i], names) {
		compiled, blobs := desired.Compile(all[i], app)
		if len(compiled.Problems) > 0 {
			t.Fatalf("%s %s: %v", repository, environment, compiled.Problems)
		}
		apps = append(apps, compiled)
		for _, b := range blobs {
			out[string(b.Digest)] = string(b.Bytes)
		}
	}
	built, err := desired.Build(all[i], apps, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(built.Problems) > 0 || len(built.Warnings) > 0 || len(built.Held) > 0 {
		t.Fatalf("%s %s: %v %v %v", repository, environment, built.Problems, built.Warnings, built.Held)
	}
	byKey := map[string]string{}
	for _, e := range built.Set.Entries {
		byKey[e.Key.String()] = out[string(e.Digest)]
	}
	return all[i], byKey
}

// TestExamplesRender names every object of every example.
func TestExamplesRender(t *testing.T) {
	guestbook := "CronJob NS/report, Deployment NS/redis, Deployment NS/web, Service NS/redis, Service NS/web"
	echo := "ConfigMap NS/echo-site, Deployment NS/echo, Service NS/echo"
	for _, c := range []struct{ repository, environment, want string }{
		{"guestbook", "dev", guestbook},
		{"guestbook", "production", guestbook},
		{"guestbook-objects", "dev", guestbook},
		{"guestbook-objects", "production", guestbook},
		{"echo", "dev", echo},
		{"echo", "production", echo},
		{"echo-yaml", "dev", echo},
	} {
		_, got := objects(t, c.repository, c.environment)
		var keys []string
		for k := range got {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if text := strings.Join(keys, ", "); text != strings.ReplaceAll(c.want, "NS", c.environment) {
			t.Errorf("%s %s: %s", c.repository, c.environment, text)
		}
	}
}

// TestFormsAgree: the short form and Kubernetes' objects, CUE and YAML, are the same to the last byte once
// defaults are filled in.
func TestFormsAgree(t *testing.T) {
	for _, c := range []struct{ a, b, environment string }{
		{"guestbook", "guestbook-objects", "dev"},
		{"guestbook", "guestbook-objects", "production"},
		{"echo", "echo-yaml", "dev"},
	} {
		_, a := objects(t, c.a, c.environment)
		_, b := objects(t, c.b, c.environment)
		for key := range a {
			if a[key] == "" || a[key] != b[key] {
				t.Errorf("%s: %s\n%s has %s\n%s has %s", c.environment, key, c.a, a[key], c.b, b[key])
			}
		}
	}
}

// TestEnvironmentsMeetInOneRing: dev and production share no node port.
func TestEnvironmentsMeetInOneRing(t *testing.T) {
	port := regexp.MustCompile(`"nodePort":(\d+)`)
	taken := map[string]string{}
	for _, repository := range []string{"guestbook", "echo"} {
		for _, environment := range []string{"dev", "production"} {
			_, got := objects(t, repository, environment)
			for key, text := range got {
				for _, m := range port.FindAllStringSubmatch(text, -1) {
					if other, ok := taken[m[1]]; ok {
						t.Errorf("node port %s: %s and %s", m[1], other, key)
					}
					taken[m[1]] = key
				}
			}
		}
	}
	if len(taken) != 4 {
		t.Errorf("node ports: %v", taken)
	}
}

// TestImagesExist: every image an example names is one that can be built.
func TestImagesExist(t *testing.T) {
	image := regexp.MustCompile(`"image":"shoal\.local/([^:"]+):[^"]+"`)
	for _, repository := range []string{"guestbook", "guestbook-objects", "echo", "echo-yaml"} {
		_, got := objects(t, repository, "dev")
		found := 0
		for key, text := range got {
			for _, m := range image.FindAllStringSubmatch(text, -1) {
				found++
				if _, err := images.Find(m[1]); err != nil {
					t.Errorf("%s %s: %v", repository, key, err)
				}
			}
		}
		if found == 0 {
			t.Errorf("%s names no image", repository)
		}
	}
}

// TestExamplesAreFormatted: as `cue fmt` would have them.
func TestExamplesAreFormatted(t *testing.T) {
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".cue") {
			return err
		}
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		want, err := format.Source(have)
		if err != nil {
			return err
		}
		if string(have) != string(want) {
			t.Errorf("%s is not formatted; want\n%s", path, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
