package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/source"
)

// An environment that shoal.cue declares no longer goes on as it runs: a line that was lost in a merge takes nothing
// away. It is shown in status until it is declared again, or until a commit retires it by name.

// maxWords bounds how many commits are searched for the word that retires an environment.
const maxWords = 64

// Vanished are the environments that run and are declared no longer, with what is to be done, in words.
func (d *Deployer) Vanished() map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.gone)
}

// vanished looks for environments that run and that the list does not have. It retires those that a commit names, and
// tells of the others. It reports whether any was retired.
func (d *Deployer) vanished(ctx context.Context, l *list, progress io.Writer) (retired bool, err error) {
	gone := map[string]string{}
	var errs []error
	for _, env := range d.undeclared(l) {
		text := fmt.Sprintf("shoal.cue of %s declares it no longer: what runs goes on, and %s is not followed. To take it away, push a commit to %s with the trailer \"%s: %s\"; to keep it, declare it again",
			branch(d.opt.Branch), branch(env.Ref), branch(d.opt.Branch), source.TrailerRetire, env.Name)
		news := d.searched[env.Name] != l.commit
		by, err := d.word(ctx, l.commit, env.Name)
		held := ""
		if err == nil && by.ID != "" {
			if held, err = d.opt.Claims.Held(ctx); held != "" {
				text = fmt.Sprintf("commit %s retires it, and it goes on: %s", by.ID.Short(), held)
				news = d.Vanished()[env.Name] != text
			}
		}
		if err == nil && by.ID != "" && held == "" {
			if err = d.retire(ctx, env, by, progress); err == nil {
				retired = true
				continue
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", env.Name, err))
		}
		gone[env.Name] = text
		if news {
			fmt.Fprintf(progress, "%s: %s\n", env.Name, text)
			d.opt.Journal.Add(Event{Object: "Environment " + env.Name, Reason: "Undeclared", Message: text})
			d.opt.Log.WarnContext(ctx, "environment is declared no longer, what runs goes on", "environment", env.Name, "commit", l.commit.Short())
		}
	}
	d.mu.Lock()
	d.gone = gone
	d.mu.Unlock()
	return retired, errors.Join(errs...)
}

func branch(ref string) string { return strings.TrimPrefix(ref, "refs/heads/") }

// undeclared are the environments that run and that the list does not have, by name.
func (d *Deployer) undeclared(l *list) (out []*cluster.Environment) {
	d.opt.Ledger.View(func(s *cluster.State) {
		for e := range s.Environments().Values() {
			if !l.declares(e.Name) {
				out = append(out, e)
			}
		}
	})
	slices.SortFunc(out, func(a, b *cluster.Environment) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// word finds the commit that retires an environment: the newest, or one before it since the declaration went away. So a
// push of several commits and a merge do as well as a single one; a word from before the environment was declared
// again does not count. What cannot be read is not searched. A commit without id: there is none.
func (d *Deployer) word(ctx context.Context, newest source.ID, environment string) (source.Commit, error) {
	queue, seen := []source.ID{newest}, map[source.ID]bool{d.searched[environment]: true}
	for n := 0; len(queue) > 0 && n < maxWords; n++ {
		id := queue[0]
		queue = queue[1:]
		if seen[id] {
			continue
		}
		seen[id] = true
		c, err := d.opt.Source.Commit(ctx, id)
		if err != nil {
			if id == newest {
				return c, fmt.Errorf("read commit %s: %w", id.Short(), err)
			}
			continue
		}
		if id != newest {
			l, err := d.listOf(ctx, id)
			if err != nil || len(l.problems) > 0 || l.declares(environment) {
				continue
			}
		}
		if c.Retires(environment) {
			return c, nil
		}
		queue = append(queue, c.Parents...)
	}
	d.searched[environment] = newest
	return source.Commit{}, nil
}

// retiredWithin bounds how long a node waits for the leader to retire an environment; then it looks again, and does it
// itself if it leads by then.
const retiredWithin = 5 * time.Second

// awaitRetired returns when an environment is not what it was any more.
func (d *Deployer) awaitRetired(ctx context.Context, env *cluster.Environment) error {
	ctx, cancel := context.WithTimeout(ctx, retiredWithin)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if now := d.active(env.Name); now == nil || now.Index != env.Index {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("the leader has not retired it yet: %w", context.Cause(ctx))
		}
	}
}

func (d *Deployer) appendRetire(ctx context.Context, environment, why string) error {
	const most = 1000 // bytes, for an author's subject may be long
	out, err := d.opt.Ledger.Append(ctx, cluster.Input{Retire: &cluster.Retire{Environment: environment, Why: strings.ToValidUTF8(why[:min(len(why), most)], "")}})
	if err != nil {
		return fmt.Errorf("append to the ledger: %w", err)
	}
	if out.Rejected != "" {
		return fmt.Errorf("the ring refused to retire it: %s", out.Rejected)
	}
	return nil
}

// retire takes an environment away; its pods stop gracefully. The leader says so for all: the others see the same
// commit, and wait for it.
func (d *Deployer) retire(ctx context.Context, env *cluster.Environment, by source.Commit, progress io.Writer) error {
	why := fmt.Sprintf("commit %s %q by %s", by.ID.Short(), by.Subject(), by.Author)
	if d.opt.Ring != nil && !d.opt.Ring.Leading() {
		if err := d.awaitRetired(ctx, env); err != nil {
			return err
		}
	} else if err := d.appendRetire(ctx, env.Name, why); err != nil {
		return err
	}
	delete(d.searched, env.Name)
	d.forget(func(name string) bool { return name == env.Name })
	d.mu.Lock()
	delete(d.places, env.Name)
	d.mu.Unlock()
	for _, id := range d.opt.Source.Pins(env.Name) {
		if err := d.opt.Source.Unpin(ctx, env.Name, id); err != nil {
			d.opt.Log.WarnContext(ctx, "commit not unpinned", "environment", env.Name, "commit", id.Short(), "err", err)
		}
	}
	fmt.Fprintf(progress, "%s: retired by %s; its pods stop\n", env.Name, why)
	d.opt.Journal.Add(Event{Object: "Environment " + env.Name, Reason: "Retired", Message: why})
	d.opt.Log.InfoContext(ctx, "environment retired", "environment", env.Name, "why", why)
	return nil
}
