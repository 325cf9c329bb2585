package gitsync

// compactIfNeeded merges packs in the background once there are more than Options.MaxPacks, one merge at a
// time. Its failure harms nobody but the next reader's patience, so it is logged. Close waits for it.
func (m *Mirror) compactIfNeeded() {
	if m.repo.Packs() <= m.opt.MaxPacks || !m.compacting.CompareAndSwap(false, true) {
		return
	}
	m.background.Go(func() {
		defer m.compacting.Store(false)
		if err := m.repo.Compact(m.closing); err != nil && m.closing.Err() == nil {
			m.opt.Log.Warn("merge of git packs failed", "err", err)
		}
	})
}
