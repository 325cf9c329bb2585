package desired

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/render"
)

// check looks at what was assembled and reports whether more apps must be held. Problems that it finds again in a
// later round are the same ones.
func (b *builder) check() (more bool, err error) {
	before := len(b.held)
	b.twice()
	b.ports()
	if err := b.immutable(); err != nil {
		return false, err
	}
	for i := range b.parts {
		for _, r := range b.parts[i].Refs {
			b.ref(&b.parts[i], r)
		}
	}
	return len(b.held) > before, nil
}

// immutable refuses a change of what its author declared immutable. Only ConfigMaps and Secrets that change are read.
func (b *builder) immutable() error {
	for _, e := range b.previous {
		if e.Key.Kind != "ConfigMap" && e.Key.Kind != "Secret" {
			continue
		}
		i, there := b.byKey[e.Key]
		if !there || b.parts[i].Digest == e.Digest {
			continue
		}
		p := &b.parts[i]
		was, err := b.read(e)
		if err != nil {
			return err
		}
		switch {
		case was.Frozen == "" || was.Frozen == p.Frozen:
		case p.Frozen == "":
			b.problem(p.at("immutable", "Forbidden: field is immutable when `immutable` is set"))
		default:
			b.problem(p.at("data", "Forbidden: field is immutable when `immutable` is set"))
		}
	}
	return nil
}

// at is the place of a problem in p's own file.
func (p *part) at(path, text string) render.Problem {
	where := p.Key.Kind + " " + p.Key.Name
	if path != "" {
		where += ": " + path
	}
	return render.Problem{File: p.File, Line: p.Line, Path: where, Text: text, App: p.app}
}

// place names p for the author of another file.
func (p *part) place() string {
	switch {
	case p.held:
		return fmt.Sprintf("app %s as it runs now (its new objects are held back)", p.app)
	case p.Line > 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	default:
		return p.File
	}
}

// twice finds objects that exist twice, and fills byKey.
func (b *builder) twice() {
	for i := range b.parts {
		p := &b.parts[i]
		j, there := b.byKey[p.Key]
		if !there {
			b.byKey[p.Key] = i
			continue
		}
		b.clash(&b.parts[j], p, "", "", func(other *part) string { return p.Key.String() + " is also in " + other.place() })
	}
}

// ports finds node ports that two Services want.
func (b *builder) ports() {
	type user struct {
		p    *part
		path string
	}
	taken := map[int32]user{}
	for i := range b.parts {
		p := &b.parts[i]
		for _, n := range p.NodePorts {
			u, there := taken[n.Port]
			if !there {
				taken[n.Port] = user{p, n.Path}
			} else if u.p != p {
				b.clash(u.p, p, u.path, n.Path, func(other *part) string {
					return fmt.Sprintf("Invalid value: %d: provided port is already allocated to %s in %s", n.Port, other.Key, other.place())
				})
			}
		}
	}
}

// clash blames both of two parts, each with the place of the other, except one that is held: it was there before.
func (b *builder) clash(p, q *part, pathP, pathQ string, text func(other *part) string) {
	if !p.held {
		b.problem(p.at(pathP, text(q)))
	}
	if !q.held {
		b.problem(q.at(pathQ, text(p)))
	}
}

// ref checks that what p mentions is there.
func (b *builder) ref(p *part, r Ref) {
	key := Key{Kind: r.Kind, Namespace: p.Key.Namespace, Name: r.Name}
	i, there := b.byKey[key]
	if there && (r.Key == "" || slices.Contains(b.parts[i].Keys, r.Key)) {
		if provider := &b.parts[i]; provider.held && !p.held && b.differs(p.app) {
			b.held[p.app] = true // it may count on the new objects
		}
		return
	}
	switch owner := b.owner[key]; {
	case p.held:
		// What runs now needs what another app is about to take away.
		if owner != "" && !r.Optional {
			b.held[owner] = true
		}
	case b.waiting(key, r.Key):
		b.held[p.app] = true
	case r.Optional:
	case there:
		b.problem(p.at(r.Path, fmt.Sprintf("key %q not found in %s; it has %s", r.Key, key, list(b.parts[i].Keys))))
	default:
		b.problem(p.at(r.Path, key.String()+" not found"+b.secretsHint(r.Kind)))
	}
}

// secretsHint says of an environment that does not get the secrets of its own name which ones it gets.
func (b *builder) secretsHint(kind string) string {
	switch of := b.env.WithDefaults().SecretsOf; {
	case kind != "Secret":
	case b.env.NoSecrets:
		return ": environment " + b.env.Name + " gets no secrets, as a preview of a fork"
	case of != b.env.Name:
		return ": environment " + b.env.Name + " gets those of " + render.SecretsApp(of)
	}
	return ""
}

// waiting says whether an app that is held for another reason would bring the key.
func (b *builder) waiting(key Key, entry string) bool {
	for name := range b.held { // whether any does; the order does not matter
		a := b.apps[name]
		if a == nil {
			continue
		}
		if slices.Contains(a.Broken, key) {
			return true
		}
		if key.Kind == "Secret" && render.IsSecretsApp(name) && len(a.Problems) > 0 {
			return true // it might: what it would bring is not known
		}
		for i := range a.Items {
			if a.Items[i].Key == key && (entry == "" || slices.Contains(a.Items[i].Keys, entry)) {
				return true
			}
		}
	}
	return false
}

// differs says whether an app's objects are others than in previous.
func (b *builder) differs(app string) bool {
	items := b.apps[app].Items
	n := 0
	for _, e := range b.previous {
		if e.App != app {
			continue
		}
		if n == len(items) || items[n].Key != e.Key || items[n].Digest != e.Digest || items[n].Template != e.Template {
			return true
		}
		n++
	}
	return n != len(items)
}

func list(names []string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
