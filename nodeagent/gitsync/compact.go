package gitsync

import "time"

const (
	// collectFrom is the least size at which what nothing refers to is looked for.
	collectFrom = 64 << 20
	// collectGrace is how long a commit that a ref has left can still be read for sure.
	collectGrace = 10 * time.Minute
)

// compactIfNeeded merges packs once there are more than Options.MaxPacks, and collects once the repository is twice
// as big as after the last time: in the background, one at a time. A failure harms nobody but the next reader's
// patience, so it is logged. Close waits for it.
func (m *Mirror) compactIfNeeded() {
	many := m.repo.Packs() > m.opt.MaxPacks
	big := m.repo.Size() > max(collectFrom, 2*m.collected.Load())
	if !many && !big || !m.compacting.CompareAndSwap(false, true) {
		return
	}
	m.background.Go(func() {
		defer m.compacting.Store(false)
		if many {
			if err := m.repo.Compact(m.closing); err != nil && m.closing.Err() == nil {
				m.opt.Log.Warn("merge of git packs failed", "err", err)
			}
		}
		if big {
			m.collect()
		}
	})
}

// collect drops what nothing refers to, unless something is coming in: then the next fetch or push tries again.
func (m *Mirror) collect() {
	if !m.incoming.TryLock() {
		return
	}
	defer m.incoming.Unlock()
	n, err := m.repo.Collect(m.closing, collectGrace)
	switch {
	case m.closing.Err() != nil:
		return
	case err != nil:
		m.opt.Log.Warn("collection of unused git objects failed", "err", err)
	default:
		m.opt.Log.Info("unused git objects were dropped", "objects", n, "bytes left", m.repo.Size())
	}
	m.collected.Store(m.repo.Size())
}
