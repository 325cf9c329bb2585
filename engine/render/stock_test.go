package render

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// buildCUE builds the cue command of the version that Shoal is built with.
func buildCUE(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the cue command")
	}
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "cuelang.org/go").Output()
	if err != nil {
		t.Fatalf("version of cue: %v", err)
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "install", "cuelang.org/go/cmd/cue@"+strings.TrimSpace(string(version)))
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build cue: %v\n%s", err, out)
	}
	return filepath.Join(dir, "cue")
}

// stock runs cue on a repository and returns its output, or its errors.
func stock(t *testing.T, cue, dir string, args ...string) (out []byte, errs string, ok bool) {
	t.Helper()
	cmd := exec.Command(cue, args...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "CUE_REGISTRY=none", "PATH=/nowhere"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return stdout.Bytes(), stderr.String(), err == nil
}

// tags are the -t arguments for what an app uses.
func tags(env Environment, deps Deps) []string {
	env = env.WithDefaults()
	var args []string
	for _, f := range deps.Facts {
		switch v := env.fact(f); {
		case f == "class":
			args = append(args, "-t", v)
		case v != "":
			args = append(args, "-t", f+"="+v)
		}
	}
	return args
}

// TestStockCUE compares with the unmodified cue command: what `cue export -e objects` says of an app is what its
// CUE renders to, and `cue vet` refuses the same apps.
func TestStockCUE(t *testing.T) {
	cue := buildCUE(t)
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	compared, refused := 0, 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all := files(string(text))
		delete(all, "want")
		dir := t.TempDir()
		for f, data := range all {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, f), []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, class := range []string{"dev", "production"} {
			env := Environment{Name: class, Ref: "refs/heads/" + class}
			tree := treeOf(t, all)
			apps, err := Apps(tree)
			if err != nil {
				t.Fatal(err)
			}
			for _, app := range apps {
				loaded := NewBatch(Prepare(), tree, env).Load(app)
				if loaded.pkg == nil || strings.Contains(string(text), "# not for stock cue") {
					continue
				}
				got := loaded.Eval()
				args := append([]string{"./apps/" + app}, tags(env, loaded.Deps)...)
				out, errs, ok := stock(t, cue, dir, append([]string{"export", "-e", "objects"}, args...)...)
				if ok != (len(got.Problems) == 0) {
					t.Errorf("%s %s: stock cue says %q, we %v", name, app, errs, got.Problems)
					continue
				}
				_, _, vetted := stock(t, cue, dir, append([]string{"vet", "-c"}, args...)...)
				// A package without objects is sound CUE: there is nothing to export.
				if vetted != ok && !strings.Contains(errs, `reference "objects" not found`) {
					t.Errorf("%s %s: cue vet and cue export disagree", name, app)
				}
				if !ok {
					refused++
					continue
				}
				if want := exported(t, out); !slices.Equal(want, ours(t, got, ".cue")) {
					t.Errorf("%s %s %s: stock cue exports\n%s\nwe\n%s", name, class, app, strings.Join(want, "\n"), strings.Join(ours(t, got, ".cue"), "\n"))
				}
				compared++
			}
		}
	}
	if compared < 6 || refused < 2 {
		t.Errorf("compared only %d apps, %d refused", compared, refused)
	}
}

// exported splits the export into canonical objects, sorted.
func exported(t *testing.T, b []byte) []string {
	t.Helper()
	var objects map[string]any
	if err := json.Unmarshal(b, &objects); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, o := range objects {
		out = append(out, marshal(t, o))
	}
	slices.Sort(out)
	return out
}

// ours are an app's objects from files that end in suffix, sorted.
func ours(t *testing.T, app App, suffix string) []string {
	t.Helper()
	var out []string
	for _, o := range app.Objects {
		var v any
		if err := json.Unmarshal(o.JSON, &v); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(o.File, suffix) {
			out = append(out, marshal(t, v))
		}
	}
	slices.Sort(out)
	return out
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
