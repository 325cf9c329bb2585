package desired

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// Built is what Build makes of an environment's apps.
type Built struct {
	Set      *Set
	Manifest []byte   // Set.Encode(): the bytes of Set.D
	Held     []string // apps kept at their last good objects (or absent, if they never had any); sorted
	Problems render.Problems
	Over     render.Problems // those of Problems that are the environment's, which would exceed its quota: nothing of the commit is to be taken
	Warnings render.Problems // allowed by Kubernetes, and probably not meant
}

// Build joins the apps of one environment at one commit into a consistent whole. Nothing refers to a ConfigMap or
// Secret that is not there, no object and no node port exists twice, nothing immutable changes.
//
// An app with a problem is held back at its objects of previous, and with it every changed app that refers to it;
// also, an app stays as it was while a held one needs what it would take away. Apps that this commit removes stay while
// an app that is new in it has a problem: it may be the same one, renamed. The others go on. If the environment
// is atomic, any problem holds back everything. All problems are told at once.
//
// previous is the set that is active, nil if there is none; content must have its objects, of which only those of
// held apps, and ConfigMaps and Secrets that change, are read. The error is that of content, or a name of no use.
//
// Objects of good apps are not decoded, so that a commit that changes one app of a thousand costs milliseconds.
func Build(env render.Environment, apps []App, previous *Set, content Content) (Built, error) {
	if !isWord(env.Name) {
		return Built{}, fmt.Errorf("build: environment %q: a name must not have white space", env.Name)
	}
	b := builder{env: env, apps: map[string]*App{}, held: map[string]bool{}, content: content}
	if previous != nil {
		b.previous = previous.Entries
	}
	for i := range apps {
		a := &apps[i]
		if b.apps[a.Name] != nil {
			return Built{}, fmt.Errorf("build %s: two apps are named %q", env.Name, a.Name)
		}
		b.apps[a.Name] = a
		b.names = append(b.names, a.Name)
		switch {
		case !isWord(a.Name):
			b.problem(render.Problem{File: render.AppDir(a.Name), Text: "an app's name must not have white space", App: a.Name})
		case len(a.Problems) > 0:
			b.problem(a.Problems...)
		}
	}
	slices.Sort(b.names)
	for changed := true; changed; {
		if err := b.assemble(); err != nil {
			return Built{}, fmt.Errorf("build %s: %w", env.Name, err)
		}
		more, err := b.check()
		if err != nil {
			return Built{}, fmt.Errorf("build %s: %w", env.Name, err)
		}
		changed = more || b.renamed()
	}

	over := b.exceeded()
	out := Built{Problems: append(b.problems, over...).Sorted(), Over: over, Held: sortedKeys(b.held)}
	if env.Atomic && len(b.problems) > 0 {
		out.Set = &Set{Environment: env.Name}
		if previous != nil {
			out.Set.Entries = previous.Entries
		}
		out.Held = b.names
	} else {
		out.Set = &Set{Environment: env.Name, Entries: b.entries()}
		out.Warnings = b.warnings()
	}
	out.Manifest = out.Set.Encode()
	out.Set.D = DigestOf(out.Manifest)
	return out, nil
}

// builder is the state of one Build. Each round assembles the items that would be in the set, checks them, and may
// hold more apps; held only grows, so the rounds end.
type builder struct {
	env      render.Environment
	apps     map[string]*App
	names    []string
	previous []Entry
	content  Content
	held     map[string]bool
	problems render.Problems

	parts []part
	byKey map[Key]int // index of parts
	old   map[string][]Item
	owner map[Key]string // of previous; made when first needed
}

// part is one item of the set that is being built.
type part struct {
	*Item
	app  string
	held bool
}

func (b *builder) problem(ps ...render.Problem) {
	for _, p := range ps {
		b.problems = append(b.problems, p)
		b.held[p.App] = true
	}
}

// assemble collects the items of good apps as they are now, and those of held apps as they were.
func (b *builder) assemble() error {
	if len(b.held) > 0 && b.old == nil {
		b.old = map[string][]Item{}
		b.owner = make(map[Key]string, len(b.previous))
		for _, e := range b.previous {
			b.owner[e.Key] = e.App
		}
	}
	n := 0
	for _, a := range b.apps {
		n += len(a.Items)
	}
	b.parts, b.byKey = make([]part, 0, n), make(map[Key]int, n)
	for _, name := range b.names {
		if b.held[name] {
			continue
		}
		a := b.apps[name]
		for i := range a.Items {
			b.parts = append(b.parts, part{Item: &a.Items[i], app: name})
		}
	}
	for _, name := range sortedKeys(b.held) { // may name an app that this commit takes away
		items, err := b.last(name)
		if err != nil {
			return err
		}
		for i := range items {
			b.parts = append(b.parts, part{Item: &items[i], app: name, held: true})
		}
	}
	return nil
}

// renamed holds apps that vanish while a new app has a problem, and reports whether there were any.
func (b *builder) renamed() bool {
	if len(b.held) == 0 {
		return false
	}
	before := map[string]bool{}
	for _, e := range b.previous {
		before[e.App] = true
	}
	isNew := func(app string) bool { return b.apps[app] != nil && !before[app] }
	if !slices.ContainsFunc(sortedKeys(b.held), isNew) {
		return false
	}
	more := false
	for app := range before {
		if b.apps[app] == nil && !b.held[app] {
			b.held[app], more = true, true
		}
	}
	return more
}

// last reads the objects an app has in previous.
func (b *builder) last(app string) ([]Item, error) {
	if items, done := b.old[app]; done {
		return items, nil
	}
	var items []Item
	for _, e := range b.previous {
		if e.App != app {
			continue
		}
		facts, err := b.read(e)
		if err != nil {
			return nil, err
		}
		items = append(items, Item{Key: e.Key, Digest: e.Digest, Template: e.Template, Facts: facts})
	}
	b.old[app] = items
	return items, nil
}

// read returns the facts of an object of previous.
func (b *builder) read(e Entry) (Facts, error) {
	raw, err := b.content.Get(e.Digest)
	if err != nil {
		return Facts{}, fmt.Errorf("read %s of app %s: %w", e.Key, e.App, err)
	}
	obj, err := kube.Read(raw)
	if err != nil {
		return Facts{}, fmt.Errorf("read %s of app %s: %w", e.Key, e.App, err)
	}
	return factsOf(obj), nil
}

// entries is what was assembled, as entries of a manifest. Apps come in the order of their names, and so mostly do the
// objects of one kind: sorting kind by kind finds them in order, which sorting all at once would not.
func (b *builder) entries() []Entry {
	byKind := map[Key][]*part{}
	for i := range b.parts {
		p := &b.parts[i]
		kind := p.Key
		kind.Name = ""
		byKind[kind] = append(byKind[kind], p)
	}
	kinds := make([]Key, 0, len(byKind))
	for k := range byKind {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, Key.Compare)
	entries := make([]Entry, 0, len(b.parts))
	for _, k := range kinds {
		parts := byKind[k]
		slices.SortFunc(parts, func(p, q *part) int { return cmp.Or(cmp.Compare(p.Key.Name, q.Key.Name), cmp.Compare(p.app, q.app)) })
		for _, p := range parts {
			entries = append(entries, Entry{Key: p.Key, Digest: p.Digest, App: p.app, Template: p.Template})
		}
	}
	return entries
}
