package gitsync

import (
	"sync"

	"github.com/shoal-dev/shoal/engine/source"
)

// treeCache keeps directories that were read, so that a tree of a thousand apps is not taken apart again for
// each app. It has two halves: what is used moves to the young one, and when that is full the old one goes.
type treeCache struct {
	limit int // bytes, roughly, of both halves

	mu         sync.Mutex // guards the fields below
	young, old map[source.ID][]source.Item
	held       int // bytes in young
}

func (c *treeCache) get(id source.ID) ([]source.Item, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if items, ok := c.young[id]; ok {
		return items, true
	}
	items, ok := c.old[id]
	if ok {
		c.add(id, items)
	}
	return items, ok
}

func (c *treeCache) put(id source.ID, items []source.Item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(id, items)
}

func (c *treeCache) add(id source.ID, items []source.Item) {
	size := 128
	for _, it := range items {
		size += 96 + len(it.Name) // an Item, the digits of its id and its name
	}
	if c.young == nil || c.held+size > c.limit/2 {
		c.young, c.old, c.held = map[source.ID][]source.Item{}, c.young, 0
	}
	c.young[id] = items
	c.held += size
}
