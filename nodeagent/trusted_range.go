package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
	"github.com/shoal-dev/shoal/internal/wallclock"
)

// History is what the agent needs of the repository's past, to judge who signed it.
type History interface {
	// Raw returns the exact bytes of a "commit" or a "tag".
	Raw(id source.ID) (kind string, raw []byte, err error)
	// Objects are directories and files by their ids, as they were pushed and not checked.
	Objects() source.Objects
	// Since lists the commits that tip reaches and last does not, each after its parents, and which of their parents last
	// reaches. cut says that some may be ancestors of last whose history is not here. More than max are an error with TooMuch.
	Since(ctx context.Context, last, tip source.ID, max int) (commits, known []source.ID, cut bool, err error)
	// Deepen brings the history to its beginning, where it was not fetched whole. It says whether there is more of it now.
	Deepen(ctx context.Context) (more bool, err error)
	// RefsBelow lists at most max refs whose names begin with prefix.
	RefsBelow(prefix string, max int) []source.Ref
}

const (
	maxRange      = 10_000   // commits that are judged at once
	maxRangeBytes = 64 << 20 // of all of them
	maxPaths      = 200_000  // that all of them change, where rights depend on paths
)

// tooMuchError is of a range that is not judged; it will be so the next time too.
type tooMuchError struct{ text string }

func (e *tooMuchError) Error() string { return e.text }
func (e *tooMuchError) TooMuch() bool { return true }

// Keys are keys/ in the tree of a commit: of an active one, they say who may sign and approve.
func (d *Deployer) Keys(commit source.ID) (*trust.Keys, error) {
	k, err := d.keysAt(commit)
	return k.keys, err
}

// Judge says who signed what a commit brings in since another, which is active in an environment, also where nothing must be
// signed. An error that has TooMuch is of a range that is too long to judge.
func (d *Deployer) Judge(ctx context.Context, environment string, active, commit source.ID) (trust.Verdict, error) {
	keys, err := d.Keys(active)
	if err != nil {
		return trust.Verdict{}, err
	}
	r, _, err := d.rangeOf(ctx, stand{active, keys}, environment, commit)
	if err != nil {
		return trust.Verdict{}, err
	}
	return trust.Judge(r), nil
}

// keysAt is keys/ at a commit: what is there under that name, and what it says.
type keysAt struct {
	item source.Item
	tree source.ID // of the commit
	keys *trust.Keys
}

func (d *Deployer) keysAt(commit source.ID) (k keysAt, err error) {
	_, raw, err := d.opt.Source.Raw(commit)
	if err != nil {
		return k, err
	}
	c, err := source.ParseCommit(commit, raw)
	if err != nil {
		return k, err
	}
	return d.keysOf(c)
}

// keysOf reads keys/ of a commit. Most commits have those of the one before. What cannot be read for now is an error, and
// never taken for a directory that is not there.
func (d *Deployer) keysOf(c source.Commit) (k keysAt, err error) {
	objects := d.opt.Source.Objects()
	k.tree = c.Tree
	items, err := objects.Items(c.Tree)
	if err != nil {
		return k, fmt.Errorf("read tree of %s: %w", c.ID.Short(), err)
	}
	for _, it := range items {
		if it.Name == trust.Dir {
			k.item = it
		}
	}
	if k.item.ID == "" {
		k.keys = &trust.Keys{}
		return k, nil
	}
	d.mu.Lock()
	known, ok := d.keys[k.item]
	d.mu.Unlock()
	if ok {
		k.keys = known
		return k, nil
	}
	if k.item.Kind == source.Dir {
		if _, err := objects.Items(k.item.ID); err != nil {
			if _, fault := errors.AsType[*source.Fault](err); !fault {
				return k, fmt.Errorf("read %s/ of %s: %w", trust.Dir, c.ID.Short(), err)
			}
		}
	}
	k.keys, _ = trust.FromTree(source.New(c.ID, c.Tree, objects))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys == nil || len(d.keys) >= 2*trust.MaxChanges {
		d.keys = map[source.Item]*trust.Keys{}
	}
	d.keys[k.item] = k.keys
	return k, nil
}

// firstOf is what is judged where nothing is active: the tip alone, by its own keys.
func (d *Deployer) firstOf(environment string, tip source.ID, keys *trust.Keys) (trust.Range, error) {
	r := trust.Range{Environment: environment, Active: keys, Known: map[source.ID]*trust.Keys{}, Now: d.trustTime()}
	_, raw, err := d.opt.Source.Raw(tip)
	if err != nil {
		return r, err
	}
	c, err := source.ParseCommit(tip, raw)
	if err != nil {
		return r, err
	}
	for _, p := range c.Parents {
		r.Known[p] = keys
	}
	r.Commits = []trust.Commit{{ID: tip, Raw: raw}}
	if keys.LimitsPaths() {
		before := source.ID("")
		if len(c.Parents) > 0 {
			if _, raw, err := d.opt.Source.Raw(c.Parents[0]); err == nil { // else history ends here: all its files count
				if p, err := source.ParseCommit(c.Parents[0], raw); err == nil {
					before = p.Tree
				}
			}
		}
		r.Commits[0].Paths, err = changedPaths(d.opt.Source.Objects(), before, c.Tree, maxPaths)
	}
	return r, err
}

// rangeOf is what a commit brings in since the one that is active.
func (d *Deployer) rangeOf(ctx context.Context, from stand, environment string, tip source.ID) (r trust.Range, cut bool, err error) {
	r = trust.Range{
		Environment: environment, Last: from.commit, Active: from.keys, Known: map[source.ID]*trust.Keys{}, Now: d.trustTime(), Late: lateFor,
	}
	ids, known, cut, err := d.opt.Source.Since(ctx, from.commit, tip, maxRange)
	if err != nil {
		return r, cut, err
	}
	at := map[source.ID]keysAt{}
	limits, size := from.keys.LimitsPaths(), 0
	for _, id := range known {
		if at[id], err = d.keysAt(id); err != nil {
			return r, cut, err
		}
		if id != from.commit {
			r.Known[id] = at[id].keys
			limits = limits || at[id].keys.LimitsPaths()
		}
	}
	commits := make([]source.Commit, 0, len(ids))
	for i, id := range ids {
		if i%256 == 0 && ctx.Err() != nil {
			return r, cut, context.Cause(ctx)
		}
		_, raw, err := d.opt.Source.Raw(id)
		if err != nil {
			return r, cut, err
		}
		if size += len(raw); size > maxRangeBytes {
			return r, cut, &tooMuchError{fmt.Sprintf("the commits since %s have more than %d bytes", from.commit.Short(), maxRangeBytes)}
		}
		r.Commits = append(r.Commits, trust.Commit{ID: id, Raw: raw})
		c, err := source.ParseCommit(id, raw)
		if err != nil {
			return r, cut, nil // it is the first that is not trusted
		}
		k, err := d.keysOf(c)
		if err != nil {
			return r, cut, err
		}
		if len(c.Parents) == 0 || at[c.Parents[0]].item != k.item {
			r.Commits[i].Keys = k.keys
			limits = limits || k.keys.LimitsPaths()
		}
		at[id], commits = k, append(commits, c)
	}
	if limits {
		err = d.addPaths(ctx, &r, commits, at)
	}
	return r, cut, err
}

// addPaths finds what each commit of a range changes.
func (d *Deployer) addPaths(ctx context.Context, r *trust.Range, commits []source.Commit, at map[source.ID]keysAt) error {
	room := maxPaths
	for i, c := range commits {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		before := source.ID("")
		if len(c.Parents) > 0 {
			before = at[c.Parents[0]].tree // of one that is not here: all its files count
		}
		paths, err := changedPaths(d.opt.Source.Objects(), before, c.Tree, room)
		if err != nil {
			return fmt.Errorf("what commit %s changes: %w", c.ID.Short(), err)
		}
		r.Commits[i].Paths = paths
		room -= len(paths)
	}
	return nil
}

// trustTime is the time by which keys expire: the ring's, or the clock's where that is later.
func (d *Deployer) trustTime() (now time.Time) {
	now = wallclock.Now()
	d.opt.Ledger.View(func(s *cluster.State) {
		if ring := time.UnixMilli(s.Time()); ring.After(now) {
			now = ring
		}
	})
	return now
}

// changedPaths lists the files that differ between two trees; "" is one without files. More than max are an error with TooMuch.
func changedPaths(o source.Objects, before, after source.ID, max int) (paths []string, err error) {
	const deepest = 256 // directories in one another
	var walk func(before, after source.ID, at string, level int) error
	items := func(id source.ID) (map[string]source.Item, error) {
		if id == "" {
			return nil, nil
		}
		list, err := o.Items(id)
		if err != nil {
			return nil, err
		}
		out := make(map[string]source.Item, len(list))
		for _, it := range list {
			out[it.Name] = it
		}
		return out, nil
	}
	add := func(it source.Item, path string, level int, into func(id source.ID) error) error {
		switch {
		case it.ID == "":
		case it.Kind == source.Dir && level < deepest:
			return into(it.ID)
		case len(paths) >= max:
			return &tooMuchError{fmt.Sprintf("more than %d files", max)}
		default:
			paths = append(paths, path)
		}
		return nil
	}
	walk = func(before, after source.ID, at string, level int) error {
		was, err := items(before)
		if err != nil {
			return err
		}
		is, err := items(after)
		if err != nil {
			return err
		}
		names := slices.Collect(maps.Keys(is))
		for name := range was {
			if _, both := is[name]; !both {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			a, b, path := was[name], is[name], at+name
			switch {
			case a.ID == b.ID && a.Kind == b.Kind:
				continue
			case a.Kind == source.Dir && b.Kind == source.Dir && level < deepest:
				err = walk(a.ID, b.ID, path+"/", level+1)
			case a.Kind != source.Dir && b.Kind != source.Dir:
				err = add(b, path, level, nil)
				if b.ID == "" {
					err = add(a, path, level, nil)
				}
			default:
				err = add(a, path, level, func(id source.ID) error { return walk(id, "", path+"/", level+1) })
				if err == nil {
					err = add(b, path, level, func(id source.ID) error { return walk("", id, path+"/", level+1) })
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err = walk(before, after, "", 0)
	return paths, err
}
