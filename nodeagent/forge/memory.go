package forge

// memory is a bounded table; the oldest line goes first.
type memory struct {
	most  int
	lines map[string]line
	order []string // keys as they came; one that was forgotten stays until its turn
}

// line is what was last written of one thing.
type line struct {
	text string // what it says; "" if it is not known
	id   int64  // of a comment; 0 if it was not found
	lost int64  // when an answer was lost, in nanoseconds since 1970; 0 if none was
}

func newMemory(most int) *memory { return &memory{most: most, lines: map[string]line{}} }

func (m *memory) get(key string) (line, bool) {
	l, ok := m.lines[key]
	return l, ok
}

func (m *memory) set(key string, l line) {
	if _, ok := m.lines[key]; !ok {
		for len(m.order) >= m.most && len(m.order) > 0 {
			delete(m.lines, m.order[0])
			m.order = m.order[1:]
		}
		m.order = append(m.order, key)
	}
	m.lines[key] = l
}

// forget keeps the key's place in the order, so that the order never holds a key twice.
func (m *memory) forget(key string) {
	if _, ok := m.lines[key]; ok {
		m.lines[key] = line{}
	}
}
