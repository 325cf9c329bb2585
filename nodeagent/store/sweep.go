package store

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shoal-dev/shoal/engine/desired"
)

// Swept is what a Sweep removed and what it left.
type Swept struct {
	Removed, Kept           int
	RemovedBytes, KeptBytes int64
}

// Sweep removes the blobs that keep does not want and that were last put before olderThan ago. keep is called
// once a blob and must answer for all that the ledger, kept revisions and renders under way refer to. Put waits
// while Sweep works on one of the 256 directories, never for the whole of it.
func (c *Content) Sweep(keep func(desired.Digest) bool, olderThan time.Duration) (Swept, error) {
	var s Swept
	before := time.Now().Add(-olderThan)
	for n := range 256 {
		if err := c.sweepShard(filepath.Join(c.dir, fmt.Sprintf("%02x", n)), keep, before, &s); err != nil {
			return s, fmt.Errorf("sweep content store: %w", err)
		}
	}
	return s, nil
}

func (c *Content) sweepShard(shard string, keep func(desired.Digest) bool, before time.Time, s *Swept) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := os.ReadDir(shard)
	if err != nil {
		return err
	}
	for _, e := range entries {
		d := desired.Digest(e.Name())
		info, err := e.Info()
		if err != nil || checkDigest(d) != nil {
			continue // gone meanwhile, or none of ours
		}
		if keep(d) || !info.ModTime().Before(before) {
			s.Kept++
			s.KeptBytes += info.Size()
			continue
		}
		if err := remove(filepath.Join(shard, e.Name())); err != nil {
			return err
		}
		c.cache.drop(d)
		s.Removed++
		s.RemovedBytes += info.Size()
	}
	return nil
}
