package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// upstream is a repository in memory: commits in a line, each with a text of manifests for each environment.
type upstream struct {
	texts    map[source.ID]string // "fault": a tree that breaks a rule; "problem": an app that does not evaluate
	declared map[source.ID][]render.Environment
	parents  map[source.ID][]source.ID
	messages map[source.ID]string
	when     map[source.ID]time.Time // commits were made
	order    []source.ID
	head     source.ID            // of the default branch
	heads    map[string]source.ID // of other refs
	trailer  string               // of commits without a message
	err      error                // of the renderer
	edit     func(string) string  // what the renderer makes of a text, if it errs in silence
	renders  int
	reads    int // of lists of environments
	pins     map[source.ID]bool
	images   map[string]string // what tags stand for; others cannot be asked for
	followed []string
}

func (u *upstream) Follow(refs []string) { u.followed = refs }

func newUpstream() *upstream {
	return &upstream{
		texts: map[source.ID]string{}, declared: map[source.ID][]render.Environment{}, parents: map[source.ID][]source.ID{},
		messages: map[source.ID]string{}, heads: map[string]source.ID{}, pins: map[source.ID]bool{},
	}
}

func (u *upstream) add(text string) source.ID {
	id := source.ID(fmt.Sprintf("%02x", len(u.order)+1) + strings.Repeat("0", 38))
	u.order = append(u.order, id)
	u.texts[id] = text
	return id
}

// push puts a commit onto the default branch.
func (u *upstream) push(text string) {
	id := u.add(text)
	if u.head != "" {
		u.parents[id], u.declared[id] = []source.ID{u.head}, u.declared[u.head]
	}
	u.head = id
}

// declare pushes a commit that changes the list of environments and no manifest.
func (u *upstream) declare(message string, environments ...render.Environment) {
	u.push(u.texts[u.head])
	u.declared[u.head], u.messages[u.head] = environments, message
}

// pushTo puts a commit onto another branch.
func (u *upstream) pushTo(ref, text string) { u.heads[ref] = u.add(text) }

func (u *upstream) Tree(_ context.Context, id source.ID) (source.Tree, error) {
	if u.texts[id] == "fault" {
		return nil, &source.Fault{Path: "a/b", Text: "is too large"}
	}
	return source.New(id, id, nil), nil
}

func (u *upstream) Commit(_ context.Context, id source.ID) (source.Commit, error) {
	if _, ok := u.texts[id]; !ok {
		return source.Commit{}, errors.New("history ends here")
	}
	c := source.Commit{ID: id, Message: "subject\n\n" + u.trailer + "\n", Parents: u.parents[id], Author: source.Person{Name: "Ann", Email: "ann@shop.example"}}
	c.Committer.When = u.when[id]
	if m, ok := u.messages[id]; ok {
		c.Message = m
	}
	return c, nil
}

func (u *upstream) Head(_ context.Context, ref string) (source.ID, bool, error) {
	id := u.heads[ref]
	if ref == dev.Ref {
		id = u.head
	}
	return id, id != "", nil
}

func (u *upstream) Relate(_ context.Context, from, to source.ID) (source.Relation, error) {
	if to > from {
		return source.Forward, nil
	}
	return source.Backward, nil
}

func (u *upstream) Pin(_ context.Context, _ string, id source.ID) error {
	u.pins[id] = true
	return nil
}

func (u *upstream) Unpin(_ context.Context, _ string, id source.ID) error {
	delete(u.pins, id)
	return nil
}

func (u *upstream) Pins(string) []source.ID { return slices.Sorted(maps.Keys(u.pins)) }

func (u *upstream) AllPins() map[string][]source.ID { return nil }

func (u *upstream) Bring(context.Context, source.ID) error { return nil }

var (
	dev  = render.Environment{Name: "dev", Namespace: "dev", Ref: "refs/heads/main"}
	prod = render.Environment{Name: "prod", Namespace: "prod", Ref: "refs/heads/env/prod"}
)

// Environments are dev alone for a commit that does not say.
func (u *upstream) Environments(_ context.Context, tree source.Tree) ([]render.Environment, render.Problems, error) {
	u.reads++
	if u.texts[tree.Commit()] == "no list" {
		return nil, render.Problems{{File: "shoal.cue", Line: 1, Text: "is wrong"}}, nil
	}
	if declared, ok := u.declared[tree.Commit()]; ok && declared != nil {
		return declared, nil, nil
	}
	return []render.Environment{dev}, nil, nil
}

func (u *upstream) Render(_ context.Context, tree source.Tree, env render.Environment) ([]Rendered, error) {
	u.renders++
	if u.err != nil {
		return nil, u.err
	}
	app := render.App{Name: "web"}
	text := u.texts[tree.Commit()]
	if u.edit != nil {
		text = u.edit(text)
	}
	if text == "problem" {
		app.Problems = render.Problems{{File: "apps/web/web.cue", Line: 3, Text: "wrong", App: "web"}}
	} else {
		for _, doc := range splitDocs(text) {
			b, err := yaml.YAMLToJSON([]byte(doc))
			if err != nil {
				return nil, err
			}
			app.Objects = append(app.Objects, render.Object{JSON: b, File: "apps/web/web.yaml", Line: 1 + strings.Count(text[:strings.Index(text, doc)], "\n")})
		}
	}
	compiled, blobs := desired.Compile(env, app)
	return []Rendered{{App: compiled, Blobs: func() ([]desired.Blob, error) { return blobs, nil }}}, nil
}

func (u *upstream) Resolve(_ context.Context, ref string) (string, error) {
	if d := u.images[ref]; d != "" {
		return d, nil
	}
	return "", errors.New("offline")
}

func splitDocs(text string) []string { return strings.Split(text, "---\n") }

// flakyContent fails to store while err is set.
type flakyContent struct {
	memContent
	err error
}

func (c *flakyContent) Put(ctx context.Context, blobs ...[]byte) error {
	if c.err != nil {
		return c.err
	}
	return c.memContent.Put(ctx, blobs...)
}

func TestDeployer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		u := newUpstream()
		content := &flakyContent{memContent: memContent{Store: m.ring.Content}}
		d := NewDeployer(DeployOptions{
			Ledger: (*memLedger)(m), Content: content, Source: u, Renderer: u, Images: u, Branch: dev.Ref,
			Journal: NewJournal(), Log: slog.New(slog.DiscardHandler),
		})
		// look says what became of the newest commit, and which one runs.
		look := func() string {
			verdicts, err := d.Look(t.Context(), io.Discard)
			said := "nothing to judge"
			for _, v := range verdicts {
				said = fmt.Sprintf("accepted=%t changed=%t", v.Accepted, v.Changed)
				for _, p := range v.Problems {
					said += "; " + p.File
				}
			}
			if err != nil {
				said += "; " + err.Error()
			}
			if e := d.active("dev"); e != nil {
				said += "; runs " + strings.TrimLeft(string(e.Commit[:2]), "0")
			}
			return said
		}
		step := func(what, want string) {
			t.Helper()
			if got := look(); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		step("no commit", "nothing to judge")
		u.push(deployment("web") + "---\n" + deployment("api") + "---\n" + service("web"))
		content.err = errors.New("disk full")
		step("cannot be stored", "accepted=false changed=false; dev: store objects: disk full")
		content.err = nil
		step("is stored when it can be", "accepted=true changed=true; runs 1")
		for _, e := range m.ring.State.Objects().All() {
			if !content.Has(e.Digest) {
				t.Errorf("%s is active and not stored", e.Key)
			}
		}
		step("is judged once", "nothing to judge; runs 1")

		u.push("problem")
		look()
		u.push(deployment("web") + "---\n" + deployment("api"))
		step("a good one after a bad one", "accepted=true changed=true; runs 3")
		u.push("fault")
		step("a tree that breaks a rule", "accepted=false changed=false; a/b; runs 3")
		renders := u.renders
		look()
		if u.renders != renders {
			t.Error("a commit that was found wanting was rendered again")
		}
		u.push(deployment("web"))
		u.push(deployment("web") + "---\n" + deployment("api") + "---\n" + deployment("db"))
		step("the newest wins", "accepted=true changed=true; runs 6")
		u.push(deployment("web"))
		step("most would be deleted", "accepted=false changed=false; apps; runs 6")
		u.push(deployment("web"))
		u.trailer = "Shoal-Allow-Delete: all"
		step("and that is allowed", "accepted=true changed=true; runs 8")
		u.head = u.order[0]
		step("an old tip is replayed", "accepted=false changed=false; refs/heads/main; runs 8")
		u.push(deployment("web") + "---\n" + service("web"))
		u.err = errors.New("the renderer died")
		if got := look(); !strings.Contains(got, "the renderer died; runs 8") {
			t.Error(got)
		}
		u.err = nil
		step("what could not be judged is judged again", "accepted=true changed=true; runs 9")

		for i := range 20 {
			u.push(deployment("web") + "---\n" + strings.Replace(service("web"), "80", fmt.Sprint(80+i), 1))
			look()
		}
		head := d.active("dev").Commit
		if head != u.head || len(u.pins) > 2 || !u.pins[head] {
			t.Errorf("commit %s runs; %d commits are pinned, want it and the one before", head, len(u.pins))
		}
	})
}
