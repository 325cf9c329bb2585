package cluster

import (
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
)

// The refs of the built-in Git server.

func (p *Push) describe() string {
	switch len(p.Refs) {
	case 0:
		return "of nothing"
	case 1:
		return clip(p.Refs[0].Name, 256)
	}
	return fmt.Sprintf("%s and %d more", clip(p.Refs[0].Name, 256), len(p.Refs)-1)
}

// push moves all refs or, since what is rejected leaves the State as it was, none.
func (t *tx) push(p *Push) error {
	if n := len(p.Refs); n < 1 || n > maxRefs {
		return fmt.Errorf("push of %d refs: want 1 to %d", n, maxRefs)
	}
	moved := make(map[string]bool, len(p.Refs))
	for i := range p.Refs {
		r := &p.Refs[i]
		if moved[r.Name] {
			return fmt.Errorf("ref %s: moved twice by one push", clip(r.Name, 256))
		}
		moved[r.Name] = true
		if err := t.ref(r); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) ref(r *Ref) error {
	if err := checkRef(r.Name); err != nil {
		return err
	}
	for _, id := range []source.ID{r.Old, r.New} {
		if id != "" && !isID(id) {
			return fmt.Errorf("ref %s: %q is no object id", r.Name, clip(string(id), 64))
		}
	}
	var at source.ID
	if v, ok := t.s.refs.Get(r.Name); ok {
		at = v.ID
	}
	switch {
	case r.Old != at:
		return fmt.Errorf("ref %s: it is at %q, not at %q", r.Name, at, r.Old)
	case r.New == "" && at == "":
		return fmt.Errorf("ref %s: there is none to delete", r.Name)
	case r.New == "":
		t.s.refs.drop(&t.s, r.Name)
	case at == "" && t.s.refs.Len() >= maxRefs:
		return fmt.Errorf("ref %s: there are %d refs already", r.Name, maxRefs)
	default:
		t.s.refs.set(&t.s, &RefValue{Name: r.Name, ID: r.New})
	}
	return nil
}

// checkRef holds a ref's name to the rules of git check-ref-format.
func checkRef(name string) error {
	bad := fmt.Errorf("ref %q: want a name under refs/ that git check-ref-format takes", clip(name, 256))
	if len(name) > maxText || !strings.HasPrefix(name, "refs/") || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.ContainsAny(name, " ~^:?*[\\\x7f") {
		return bad
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return bad
		}
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return bad
	}
	return nil
}
