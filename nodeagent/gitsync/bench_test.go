package gitsync

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// BenchmarkFetch follows another mirror on this machine, in which each commit changes one app of 1,000, and reads the
// app that changed. What upstream does is not counted.
func BenchmarkFetch(b *testing.B) {
	up := open(b, Options{})
	files := map[string]string{}
	for i := range 1000 {
		files[fmt.Sprintf("apps/app%04d/web.cue", i)] = fmt.Sprintf("package web\napp: web: replicas: %d\n", i)
	}
	who := source.Person{Name: "Ada", Email: "ada@example.org", When: time.Unix(1_700_000_000, 0)}
	commit := func(old source.ID) source.ID {
		tree, err := source.FromFS(mapFS(files), source.FSOptions{})
		if err != nil {
			b.Fatal(err)
		}
		id, err := up.Write(b.Context(), "main", old, tree, source.Commit{Author: who, Committer: who, Message: "change\n"})
		if err != nil {
			b.Fatal(err)
		}
		return id
	}
	tip := commit("")
	m := open(b, Options{URL: up.Dir()})
	if _, err := m.Fetch(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, err := m.Tree(b.Context(), tip); err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		changed := fmt.Sprintf("apps/app%04d/web.cue", n*7%1000)
		files[changed] = fmt.Sprintf("package web\napp: web: replicas: %d\n", n+1000)
		tip = commit(tip)
		b.StartTimer()
		if _, err := m.Fetch(b.Context()); err != nil {
			b.Fatal(err)
		}
		tree, err := m.Tree(b.Context(), tip)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tree.ReadFile(changed); err != nil {
			b.Fatal(err)
		}
	}
}

// TestWrite commits directories to a ref of the mirror's own, by compare-and-swap.
func TestWrite(t *testing.T) {
	m := open(t, Options{})
	who := source.Person{Name: "Ada", Email: "ada@example.org", When: time.Unix(1_700_000_000, 0)}
	write := func(old source.ID, files map[string]string) (source.ID, error) {
		tree, err := source.FromFS(mapFS(files), source.FSOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m.Write(context.Background(), "dev", old, tree, source.Commit{Author: who, Committer: who, Message: "saved\n"})
	}
	a, err := write("", map[string]string{"apps/web/x": "1", "y": "1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := write(a, map[string]string{"apps/web/x": "2", "y": "1"})
	if err != nil || b == a {
		t.Fatal(b, err)
	}
	if again, err := write(b, map[string]string{"apps/web/x": "2", "y": "1"}); again != b || err != nil {
		t.Errorf("the same tree again: %s, %v, want %s", again, err, b)
	}
	if _, err := write(a, map[string]string{"apps/web/x": "3"}); !errors.Is(err, ErrMoved) {
		t.Errorf("from an old tip: %v, want ErrMoved", err)
	}
	c, err := m.Commit(t.Context(), b)
	if err != nil || len(c.Parents) != 1 || c.Parents[0] != a || c.Author.String() != "Ada <ada@example.org>" {
		t.Errorf("Commit = %+v, %v", c, err)
	}
	empty, err := write(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if tree, err := m.Tree(t.Context(), empty); err != nil {
		t.Error(err)
	} else if list, err := tree.ReadDir("."); len(list) != 0 || err != nil {
		t.Errorf("ReadDir = %v, %v", list, err)
	}
	upstream{t, m.Dir()}.git("fsck", "--strict", "--full")
}
