package cluster

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/desired"
)

// activate makes a render the desired state of its environment. Only objects whose digest changed are looked
// at.
func (t *tx) activate(a *Activate) error {
	if err := checkActivate(a); err != nil {
		return err
	}
	var active desired.Digest
	if env, ok := t.s.environments.Get(a.Environment); ok {
		active = env.D
	}
	if a.Previous != active {
		return fmt.Errorf("environment %s: the active render is %q, not %q", a.Environment, short(active), short(a.Previous))
	}
	if p, ok := t.s.previews.Get(a.Environment); ok && p.Commit != a.Commit && !a.Ungated {
		return fmt.Errorf("preview %s shows commit %s, not %s", a.Environment, p.Commit.Short(), a.Commit.Short())
	}
	if err := t.pass(a); err != nil {
		return err
	}
	env := &Environment{
		Name: a.Environment, Namespace: a.Namespace, Ref: a.Ref, Commit: a.Commit, D: a.D,
		Images: a.Images, Held: a.Held, Index: t.s.index, Time: t.now, Policy: a.Policy, Verify: a.Verify,
	}
	t.s.environments.set(&t.s, env)
	if a.Tree != "" {
		t.begun(a)
	}
	if a.D == active {
		return nil
	}
	entries, err := t.manifest(a.Environment, a.D)
	if err != nil {
		return err
	}
	return t.change(env, entries)
}

func checkActivate(a *Activate) error {
	switch {
	case !isLabel(a.Environment):
		return fmt.Errorf("environment %q: want a DNS label", clip(a.Environment, 64))
	case !isLabel(a.Namespace):
		return fmt.Errorf("environment %s: namespace %q: want a DNS label", a.Environment, clip(a.Namespace, 64))
	case a.Ref == "" || len(a.Ref) > maxText:
		return fmt.Errorf("environment %s: ref: want 1 to %d bytes", a.Environment, maxText)
	case !isID(a.Commit):
		return fmt.Errorf("environment %s: commit %q is no object id", a.Environment, clip(string(a.Commit), 64))
	case a.Tree != "" && !isID(a.Tree):
		return fmt.Errorf("environment %s: tree %q is no object id", a.Environment, clip(string(a.Tree), 64))
	case len(a.D) != 64 || !isHex(string(a.D)):
		return fmt.Errorf("environment %s: d %q: want 64 hex digits", a.Environment, clip(string(a.D), 64))
	case len(a.Images) > maxList || len(a.Held) > maxList:
		return fmt.Errorf("environment %s: more than %d images or held apps", a.Environment, maxList)
	case len(a.Verify) > maxGates:
		return fmt.Errorf("environment %s: more than %d Jobs verify it", a.Environment, maxGates)
	}
	for _, job := range a.Verify {
		if len(job) > 253 {
			return fmt.Errorf("environment %s: the name of a Job is too long", a.Environment)
		}
	}
	for ref, digest := range a.Images {
		if len(ref) > maxText || len(digest) > 256 {
			return fmt.Errorf("environment %s: an image reference or digest is too long", a.Environment)
		}
	}
	for _, app := range a.Held {
		if len(app) > 253 {
			return fmt.Errorf("environment %s: the name of a held app is too long", a.Environment)
		}
	}
	return nil
}

// manifest reads the entries of a render.
func (t *tx) manifest(environment string, d desired.Digest) ([]desired.Entry, error) {
	b, err := t.content.Get(d)
	if err != nil {
		return nil, stallError{fmt.Sprintf("content %s: %v", short(d), err)}
	}
	set, err := desired.DecodeSet(b)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", short(d), err)
	}
	if set.Environment != environment {
		return nil, fmt.Errorf("manifest %s is of environment %q, not of %s", short(d), clip(set.Environment, 64), environment)
	}
	for _, e := range set.Entries {
		if len(e.Key.Group)+len(e.Key.Kind)+len(e.Key.Namespace)+len(e.Key.Name)+len(e.App) > maxText {
			return nil, fmt.Errorf("manifest %s: the key %q is too long", short(d), clip(e.Key.String(), 256))
		}
	}
	return set.Entries, nil
}

// retire takes an environment away.
func (t *tx) retire(r *Retire) error {
	env, ok := t.s.environments.Get(r.Environment)
	if !ok {
		return fmt.Errorf("there is no environment %q", clip(r.Environment, 64))
	}
	if len(r.Why) > maxText {
		return errors.New("the reason is too long")
	}
	if err := t.change(env, nil); err != nil {
		return err
	}
	t.forgetRuns(r.Environment)
	t.s.environments.drop(&t.s, r.Environment)
	return nil
}

// change makes entries the objects of env: what left first, so that names, addresses and ports are free for
// what came.
func (t *tx) change(env *Environment, entries []desired.Entry) error {
	var gone []*Object
	var came []desired.Entry
	i := 0
	for old := range t.s.ObjectsOf(env.Name) {
		for i < len(entries) && entries[i].Key.Compare(old.Key) < 0 {
			came = append(came, entries[i])
			i++
		}
		switch {
		case i == len(entries) || entries[i].Key != old.Key:
			gone = append(gone, old)
			continue
		case entries[i].Digest != old.Digest || entries[i].Template != old.Template:
			came = append(came, entries[i])
		case entries[i].App != old.App: // moved to another directory: nothing else changes
			now := *old
			now.App = entries[i].App
			t.s.objects.set(&t.s, &now)
		}
		i++
	}
	came = append(came, entries[i:]...)

	for _, old := range gone {
		t.spend(1)
		t.leave(old)
	}
	var services []*Object
	for _, e := range came {
		t.spend(1)
		o, err := t.enter(env, e)
		if err != nil {
			return err
		}
		if e.Key.Group == "" && e.Key.Kind == "Service" {
			services = append(services, o)
		}
	}
	return t.serve(services)
}

// enter records an object that is new or another one than before, and has its rule run.
func (t *tx) enter(env *Environment, e desired.Entry) (*Object, error) {
	now := &Object{
		Key: e.Key, Environment: env.Name, Digest: e.Digest, App: e.App, Template: e.Template,
		Created: t.now, Generation: 1, Commit: env.Commit,
	}
	if old, ok := t.s.objects.Get(e.Key); ok {
		if old.Environment != env.Name {
			return nil, fmt.Errorf("%s is in environment %s and in environment %s", e.Key, old.Environment, env.Name)
		}
		now.UID, now.Created, now.Generation = old.UID, old.Created, old.Generation
		if old.Digest != now.Digest {
			now.Generation++
		}
	} else {
		now.UID = t.uid(env.Name, e.Key)
	}
	t.s.objects.set(&t.s, now)
	if hasRule(e.Key) {
		// Decoded here, so that bytes that are no such object hold the commit back, not its rule.
		if _, err := t.s.load(e.Digest, t.content); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Key, err)
		}
		t.queue.add(e.Key)
	}
	return now, nil
}

// leave forgets an object; its rule then lets go of what was made for it.
func (t *tx) leave(old *Object) {
	t.s.objects.drop(&t.s, old.Key)
	if hasRule(old.Key) {
		t.queue.add(old.Key)
	}
	if _, ok := t.s.services.Get(old.Key); ok {
		t.s.services.drop(&t.s, old.Key)
	}
}

var ruled = []desired.Key{{Kind: "Pod"}, {Group: "apps", Kind: "Deployment"}, {Group: "apps", Kind: "ReplicaSet"}, {Group: "batch", Kind: "CronJob"}, {Group: "batch", Kind: "Job"}}

// hasRule tells whether pods are made for objects of the kind.
func hasRule(k desired.Key) bool {
	return slices.Contains(ruled, desired.Key{Group: k.Group, Kind: k.Kind})
}
