package gitsync

import (
	"fmt"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
)

// TestDeepen brings the history before what the first fetch took, and that alone.
func TestDeepen(t *testing.T) {
	for _, how := range []string{"http", "file"} {
		t.Run(how, func(t *testing.T) {
			u := newUpstream(t)
			for i := range 30 {
				u.commit(fmt.Sprint(i), map[string]string{"x": fmt.Sprint(i)})
			}
			tip := u.git("rev-parse", "HEAD")
			url := "file://" + u.dir
			if how == "http" {
				url = u.serve()
			}
			m := open(t, Options{URL: url, Depth: 5})
			if _, err := m.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			length := func(want int) {
				t.Helper()
				if log, err := m.Log(t.Context(), source.ID(tip), 100); err != nil || len(log) != want {
					t.Errorf("%d commits, %v; want %d", len(log), err, want)
				}
			}
			length(5)
			if more, err := m.Deepen(t.Context()); err != nil || !more || len(m.Shallow()) != 0 {
				t.Errorf("more: %t, %v; ends at %v", more, err, m.Shallow())
			}
			length(30)
			if more, err := m.Deepen(t.Context()); err != nil || more {
				t.Errorf("again: %t, %v", more, err)
			}
			tip = u.commit("next", map[string]string{"x": "next"})
			if _, err := m.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			length(31)
			u.dir = m.Dir()
			u.git("fsck", "--strict", "--full")
		})
	}
}
