package main

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// pulls knows which images are being fetched, and how far. Safe for concurrent use.
type pulls struct {
	mu  sync.Mutex
	now map[*api.Pull]bool
}

// begin notes a pull; tell says how far it is, end that it is over.
func (p *pulls) begin(image string) (tell func(done, total int64), end func()) {
	pull := &api.Pull{Image: image}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now = map[*api.Pull]bool{}
	}
	p.now[pull] = true
	tell = func(done, total int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		pull.Done, pull.Total = done, total
	}
	end = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.now, pull)
	}
	return tell, end
}

// list are the pulls under way by image; of several of one image, the one that is furthest.
func (p *pulls) list() []api.Pull {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []api.Pull
	for pull := range p.now {
		out = append(out, *pull)
	}
	slices.SortFunc(out, func(a, b api.Pull) int {
		return cmp.Or(cmp.Compare(a.Image, b.Image), cmp.Compare(b.Done, a.Done))
	})
	return slices.CompactFunc(out, func(a, b api.Pull) bool { return a.Image == b.Image })
}

// pullText is how far a pull is, for people.
func pullText(p api.Pull) string {
	if p.Total == 0 {
		return "pulling " + p.Image
	}
	return fmt.Sprintf("pulling %s %.1f of %.1f MB", p.Image, float64(p.Done)/1e6, float64(p.Total)/1e6)
}
