package store

import (
	"container/list"
	"sync"

	"github.com/shoal-dev/shoal/engine/desired"
)

// cache keeps the blobs used last, bounded by the sum of their sizes.
type cache struct {
	mu    sync.Mutex // guards all below
	limit int64      // bytes
	size  int64
	order *list.List // of *blob, the one used last in front
	byD   map[desired.Digest]*list.Element
}

type blob struct {
	d     desired.Digest
	bytes []byte
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, order: list.New(), byD: map[desired.Digest]*list.Element{}}
}

func (c *cache) get(d desired.Digest) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byD[d]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*blob).bytes, true
}

// add keeps b, unless it alone would take more than an eighth of the cache.
func (c *cache) add(d desired.Digest, b []byte) {
	if int64(len(b)) > c.limit/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byD[d]; ok {
		return
	}
	c.byD[d] = c.order.PushFront(&blob{d, b})
	c.size += int64(len(b))
	for c.size > c.limit {
		c.dropLocked(c.order.Back())
	}
}

func (c *cache) drop(d desired.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byD[d]; ok {
		c.dropLocked(e)
	}
}

func (c *cache) dropLocked(e *list.Element) {
	b := c.order.Remove(e).(*blob)
	delete(c.byD, b.d)
	c.size -= int64(len(b.bytes))
}
