package diff

import (
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/desired"
)

// Digest names what becomes of objects between two renders, of which nil is one without objects: the sha256 of a line for
// each object that is created, updated or deleted, sorted by key. App names and places of files are not in it.
func Digest(before, after *desired.Set) desired.Digest {
	var b strings.Builder
	b.WriteString("shoal plan 1\n")
	for o, n := range pairs(before, after) {
		switch {
		case o == nil:
			line(&b, desired.Create, n.Key, desired.Entry{}, *n)
		case n == nil:
			line(&b, desired.Delete, o.Key, *o, desired.Entry{})
		case o.Digest != n.Digest || o.Template != n.Template:
			line(&b, desired.Update, n.Key, *o, *n)
		}
	}
	return desired.DigestOf([]byte(b.String()))
}

func line(b *strings.Builder, op desired.Op, k desired.Key, o, n desired.Entry) {
	fmt.Fprintf(b, "%s %q %q %q %q %q %q %q %q\n", op, k.Group, k.Kind, k.Namespace, k.Name, o.Digest, o.Template, n.Digest, n.Template)
}

// pairs walks two sorted sets at once; nil stands for an object that one of them does not have.
func pairs(before, after *desired.Set) func(yield func(o, n *desired.Entry) bool) {
	var was, is []desired.Entry
	if before != nil {
		was = before.Entries
	}
	if after != nil {
		is = after.Entries
	}
	return func(yield func(o, n *desired.Entry) bool) {
		i, j := 0, 0
		for i < len(was) || j < len(is) {
			var o, n *desired.Entry
			switch {
			case j == len(is) || i < len(was) && was[i].Key.Compare(is[j].Key) < 0:
				o = &was[i]
				i++
			case i == len(was) || is[j].Key.Compare(was[i].Key) < 0:
				n = &is[j]
				j++
			default:
				o, n = &was[i], &is[j]
				i, j = i+1, j+1
			}
			if !yield(o, n) {
				return
			}
		}
	}
}
