package source

import (
	"fmt"
	"path"
	"strings"
)

// Checker checks trees against the rules of the package comment. It remembers what it found below a directory
// by the directory's id, so that checking a commit costs what the commit changed: of a commit that changes one
// app in a thousand it looks at three directories. The zero value is ready; it is not for concurrent use.
type Checker struct {
	Limits Limits
	seen   map[ID]extent
}

// rememberedTrees bounds a Checker's memory to about 8 MiB; past it, it forgets all and starts anew.
const rememberedTrees = 1 << 16

// extent is what matters of a directory to the directories above it. It depends on the directory's id alone.
type extent struct {
	entries int // files, links and directories below, each as often as it stands there
	depth   int // directories below, itself counted
	longest int // bytes of the longest path below, relative to it
	climbs  int // how many directories above this one the boldest link reaches
}

// Fault is one thing in a tree that is refused.
type Fault struct {
	Path string // from the root
	Text string
}

func (f *Fault) Error() string { return quoted(f.Path) + ": " + f.Text }

// Check goes over the tree with id root. It returns a *Fault for what breaks a rule, and other errors as they
// come from o.
func (c *Checker) Check(o Objects, root ID) error {
	l := c.Limits.WithDefaults()
	if c.seen == nil || len(c.seen) > rememberedTrees {
		c.seen = map[ID]extent{}
	}
	w := walker{objects: o, limits: l, seen: c.seen}
	e, err := w.dir(root, ".", 0)
	if err != nil {
		return err
	}
	// Directories that were seen before passed at another place, maybe nearer to the root. Where the sum of
	// their extents breaks a bound, a walk that remembers nothing finds the path.
	if e.entries > l.Files || e.depth > l.Depth || e.longest > l.Path || e.climbs > 0 {
		w = walker{objects: o, limits: l, seen: map[ID]extent{}, afresh: true}
		if _, err := w.dir(root, ".", 0); err != nil {
			return err
		}
		return &Fault{Path: ".", Text: "breaks a bound of the tree"}
	}
	return nil
}

type walker struct {
	objects Objects
	limits  Limits
	seen    map[ID]extent
	afresh  bool // go into directories that were seen, since the path matters
	entries int
}

func (w *walker) dir(id ID, at string, level int) (extent, error) {
	if e, ok := w.seen[id]; ok && !w.afresh {
		return e, nil
	}
	if level >= w.limits.Depth {
		return extent{}, &Fault{at, fmt.Sprintf("more than %d directories deep", w.limits.Depth)}
	}
	items, err := w.objects.Items(id)
	if err != nil {
		return extent{}, fmt.Errorf("%s: %w", quoted(at), err)
	}
	if err := checkNames(items, at); err != nil {
		return extent{}, err
	}
	sum := extent{depth: 1}
	for _, it := range items {
		if n := len(at) + 1 + len(it.Name); at != "." && n > w.limits.Path {
			return extent{}, &Fault{cut(at), fmt.Sprintf("a path of %d bytes below it; at most %d", n, w.limits.Path)}
		}
		if w.entries++; w.entries > w.limits.Files {
			return extent{}, &Fault{at, fmt.Sprintf("more than %d files in the repository", w.limits.Files)}
		}
		below := extent{}
		switch it.Kind {
		case Dir:
			if below, err = w.dir(it.ID, path.Join(at, it.Name), level+1); err != nil {
				return extent{}, err
			}
		case Link:
			if below.climbs, err = w.link(it.ID, path.Join(at, it.Name), level); err != nil {
				return extent{}, err
			}
		case Module:
			return extent{}, &Fault{path.Join(at, it.Name), "is a submodule: submodules are not supported, commit the files themselves"}
		}
		// A directory that stands in itself ten times over, thirty levels deep, is few bytes and 10^30 files.
		sum.entries = min(sum.entries+1+below.entries, 1<<40)
		sum.depth = max(sum.depth, below.depth+1)
		sum.longest = max(sum.longest, len(it.Name)+min(1, below.longest)+below.longest)
		if it.Kind == Link {
			sum.climbs = max(sum.climbs, below.climbs)
		} else {
			sum.climbs = max(sum.climbs, below.climbs-1)
		}
	}
	w.seen[id] = sum
	return sum, nil
}

// link returns how many directories above its own the link reaches, and an error if that leaves the tree. The
// target is judged by its words alone: nothing is followed, so what it meets on the way does not matter.
func (w *walker) link(id ID, p string, level int) (climbs int, err error) {
	b, err := w.objects.Blob(id)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", quoted(p), err)
	}
	target := string(b)
	if len(target) > MaxLink {
		return 0, &Fault{p, fmt.Sprintf("a symbolic link of %d bytes; at most %d", len(target), MaxLink)}
	}
	if target == "" || strings.HasPrefix(target, "/") || strings.ContainsAny(target, "\x00\\") {
		return 0, &Fault{p, fmt.Sprintf("a symbolic link to %q, which is not in the repository", target)}
	}
	depth := 0
	for word := range strings.SplitSeq(target, "/") {
		switch word {
		case "", ".":
		case "..":
			depth--
			climbs = max(climbs, -depth)
		default:
			depth++
		}
	}
	if climbs > level {
		return 0, &Fault{p, fmt.Sprintf("a symbolic link to %q, which leaves the repository", target)}
	}
	return climbs, nil
}

// quoted is p as it is, or quoted where it holds what a terminal should not get.
func quoted(p string) string {
	if q := fmt.Sprintf("%q", p); len(q) != len(p)+2 {
		return q
	}
	return p
}
