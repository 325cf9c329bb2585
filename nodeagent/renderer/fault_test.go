package renderer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// quick are limits that a bomb meets soon, and an ordinary app on a busy machine does not.
var quick = Limits{CPU: 2 * time.Second, Wall: 20 * time.Second, Memory: 300 << 20}

// endless is CUE that does not end in any time: eleven open disjunctions of three, in 539 bytes.
func endless() string {
	var terms []string
	for i := range 11 {
		terms = append(terms, fmt.Sprintf("({k%d: 1, ...} | {k%d: 2, ...} | *{k%d: 3, ...})", i, i, i))
	}
	return "#D: " + strings.Join(terms, " & ") + "\ny: #D\n"
}

// references is CUE whose value is ten to the ninth times as long as a word.
func references() string {
	var b strings.Builder
	b.WriteString("_a0: \"lollollollol\"\n")
	for i := 1; i <= 9; i++ {
		fmt.Fprintf(&b, "_a%d: [%s]\n", i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("_a%d,", i-1), 10), ","))
	}
	return b.String()
}

const okApp = "-- apps/ok/ok.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ok}\n"

func mustRender(t *testing.T, r *Renderer, text0 string) string {
	t.Helper()
	apps, stats, err := r.Render(context.Background(), Request{Tree: repo(t, text0), Environment: dev})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", stats)
	return text(apps)
}

// TestFault_R1: CUE that never ends is an error on its app, which names file and limit; the others render, also
// those after it; and it costs its limit once, not with every commit.
func TestFault_R1(t *testing.T) {
	r := newRenderer(t, "renderer", quick)
	tree := webApp + okApp + "-- apps/forever/r1.cue --\npackage forever\n" + endless()
	want := `forever: !apps/forever/r1.cue: its evaluation took more than 2s of CPU time
ok: ConfigMap@apps/ok/ok.yaml:1
web: Deployment@apps/web/web.cue:7 Service@apps/web/web.cue:7
`
	if got := mustRender(t, r, tree); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	apps, stats, err := r.Render(context.Background(), Request{Tree: repo(t, tree+"-- apps/new/new.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: new}\n"), Environment: dev})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Rendered != 1 || len(apps) != 4 {
		t.Errorf("rendered %d apps of %d; want only the new one", stats.Rendered, len(apps))
	}
}

// TestFault_R2: a value that outgrows every memory is an error on its app: where it is only long when it is written
// out, it is cut there; where it is evaluated, the child's memory is bounded.
func TestFault_R2(t *testing.T) {
	r := newRenderer(t, "renderer", Limits{CPU: time.Minute, Wall: time.Minute, Memory: 300 << 20})
	const object = "objects: o: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"o\", data: x: "
	got := mustRender(t, r, webApp+"-- apps/written/r2.cue --\npackage written\n"+references()+object+"_a9}\n"+
		"-- apps/evaluated/r2.cue --\npackage evaluated\n\nimport (\n\t\"list\"\n\t\"strings\"\n)\n\n"+object+"[for i in list.Range(0, 2000, 1) {strings.Repeat(\"x\", 900_000+i)}]}\n")
	want := `evaluated: !apps/evaluated/r2.cue: its evaluation took more than 300 MiB of memory
web: Deployment@apps/web/web.cue:7 Service@apps/web/web.cue:7
written: !apps/written/r2.cue:12: objects.o: has more than 1048576 bytes of JSON
`
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// TestFault_R2_Output: what evaluates in bounds and is written out many times over is cut while it is written.
func TestFault_R2_Output(t *testing.T) {
	r := newRenderer(t, "renderer", Limits{})
	body := "-- apps/big/big.cue --\npackage big\n\nobjects: big: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"x\", data: {\n"
	for i := range 20 {
		body += fmt.Sprintf("\tk%d: strings.Repeat(\"x\", 100_000)\n", i)
	}
	body = strings.Replace(body, "package big\n", "package big\n\nimport \"strings\"\n", 1) + "}}\n"
	want := "big: !apps/big/big.cue:5: objects.big: has more than 1048576 bytes of JSON\n"
	if got := mustRender(t, r, body); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	deep := "-- apps/deep/deep.cue --\npackage deep\n\nobjects: deep: {apiVersion: \"v1\", kind: \"ConfigMap\", metadata: name: \"x\", data: " + strings.Repeat("{a: ", 100) + "1" + strings.Repeat("}", 100) + "}\n"
	want = "deep: !apps/deep/deep.cue:3: objects.deep: is nested deeper than 64 levels\n"
	if got := mustRender(t, r, deep); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// TestFault_R3: YAML made to hurt is refused by limits.
func TestFault_R3(t *testing.T) {
	bomb := "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
	for i := 1; i < 9; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	merge := "a0: &a0 {x: 1}\n"
	for i := 1; i < 30; i++ {
		merge += fmt.Sprintf("a%d: &a%d {<<: [*a%d, *a%d]}\n", i, i, i-1, i-1)
	}
	for name, c := range map[string]struct{ src, want string }{
		"aliases": {bomb, "aliases stand for more than 10000 values"},
		"merges":  {merge, "aliases stand for more than 10000 values"},
		"deep":    {"a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "\n", "is nested deeper than 64 levels"},
		"deeper":  {"a: " + strings.Repeat("[", 100_000) + "\n", "exceeded max depth"},
		"indent":  {strings.Repeat("- ", 100_000) + "\n", "exceeded max depth"},
		"scalar":  {"a: " + strings.Repeat("x", 5<<20) + "\n", "has 5242884 bytes; at most 4194304 are read"},
		"huge":    {"a: " + strings.Repeat("x", 9<<20) + "\n", "at most 8388608 are read"},
		"many":    {strings.Repeat("---\na: 1\n", 3000), "has more than 2000 documents"},
		"twice":   {"a: 1\nb: 2\na: 3\n", "a: is written twice, first in line 1"},
		"itself":  {"a: &a\n  b: *a\n", "is nested deeper than 64 levels"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRenderer(t, "renderer", quick)
			got := mustRender(t, r, okApp+"-- apps/bad/bad.yaml --\n"+c.src)
			if !strings.Contains(got, "bad: !apps/bad/bad.yaml") || !strings.Contains(got, c.want) || !strings.Contains(got, "ok: ConfigMap") {
				t.Errorf("got:\n%.1000s\nwant %s", got, c.want)
			}
		})
	}
	// A second document is an object of its own, and none hides behind another.
	r := newRenderer(t, "renderer", quick)
	two := "-- apps/two/two.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n...\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: b}\n"
	if got, want := mustRender(t, r, two), "two: ConfigMap@apps/two/two.yaml:1 Secret@apps/two/two.yaml:6\n"; got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// TestFault_R3_CUE: the same by way of CUE's parser and of files that it embeds.
func TestFault_R3_CUE(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"brackets": {"package bad\n_x: " + strings.Repeat("[", 100_000) + "\n", "brackets are nested deeper than 500"},
		"fields":   {"package bad\n_x: " + strings.Repeat("a: ", 500_000) + "1\n", "apps/bad"},
		"signs":    {"package bad\n_x: " + strings.Repeat("-", 3_000_000) + "1\n", "apps/bad"},
		"sums":     {"package bad\n_x: 1" + strings.Repeat("+1", 1_000_000) + "\n", "apps/bad"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRenderer(t, "renderer", quick)
			got := mustRender(t, r, okApp+"-- apps/bad/bad.cue --\n"+c.src)
			if !strings.Contains(got, "bad: !apps/bad") || !strings.Contains(got, c.want) || !strings.Contains(got, "ok: ConfigMap") {
				t.Errorf("got:\n%.1000s\nwant %s", got, c.want)
			}
		})
	}
}

// fakes are children that misbehave once they are asked to render.
func fake(behave func(c *child, app string)) func() int {
	return func() int {
		return ChildMain(func(_ render.Environment, app render.App) ([]byte, render.Problems) {
			if strings.HasPrefix(app.Name, "bad") {
				behave(nil, app.Name)
			}
			return []byte("fine"), nil
		})
	}
}

func init() {
	roles["victim"] = fake(func(*child, string) { time.Sleep(time.Hour) })
	roles["aborted"] = fake(func(*child, string) {
		_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGABRT)
		time.Sleep(time.Minute)
	})
	roles["panics"] = fake(func(*child, string) { panic("a bug in the compiler") })
	roles["talks"] = fake(func(*child, string) {
		line := []byte(strings.Repeat("nonsense ", 1000))
		for range 1 << 30 / len(line) {
			_, _ = os.Stderr.Write(line)
		}
	})
	roles["lies"] = fake(func(*child, string) {
		_, _ = os.Stdout.Write([]byte("A\xff\xff\xff\xff"))
		_, _ = os.Stdout.Write(bytes.Repeat([]byte("x"), 1<<20))
		time.Sleep(time.Minute)
	})
	roles["garbage"] = fake(func(*child, string) { _, _ = os.Stdout.Write(bytes.Repeat([]byte{0}, 100)); time.Sleep(time.Minute) })
	roles["sleeps"] = fake(func(*child, string) { time.Sleep(time.Hour) })
	roles["hoards"] = fake(func(*child, string) {
		var all [][]byte
		for {
			all = append(all, bytes.Repeat([]byte("x"), 1<<20))
			if len(all) > 1<<20 {
				fmt.Println(all)
			}
		}
	})
	// stubborn never locks itself up: it ignores SIGTERM, leaves a process of its own behind, and says nothing.
	roles["stubborn"] = func() int {
		if len(os.Args) < 3 {
			p, err := os.StartProcess("/proc/self/exe", []string{"x", "stubborn", "grandchild"}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			_ = os.WriteFile(os.TempDir()+"/never", nil, 0o600)
			fmt.Fprintln(os.Stderr, "grandchild", p.Pid)
		}
		time.Sleep(time.Hour)
		return 0
	}
}

// TestFault_R4: whatever becomes of a child, its app has an error, the others render, and the agent lives.
func TestFault_R4(t *testing.T) {
	limits := Limits{CPU: 5 * time.Second, Wall: 3 * time.Second, Memory: 300 << 20}
	for role, want := range map[string]string{
		"aborted": "its evaluation failed: the renderer ended",
		"panics":  "its evaluation failed: the renderer ended: exit status 2: panic: a bug in the compiler",
		"talks":   "its evaluation wrote more than 1024 KiB of errors",
		"lies":    "its render has more than 48 MiB",
		"garbage": "its evaluation failed",
		"sleeps":  "its evaluation took more than 3s",
		"hoards":  "its evaluation took more than 300 MiB of memory",
	} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			r := newRenderer(t, role, limits)
			tree := okApp + "-- apps/bad1/x.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\n-- apps/a/x.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
			got := mustRender(t, r, tree)
			if !strings.Contains(got, "a: fine\nbad1: !apps/bad1/x.yaml: "+want) || !strings.Contains(got, "\nok: fine\n") {
				t.Errorf("got:\n%s\nwant %s", got, want)
			}
		})
	}
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		r := newRenderer(t, "victim", Limits{})
		// The turn of the app has come when its file is read; then the child is killed, as the kernel does when
		// memory runs out.
		var killer sync.WaitGroup
		tree := watchedTree{repo(t, "-- apps/bad/x.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\n"), func(path string) {
			if path != "apps/bad/x.yaml" {
				return
			}
			pid := r.lane.proc.pid // the reader is the goroutine that renders
			killer.Go(func() {
				time.Sleep(200 * time.Millisecond)
				_ = unix.Kill(pid, unix.SIGKILL)
			})
		}}
		apps, _, err := r.Render(context.Background(), Request{Tree: tree, Environment: dev})
		if err != nil {
			t.Fatal(err)
		}
		killer.Wait()
		got := text(apps)
		if want := "bad: !apps/bad/x.yaml: its evaluation failed: the renderer ended: signal: killed\n"; got != want {
			t.Errorf("got %s want %s", got, want)
		}
	})
	t.Run("stubborn", func(t *testing.T) {
		t.Parallel()
		r := newRenderer(t, "stubborn", Limits{Wall: time.Second})
		_, _, err := r.Render(context.Background(), Request{Tree: repo(t, okApp), Environment: dev})
		if err == nil || !strings.Contains(err.Error(), "was not ready within 1s") {
			t.Fatalf("got %v", err)
		}
		if left := groupOf(t, "grandchild"); left != "" {
			t.Errorf("a process of the child's is left: %s", left)
		}
	})
}

// watchedTree tells each file that is read.
type watchedTree struct {
	source.Tree
	read func(path string)
}

func (w watchedTree) ReadFile(path string) ([]byte, error) {
	w.read(path)
	return w.Tree.ReadFile(path)
}

// groupOf finds this test binary's processes that have an argument, in /proc.
func groupOf(t *testing.T, arg string) string {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if exe, _ := os.Readlink(d + "/exe"); exe != self {
			continue
		}
		if b, _ := os.ReadFile(d + "/cmdline"); bytes.Contains(b, []byte("\x00"+arg)) {
			return d
		}
	}
	return ""
}

// TestFault_R4_Cancel: a render that is given up ends its child.
func TestFault_R4_Cancel(t *testing.T) {
	r := newRenderer(t, "sleeps", Limits{})
	ctx, cancel := context.WithTimeoutCause(context.Background(), 300*time.Millisecond, errors.New("given up"))
	defer cancel()
	_, _, err := r.Render(ctx, Request{Tree: repo(t, "-- apps/bad/x.yaml --\na: 1\n"), Environment: dev})
	if err == nil || err.Error() != "given up" {
		t.Fatalf("got %v", err)
	}
	if p := r.lane.proc; p != nil {
		select {
		case <-p.waited:
		default:
			t.Error("the child lives on")
		}
	}
}

// TestFault_R6: there is no registry to be down: an import from elsewhere is refused, whatever it holds.
func TestFault_R6(t *testing.T) {
	r := newRenderer(t, "renderer", quick)
	got := mustRender(t, r, okApp+"-- apps/far/far.cue --\npackage far\n\nimport \"registry.example/lib@v1\"\n\n_x: lib.y\n")
	want := `far: !apps/far/far.cue:3: package "registry.example/lib@v1" is not of this repository: packages can be imported from the module "shop.example/cluster" and from "shoal.dev/schema"; no registry is ever asked
ok: ConfigMap@apps/ok/ok.yaml:1
`
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	// A copy of the schema that says something else is refused, for all apps.
	all := files(webApp)
	all["cue.mod/pkg/shoal.dev/schema/pod.cue"] += "\n#Evil: true\n"
	all["cue.mod/pkg/shoal.dev/schema/more.cue"] = "package schema\n"
	apps, _, err := r.Render(context.Background(), Request{Tree: treeOf(t, all), Environment: dev})
	if err != nil {
		t.Fatal(err)
	}
	want = "web: !cue.mod/pkg/shoal.dev/schema/more.cue: is no file of the schema v1; `shoal init --upgrade` renews it" +
		" !cue.mod/pkg/shoal.dev/schema/pod.cue: is not the file of the schema v1; `shoal init --upgrade` renews it\n"
	if got := text(apps); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// TestFault_R7: two children, started apart, render the same bytes.
func TestFault_R7(t *testing.T) {
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, `-- apps/app%d/app.cue --
package app

import "shoal.dev/schema"

schema.#Package

app: web%d: {
	image: "x:%d"
	ports: {http: 8080, admin: 9090, dns: 53}
	env: {for i in [7, 3, 9, 1] {"V\(i)": i}}
	labels: {z: "1", a: "2", m: "3"}
	files: "/etc/x": {b: "1", a: "2"}
}
configMap: {for n in ["c", "a", "b"] {(n): data: {(n): n}}}
`, i, i, i)
	}
	tree := repo(t, b.String())
	var first string
	for range 3 {
		r := newRenderer(t, "renderer", Limits{})
		apps, _, err := r.Render(context.Background(), Request{Tree: tree, Environment: dev})
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, a := range apps {
			for _, o := range a.Objects {
				fmt.Fprintf(&all, "%s:%d %s\n", o.File, o.Line, o.JSON)
			}
			if len(a.Problems) > 0 {
				t.Fatal(a.Problems)
			}
		}
		if first == "" {
			first = all.String()
		}
		if all.String() != first {
			t.Error("two renders of one tree differ")
		}
	}
}

// TestFault_R8: one bad app among many is held back alone, with all of its errors.
func TestFault_R8(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		image := `"x:1"`
		if i == 57 {
			image = "1"
		}
		fmt.Fprintf(&b, "-- apps/app%03d/app.cue --\npackage app\n\nimport \"shoal.dev/schema\"\n\nschema.#Package\n\napp: web: image: %s\n", i, image)
		if i == 57 {
			b.WriteString("app: web: prots: http: 80\n")
		}
	}
	r := newRenderer(t, "renderer", Limits{})
	apps, _, err := r.Render(context.Background(), Request{Tree: repo(t, b.String()), Environment: dev})
	if err != nil {
		t.Fatal(err)
	}
	good, bad := 0, ""
	for _, a := range apps {
		if len(a.Problems) > 0 {
			bad += text([]App{a})
		} else if len(a.Objects) == 1 {
			good++
		}
	}
	want := "app057: !apps/app057/app.cue:7: app.web.image: conflicting values 1 and string (mismatched types int and string)" +
		" !apps/app057/app.cue:8: app.web.prots: no such field; did you mean ports?\n"
	if good != 99 || bad != want {
		t.Errorf("%d good apps; bad:\n%swant:\n%s", good, bad, want)
	}
}

// TestFault_R9: the render itself writes no file: a full disk cannot harm it. The child has a file size limit of
// zero, and where the parent is root no file system to write to.
func TestFault_R9(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=4k"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		for unixFill(dir) == nil {
		}
	}
	t.Setenv("TMPDIR", dir)
	r := newRenderer(t, "renderer", Limits{})
	if got, want := mustRender(t, r, okApp), "ok: ConfigMap@apps/ok/ok.yaml:1\n"; got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func unixFill(dir string) error {
	f, err := os.OpenFile(dir+"/full", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = f.Write(make([]byte, 4096))
	return err
}
