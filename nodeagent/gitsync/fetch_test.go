package gitsync

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
)

// TestFetch follows a branch over git's own HTTP server and over the file system, forward, rewritten and back.
func TestFetch(t *testing.T) {
	for _, how := range []string{"http", "file", "path"} {
		t.Run(how, func(t *testing.T) {
			u := newUpstream(t)
			a := u.commit("a", map[string]string{"apps/web/web.cue": "package web\n"})
			url := map[string]string{"http": "", "file": "file://" + u.dir, "path": u.dir}[how]
			if how == "http" {
				url = u.serve()
			}
			m := open(t, Options{URL: url})
			step := func(want string, names ...string) {
				t.Helper()
				list, err := m.Fetch(t.Context())
				if got := changes(list, err, names...); got != want {
					t.Errorf("Fetch:\n%swant\n%s", got, want)
				}
			}
			step("refs/heads/main - -> A unknown\n", a, "A")
			step("")
			b := u.commit("b", map[string]string{"apps/web/web.cue": "package web // b\n"})
			step("refs/heads/main A -> B forward\n", a, "A", b, "B")
			tree, err := m.Tree(t.Context(), source.ID(b))
			if err != nil {
				t.Fatal(err)
			}
			if raw, err := tree.ReadFile("apps/web/web.cue"); string(raw) != "package web // b\n" || err != nil {
				t.Errorf("ReadFile = %q, %v", raw, err)
			}
			u.git("reset", "-q", "--hard", a)
			c := u.commit("c", map[string]string{"apps/web/web.cue": "package web // c\n"})
			step("refs/heads/main B -> C diverged\n", b, "B", c, "C")
			u.git("reset", "-q", "--hard", a)
			step("refs/heads/main C -> A backward\n", a, "A", c, "C")
			log, err := m.Log(context.Background(), source.ID(b), 10)
			if err != nil || len(log) != 2 || log[0].Subject() != "b" || log[1].Subject() != "a" {
				t.Errorf("Log = %v, %v", log, err)
			}
			u.dir = m.Dir()
			u.git("fsck", "--strict", "--full")
		})
	}
}

// TestFetchWhatIsNew sees that a host is asked for what is new alone, also when a commit before the known tip is pinned: git
// acknowledges both then.
func TestFetchWhatIsNew(t *testing.T) {
	u := newUpstream(t)
	a := u.commit("a", map[string]string{"x": "a"})
	var said strings.Builder
	m := open(t, Options{URL: u.serve(), Log: slog.New(slog.NewTextHandler(&said, nil))})
	for _, name := range []string{"b", "c", "d"} {
		if _, err := m.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Pin(t.Context(), "dev", source.ID(a)); err != nil {
			t.Fatal(err)
		}
		a = u.commit(name, map[string]string{"x": name})
	}
	if list, err := m.Fetch(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if strings.Contains(said.String(), "afresh") {
		t.Error(said.String())
	}
}
