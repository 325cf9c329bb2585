package renderer

import (
	"io"
	"strings"
	"sync"
)

// tail keeps the beginning of what a child says on standard error and counts the rest. Its first lines say why
// a Go program died; the last are stacks.
type tail struct {
	limit int

	mu    sync.Mutex
	head  []byte
	total int
}

const keepStderr = 2000 // bytes

func (t *tail) drain(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		t.mu.Lock()
		t.total += n
		if room := keepStderr - len(t.head); room > 0 {
			t.head = append(t.head, buf[:min(n, room)]...)
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// over says whether the child has said more than it may.
func (t *tail) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total > t.limit
}

// String is the first lines, as one.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(strings.ToValidUTF8(string(t.head), "?")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "goroutine ") {
			lines = append(lines, line)
		}
		if len(lines) == 3 {
			break
		}
	}
	return strings.Join(lines, "; ")
}

// outOfMemory and stackOverflow know the last words of the Go runtime.
func (t *tail) outOfMemory() bool { return strings.Contains(t.String(), "out of memory") }

func (t *tail) stackOverflow() bool {
	s := t.String()
	return strings.Contains(s, "stack exceeds") || strings.Contains(s, "stack overflow")
}
