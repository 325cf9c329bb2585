package promote

import (
	"fmt"
	"time"
)

// calendarReach bounds how far ahead a Calendar looks, in ms.
const calendarReach = int64(400 * 24 * time.Hour / time.Millisecond)

// Calendar says when an environment may change: within one of its windows, if it has any, and in no freeze.
type Calendar struct {
	windows, freezes []span
}

// NewCalendar reads windows and freezes. With problems there is no Calendar; their paths begin with "windows[0]" or
// "freezes[0]".
func NewCalendar(windows, freezes []Span) (*Calendar, Problems) {
	c := &Calendar{}
	var problems Problems
	for i, w := range windows[:min(len(windows), maxList)] {
		s, bad := w.read(fmt.Sprintf("windows[%d]", i))
		c.windows, problems = append(c.windows, s), append(problems, bad...)
	}
	for i, f := range freezes[:min(len(freezes), maxFreezes)] {
		s, bad := f.read(fmt.Sprintf("freezes[%d]", i))
		c.freezes, problems = append(c.freezes, s), append(problems, bad...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return c, nil
}

// Open says whether t is a time at which the environment may change.
func (c *Calendar) Open(t int64) bool {
	_, frozen := c.frozen(t)
	return c.inWindow(t) && !frozen
}

func (c *Calendar) inWindow(t int64) bool {
	for i := range c.windows {
		if c.windows[i].contains(t) {
			return true
		}
	}
	return len(c.windows) == 0
}

// frozen says whether t is in a freeze, and why there is one.
func (c *Calendar) frozen(t int64) (why string, frozen bool) {
	for i := range c.freezes {
		if c.freezes[i].contains(t) {
			return c.freezes[i].why, true
		}
	}
	return "", false
}

// Next is the first time from now on at which Open holds: now itself if it does. It is 0 if there is none within 400 days.
func (c *Calendar) Next(now int64) int64 { return c.first(now, true) }

// Closes is the first time from now on at which Open does not hold, 0 if there is none within 400 days.
func (c *Calendar) Closes(now int64) int64 { return c.first(now, false) }

// first walks from boundary to boundary: between two of them nothing changes.
func (c *Calendar) first(now int64, open bool) int64 {
	for t := now; t <= now+calendarReach; {
		if c.Open(t) == open {
			return t
		}
		next := t + calendarReach + 1
		for _, spans := range [...][]span{c.windows, c.freezes} {
			for i := range spans {
				next = min(next, spans[i].boundary(t))
			}
		}
		t = next
	}
	return 0
}
