package cluster

import (
	"fmt"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
)

// Preview says which commit a preview is to show, that it is over, or that somebody asks for one whose pods sleep. Exactly one of Set,
// Drop and Wake is there.
type Preview struct {
	Set  *preview.Environment `json:"set,omitempty"`
	Drop string               `json:"drop,omitempty"` // by name: its pods stop, and nothing of it stays
	Wake string               `json:"wake,omitempty"` // by name
	Why  string               `json:"why,omitempty"`
}

// preview takes one.
func (t *tx) preview(p *Preview) error {
	switch {
	case p.Set != nil && p.Drop == "" && p.Wake == "":
		return t.setPreview(p.Set)
	case p.Set == nil && p.Drop != "" && p.Wake == "":
		return t.dropPreview(p.Drop, p.Why)
	case p.Set == nil && p.Drop == "" && p.Wake != "":
		return t.wakePreview(p.Wake)
	}
	return fmt.Errorf("preview: expected one of set, drop and wake")
}

func (t *tx) setPreview(e *preview.Environment) error {
	old, there := t.s.previews.Get(e.Name)
	_, runs := t.s.environments.Get(e.Name)
	switch {
	case !isLabel(e.Name):
		return fmt.Errorf("preview %q: want a DNS label", clip(e.Name, 64))
	case !isID(e.Commit) || !isID(e.Head) || e.Base != "" && !isID(e.Base):
		return fmt.Errorf("preview %s: commit, head or base is no object id", e.Name)
	case len(e.Branch) > maxText || len(e.Author) > maxText || len(e.Note) > maxText:
		return fmt.Errorf("preview %s: branch, author and note have at most %d bytes", e.Name, maxText)
	case len(kube.CheckNodes(e.Nodes))+len(kube.CheckQuota(e.Each)) > 0:
		return fmt.Errorf("preview %s: its nodes or its quota are none", e.Name)
	case !there && runs:
		return fmt.Errorf("preview %s: there is an environment of that name", e.Name)
	case !there && t.s.previews.Len() >= preview.MaxQuota:
		return fmt.Errorf("preview %s: there are %d already", e.Name, preview.MaxQuota)
	}
	now := preview.Have{Environment: *e}
	if there {
		now.Asked = old.Asked
	}
	t.s.previews.set(&t.s, &now)
	if there && old.Asleep != e.Asleep {
		t.rouse(e.Name)
	}
	return nil
}

func (t *tx) dropPreview(name, why string) error {
	if _, ok := t.s.previews.Get(name); !ok {
		return staleError{fmt.Errorf("there is no preview %q", clip(name, 64))}
	}
	t.s.previews.drop(&t.s, name)
	if _, runs := t.s.environments.Get(name); !runs {
		return nil
	}
	return t.retire(&Retire{Environment: name, Why: clip(why, maxText)})
}

func (t *tx) wakePreview(name string) error {
	old, ok := t.s.previews.Get(name)
	if !ok {
		return fmt.Errorf("there is no preview %q", clip(name, 64))
	}
	now := *old
	now.Asked, now.Asleep = t.now, false
	t.s.previews.set(&t.s, &now)
	if old.Asleep {
		t.rouse(name)
	}
	return nil
}

// rouse has the rules of an environment's objects run: it sleeps from now on, or does not any more.
func (t *tx) rouse(environment string) {
	for o := range t.s.ObjectsOf(environment) {
		if hasRule(o.Key) {
			t.queue.add(o.Key)
		}
	}
}

// asleep tells whether an environment has no pods for the time being.
func (t *tx) asleep(environment string) bool {
	p, ok := t.s.previews.Get(environment)
	return ok && p.Asleep
}

// PreviewRuns is the commit that a preview runs, and nothing else: none of it is held back, and all its objects are healthy. It is "" while that
// is not so, and of what is no preview. It may not be the one that the preview shows: that one may not have come so far, or never will.
func (s *State) PreviewRuns(name string) source.ID {
	_, ok := s.previews.Get(name)
	env, there := s.environments.Get(name)
	if !ok || !there || len(env.Held) > 0 || s.ill.has(name) {
		return ""
	}
	return env.Commit
}

// Previews are the previews that should be there, by name.
func (s *State) Previews() *Table[string, *preview.Have] { return &s.previews }
