package gitsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/source"
)

// TestTakeFrom shows how a node gets what another has: commits and tags with their history, and no ref moves.
func TestTakeFrom(t *testing.T) {
	u := newUpstream(t)
	one := source.ID(u.commit("one", map[string]string{"a": "1"}))
	two := source.ID(u.commit("two", map[string]string{"a": "2"}))
	u.git("tag", "-a", "-m", "words", "v1")
	tag := source.ID(u.git("rev-parse", "v1"))
	m := open(t, Options{})
	for i, ids := range [][]source.ID{{two, two, tag}, {two}, nil} { // a second time there is nothing to take
		if err := m.TakeFrom(t.Context(), http.DefaultClient, u.serve(), ids); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if !m.Has(one) || !m.Has(two) || !m.Has(tag) || len(m.Refs()) != 0 {
		t.Errorf("one %v, two %v, tag %v, refs %v", m.Has(one), m.Has(two), m.Has(tag), m.Refs())
	}
	unknown := source.ID(strings.Repeat("1", 40))
	if err := m.TakeFrom(t.Context(), http.DefaultClient, u.serve(), []source.ID{unknown}); err == nil {
		t.Error("a commit that nobody has was taken")
	}
	if err := m.TakeFrom(t.Context(), http.DefaultClient, u.serve(), []source.ID{"HEAD"}); err == nil || !strings.Contains(err.Error(), "is no object id") {
		t.Error(err)
	}
}

// TestAdopt shows how a mirror's refs follow those that the ring has agreed on.
func TestAdopt(t *testing.T) {
	u := newUpstream(t)
	one, two := source.ID(u.commit("one", nil)), source.ID(u.commit("two", nil))
	m := open(t, Options{})
	if err := m.TakeFrom(t.Context(), http.DefaultClient, u.serve(), []source.ID{two}); err != nil {
		t.Fatal(err)
	}
	at := func(refs ...source.Ref) []source.Ref { return refs }
	main := func(id source.ID) source.Ref { return source.Ref{Name: "refs/heads/main", ID: id} }
	old := source.Ref{Name: "refs/heads/old", ID: one}
	for _, s := range []struct {
		what        string
		refs, stand []source.Ref
		moved       bool
		want        string
	}{
		{"first", at(main(one), old), at(), false, fmt.Sprint(at(main(one), old))},
		{"moved", at(main(two), old), at(main(one), old), false, fmt.Sprint(at(main(two), old))},
		{"gone", at(main(two)), at(main(two), old), false, fmt.Sprint(at(main(two)))},
		{"a push moved it meanwhile", at(main(one)), at(), true, fmt.Sprint(at(main(two)))},
		{"and the ring has heard of that", at(main(two)), at(main(two)), false, fmt.Sprint(at(main(two)))},
		{"the ring has gone elsewhere than a push here", at(main(one)), at(main(two)), false, fmt.Sprint(at(main(one)))},
	} {
		if err := m.Adopt(s.refs, s.stand); errors.Is(err, ErrMoved) != s.moved || err != nil && !s.moved {
			t.Fatalf("%s: %v", s.what, err)
		}
		if got := fmt.Sprint(m.Refs()); got != s.want {
			t.Errorf("%s: %s, want %s", s.what, got, s.want)
		}
	}
	if err := m.Adopt(at(main(source.ID(strings.Repeat("1", 40)))), m.Refs()); err == nil {
		t.Error("a ref leads to what is not here")
	}
}

// TestAgree shows that no ref moves that the ring has not agreed to.
func TestAgree(t *testing.T) {
	var asked []string
	refuse := errors.New("no majority")
	m := open(t, Options{Agree: func(_ context.Context, updates []source.RefUpdate) error {
		asked = append(asked, fmt.Sprint(updates[0].Name, " ", updates[0].Old))
		return refuse
	}})
	tree, err := source.FromFS(mapFS(map[string]string{"a": "1"}), source.FSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write := func() error {
		_, err := m.Write(t.Context(), "main", "", tree, source.Commit{Message: "one\n", Author: source.Person{Name: "A", Email: "a@b"}, Committer: source.Person{Name: "A", Email: "a@b"}})
		return err
	}
	if err := write(); !errors.Is(err, refuse) || len(m.Refs()) != 0 {
		t.Errorf("%v, refs %v", err, m.Refs())
	}
	refuse = nil
	if err := write(); err != nil || len(m.Refs()) != 1 {
		t.Errorf("%v, refs %v", err, m.Refs())
	}
	id := m.Refs()[0].ID
	if err := m.Receive(t.Context(), []source.RefUpdate{{Name: "refs/heads/b", New: id}}, bytes.NewReader(nil), nil); err == nil {
		t.Error("a push without a pack was taken")
	}
	if got := strings.Join(asked, ","); got != "refs/heads/main ,refs/heads/main " {
		t.Errorf("asked %q", got)
	}
}
