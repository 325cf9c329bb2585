package preview

import (
	"bytes"
	"fmt"
	"slices"
)

// mergeText merges two versions of a text by lines, as diff3 does: hunks that neither overlap nor touch are all taken, and
// of those that do only what both sides made alike. why says why it cannot be done. work is what steps are left, of all
// texts.
func mergeText(base, ours, theirs []byte, work *int) (merged []byte, why string) {
	for _, t := range [...][]byte{base, ours, theirs} {
		if len(t) > maxText {
			return nil, fmt.Sprintf("changed on both sides, and longer than %d bytes", maxText)
		}
		if bytes.IndexByte(t[:min(len(t), 8000)], 0) >= 0 {
			return nil, "a binary file that was changed on both sides"
		}
	}
	var all lines
	b, o, t := all.read(base), all.read(ours), all.read(theirs)
	out, why := mergeLines(b, o, t, work)
	if why != "" {
		return nil, why
	}
	// Where lines are alike there may be two ways to see what changed. From the other end the other one is found; if they
	// make different texts of it, somebody has to look.
	for _, list := range [...][]int32{b, o, t} {
		slices.Reverse(list)
	}
	again, why := mergeLines(b, o, t, work)
	if slices.Reverse(again); why == "" && !slices.Equal(out, again) {
		return nil, "changed on both sides among lines that are alike, so that there is more than one way to merge them"
	}
	for _, id := range out {
		merged = append(merged, all.lines[id]...)
	}
	return merged, ""
}

// mergeLines merges texts of which each line is a number.
func mergeLines(b, o, t []int32, work *int) (out []int32, why string) {
	left, ok := difference(b, o, work)
	right, ok2 := difference(b, t, work)
	if !ok || !ok2 {
		return nil, "changed on both sides in too many lines"
	}
	at := 0 // lines of base that are dealt with
	for len(left) > 0 || len(right) > 0 {
		// A group is hunks of either side, each of which touches one before it.
		var first [2]int
		lo := len(b)
		for _, side := range [2][]hunk{left, right} {
			if len(side) > 0 && side[0].a0 < lo {
				lo = side[0].a0
			}
		}
		hi := lo
		for grown := true; grown; {
			grown = false
			for s, side := range [2][]hunk{left, right} {
				if n := first[s]; n < len(side) && side[n].a0 <= hi {
					hi, grown = max(hi, side[n].a1), true
					first[s]++
				}
			}
		}
		out = append(out, b[at:lo]...)
		ox, oy := span(left[:first[0]], lo, hi)
		tx, ty := span(right[:first[1]], lo, hi)
		switch {
		case first[1] == 0, first[0] > 0 && slices.Equal(o[ox:oy], t[tx:ty]):
			out = append(out, o[ox:oy]...)
		case first[0] == 0:
			out = append(out, t[tx:ty]...)
		default:
			return nil, fmt.Sprintf("lines %d to %d were changed on both sides", lo+1, max(lo+1, hi))
		}
		left, right, at = left[first[0]:], right[first[1]:], hi
	}
	return append(out, b[at:]...), ""
}

// span is which lines of a side stand where base has lo to hi.
func span(hunks []hunk, lo, hi int) (from, to int) {
	if len(hunks) == 0 {
		return 0, 0
	}
	f, l := hunks[0], hunks[len(hunks)-1]
	return f.b0 - (f.a0 - lo), l.b1 + (hi - l.a1)
}

// lines gives each line a number that is the same for equal ones. A line has its end with it.
type lines struct {
	ids   map[string]int32
	lines []string
}

func (l *lines) read(b []byte) (ids []int32) {
	if l.ids == nil {
		l.ids = map[string]int32{}
	}
	for line := range bytes.Lines(b) {
		id, ok := l.ids[string(line)]
		if !ok {
			id = int32(len(l.lines))
			l.lines = append(l.lines, string(line))
			l.ids[l.lines[id]] = id
		}
		ids = append(ids, id)
	}
	return ids
}

// hunk says that lines a0 to a1 of one text became b0 to b1 of another; ends are not included.
type hunk struct{ a0, a1, b0, b1 int }

// difference finds the shortest list of hunks that makes b of a (Myers 1986), or gives up past maxEdits or when work is
// used up.
func difference(a, b []int32, work *int) ([]hunk, bool) {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	*work -= head + tail
	hunks, ok := shortest(a[head:len(a)-tail], b[head:len(b)-tail], work)
	if !ok {
		return nil, false
	}
	for i := range hunks {
		h := &hunks[i]
		h.a0, h.a1, h.b0, h.b1 = h.a0+head, h.a1+head, h.b0+head, h.b1+head
	}
	return settle(a, b, hunks), true
}

// shortest is difference of texts that begin and end differently.
func shortest(a, b []int32, work *int) ([]hunk, bool) {
	n, m := len(a), len(b)
	if n == 0 || m == 0 {
		if n+m == 0 {
			return nil, true
		}
		return []hunk{{0, n, 0, m}}, true
	}
	most := min(n+m, maxEdits)
	// trail[d][k+d] is how far into a d edits lead on diagonal k = x - y.
	var trail [][]int32
	for d := 0; d <= most; d++ {
		row := make([]int32, 2*d+1)
		if *work -= 2*d + 1; *work < 0 {
			return nil, false
		}
		for k := -d; k <= d; k += 2 {
			x := 0
			if d > 0 {
				before := trail[d-1]
				x = reach(before, d-1, k)
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
				*work--
			}
			row[k+d] = int32(x)
			if x >= n && x-k >= m {
				return back(append(trail, row), n, m), true
			}
		}
		trail = append(trail, row)
	}
	return nil, false
}

// reach is how far one more edit leads on diagonal k: down from the one above, or right from the one below.
func reach(before []int32, d, k int) int {
	down, right := -1, -1
	if k+1 <= d {
		down = int(before[k+1+d]) // a line of b is put in: x stays
	}
	if k-1 >= -d {
		right = int(before[k-1+d]) + 1 // a line of a is left out
	}
	return max(down, right)
}

// back follows the trail from the end to the beginning.
func back(trail [][]int32, n, m int) []hunk {
	var hunks []hunk
	x, y := n, m
	for d := len(trail) - 1; d > 0; d-- {
		k := x - y
		before := trail[d-1]
		from := reach(before, d-1, k)
		px, py := from, from-k-1 // came down
		if k-1 >= -(d-1) && int(before[k-1+d-1])+1 == from {
			px, py = from-1, from-k // came from the left
		}
		// Between (from, from-k) and (x, y) the lines are the same.
		h := hunk{px, from, py, from - k}
		if last := len(hunks) - 1; last >= 0 && hunks[last].a0 == h.a1 && hunks[last].b0 == h.b1 {
			hunks[last].a0, hunks[last].b0 = h.a0, h.b0
		} else {
			hunks = append(hunks, h)
		}
		x, y = px, py
	}
	slices.Reverse(hunks)
	return hunks
}

// settle moves hunks that only put in or only leave out lines as far down as they go, as Git does, so that the same change
// on both sides is found at the same place. Hunks that then touch become one.
func settle(a, b []int32, hunks []hunk) []hunk {
	for i := len(hunks) - 1; i >= 0; i-- {
		h := &hunks[i]
		endA, endB := len(a), len(b)
		if i+1 < len(hunks) {
			endA, endB = hunks[i+1].a0, hunks[i+1].b0
		}
		for h.a1 < endA && h.b1 < endB && (h.a0 == h.a1 && b[h.b0] == b[h.b1] || h.b0 == h.b1 && a[h.a0] == a[h.a1]) {
			h.a0, h.a1, h.b0, h.b1 = h.a0+1, h.a1+1, h.b0+1, h.b1+1
		}
		if i+1 < len(hunks) && h.a1 == endA && h.b1 == endB {
			h.a1, h.b1 = hunks[i+1].a1, hunks[i+1].b1
			hunks = slices.Delete(hunks, i+1, i+2)
		}
	}
	return hunks
}
