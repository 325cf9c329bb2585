package desired

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// Guard refuses a set that would take away more than half of the objects of prev, or any Namespace, unless allow, the
// commit's Shoal-Allow-Delete trailer ("" if it has none), says so. prev may be nil. What could not be read is no
// matter of Guard: it is held by Build and deletes nothing.
func Guard(prev, next *Set, allow string) render.Problems {
	if prev == nil {
		return nil
	}
	gone := Removed(prev, next)
	precious := 0
	for _, e := range gone {
		if e.Key.Kind == "Namespace" || e.Key.Kind == "PersistentVolumeClaim" {
			precious++
		}
	}
	if precious == 0 && 2*len(gone) <= len(prev.Entries) {
		return nil
	}
	var why string
	switch n, err := strconv.Atoi(strings.TrimSpace(allow)); {
	case strings.EqualFold(strings.TrimSpace(allow), "all"):
		return nil
	case err == nil && n >= len(gone):
		return nil
	case allow != "" && err != nil:
		why = fmt.Sprintf("; found %q", allow)
	case allow != "":
		why = fmt.Sprintf("; it allows only %d", n)
	}
	const most = 5
	var names []string
	for i, e := range gone {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(gone)-most))
			break
		}
		names = append(names, e.Key.String())
	}
	return render.Problems{{File: "apps", Text: fmt.Sprintf(
		"this commit would delete %d of the %d objects of environment %s (%s); if it is meant, add the trailer \"%s: %d\" to its message%s",
		len(gone), len(prev.Entries), prev.Environment, strings.Join(names, ", "), source.TrailerAllowDelete, len(gone), why)}}
}

// Removed returns the entries of prev whose keys next does not have. Both are sorted, so one pass does.
func Removed(prev, next *Set) []Entry {
	var gone []Entry
	j := 0
	for _, e := range prev.Entries {
		for j < len(next.Entries) && next.Entries[j].Key.Compare(e.Key) < 0 {
			j++
		}
		if j == len(next.Entries) || next.Entries[j].Key != e.Key {
			gone = append(gone, e)
		}
	}
	return gone
}
