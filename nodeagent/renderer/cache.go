package renderer

import (
	"container/list"

	"github.com/shoal-dev/shoal/engine/render"
)

// cache keeps results by what they were made of, at most so many bytes; the least recently used goes first. It
// also keeps, for each app, what its last evaluations read, which is needed to make the key. The renderer's mutex
// guards it.
type cache struct {
	max, size int
	entries   map[string]*list.Element
	recent    *list.List                // of *cached, most recent first
	reads     map[string][]*render.Deps // by app and mode: what evaluations read, most recent first
}

type cached struct {
	key  string
	size int
	app  App
}

// readsKept is how many sets of reads an app keeps: one for each branch that is rendered in turn.
const readsKept = 4

func newCache(size int) *cache {
	return &cache{max: size, entries: map[string]*list.Element{}, recent: list.New(), reads: map[string][]*render.Deps{}}
}

// get finds the result for an app under any of the sets of reads that it is known by.
func (c *cache) get(keys *render.Keys, mode, app string) (App, bool, error) {
	for _, deps := range c.reads[mode+app] {
		key, err := keys.Key(app, *deps)
		if err != nil {
			return App{}, false, err
		}
		if e, ok := c.entries[mode+key]; ok {
			c.recent.MoveToFront(e)
			return e.Value.(*cached).app, true, nil
		}
	}
	return App{}, false, nil
}

func (c *cache) put(keys *render.Keys, mode string, app App, deps render.Deps) error {
	key, err := keys.Key(app.Name, deps)
	if err != nil {
		return err
	}
	c.remember(mode+app.Name, deps)
	key = mode + key
	if e, ok := c.entries[key]; ok {
		c.drop(e)
	}
	x := &cached{key: key, app: app, size: app.size()}
	if x.size > c.max {
		return nil
	}
	c.entries[key] = c.recent.PushFront(x)
	c.size += x.size
	for c.size > c.max {
		c.drop(c.recent.Back())
	}
	if len(c.reads) > 4*len(c.entries)+1000 { // apps that went away
		c.reads = map[string][]*render.Deps{mode + app.Name: c.reads[mode+app.Name]}
	}
	return nil
}

func (c *cache) remember(name string, deps render.Deps) {
	kept := []*render.Deps{&deps}
	for _, d := range c.reads[name] {
		if len(kept) < readsKept && !sameDeps(*d, deps) {
			kept = append(kept, d)
		}
	}
	c.reads[name] = kept
}

func (c *cache) drop(e *list.Element) {
	x := c.recent.Remove(e).(*cached)
	delete(c.entries, x.key)
	c.size -= x.size
}

func sameDeps(a, b render.Deps) bool {
	if len(a.Reads) != len(b.Reads) || len(a.Facts) != len(b.Facts) {
		return false
	}
	for i := range a.Reads {
		if a.Reads[i] != b.Reads[i] {
			return false
		}
	}
	for i := range a.Facts {
		if a.Facts[i] != b.Facts[i] {
			return false
		}
	}
	return true
}
