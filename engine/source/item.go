package source

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
)

// Kind is what a name in a Git tree stands for.
type Kind uint8

const (
	File   Kind = iota + 1 // 100644, and 100664 of very old commits
	Exec                   // 100755
	Dir                    // 40000
	Link                   // 120000, a symbolic link
	Module                 // 160000, a submodule: a commit of another repository
)

// String is a word for people.
func (k Kind) String() string {
	switch k {
	case File, Exec:
		return "file"
	case Dir:
		return "directory"
	case Link:
		return "symbolic link"
	case Module:
		return "submodule"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Item is one line of a Git tree.
type Item struct {
	Name string
	ID   ID
	Kind Kind
}

func (it Item) entry() Entry {
	mode := fs.FileMode(0o644)
	switch it.Kind {
	case Dir:
		mode = fs.ModeDir | 0o755
	case Exec:
		mode = 0o755
	case Link:
		mode = fs.ModeSymlink | 0o777
	}
	return Entry{Name: it.Name, ID: it.ID, Mode: mode}
}

// ParseTree reads the raw bytes of a Git tree. It is strict: a mode Git does not write, an empty name or one
// with a slash, a line cut short and names out of order or repeated are errors, so that no tree can be read two ways.
func ParseTree(raw []byte) ([]Item, error) {
	items := make([]Item, 0, len(raw)/36)
	// All names and ids share two strings: a directory of a thousand apps is a handful of allocations.
	text := string(raw)
	digits := make([]byte, 0, len(raw)/36*40)
	for at := 0; at < len(raw); {
		line := raw[at:]
		space := bytes.IndexByte(line[:min(len(line), 7)], ' ')
		if space < 0 {
			return nil, fmt.Errorf("tree: offset %d: no mode", at)
		}
		kind := kindOf(line[:space])
		if kind == 0 {
			return nil, fmt.Errorf("tree: offset %d: mode %q is none of 40000, 100644, 100755, 120000, 160000", at, line[:space])
		}
		end := bytes.IndexByte(line[space+1:], 0)
		if end < 0 {
			return nil, fmt.Errorf("tree: offset %d: a name without end", at)
		}
		name, rest := line[space+1:space+1+end], line[space+2+end:]
		if len(name) == 0 || bytes.IndexByte(name, '/') >= 0 {
			return nil, fmt.Errorf("tree: offset %d: name %q is empty or holds a slash", at, name)
		}
		if len(rest) < sha1.Size {
			return nil, fmt.Errorf("tree: %q: the id is cut short", name)
		}
		digits = hex.AppendEncode(digits, rest[:sha1.Size])
		it := Item{Name: text[at+space+1 : at+space+1+end], Kind: kind}
		if n := len(items); n > 0 && compareItems(items[n-1], it) >= 0 {
			return nil, fmt.Errorf("tree: %q after %q: names must be sorted and each stand once", it.Name, items[n-1].Name)
		}
		items = append(items, it)
		at += space + 2 + end + sha1.Size
	}
	ids := string(digits)
	for i := range items {
		items[i].ID = ID(ids[40*i : 40*i+40])
	}
	return items, nil
}

func kindOf(mode []byte) Kind {
	switch string(mode) {
	case "100644", "100664":
		return File
	case "100755":
		return Exec
	case "40000":
		return Dir
	case "120000":
		return Link
	case "160000":
		return Module
	}
	return 0
}

// EncodeTree is the raw bytes of a tree of items, which must be in Git's order.
func EncodeTree(items []Item) []byte {
	var b bytes.Buffer
	for _, it := range items {
		mode := map[Kind]string{File: "100644", Exec: "100755", Dir: "40000", Link: "120000", Module: "160000"}[it.Kind]
		id, _ := hex.DecodeString(string(it.ID))
		b.WriteString(mode)
		b.WriteByte(' ')
		b.WriteString(it.Name)
		b.WriteByte(0)
		b.Write(id)
	}
	return b.Bytes()
}

// ObjectID is the id Git gives raw as an object of kind "blob", "tree", "commit" or "tag".
func ObjectID(kind string, raw []byte) ID {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(raw))
	h.Write(raw)
	return ID(hex.EncodeToString(h.Sum(nil)))
}

// compareItems is Git's order: by bytes, where a directory's name counts as ending in a slash.
func compareItems(a, b Item) int {
	n := min(len(a.Name), len(b.Name))
	if c := cmp.Compare(a.Name[:n], b.Name[:n]); c != 0 {
		return c
	}
	return cmp.Compare(a.next(n), b.next(n))
}

// next is the byte after the first n of the name, or 0, or '/' where a directory's name ends.
func (it Item) next(n int) byte {
	switch {
	case n < len(it.Name):
		return it.Name[n]
	case it.Kind == Dir:
		return '/'
	}
	return 0
}

// findItem finds name, which may stand at one of two places in Git's order: as a file or as a directory.
func findItem(items []Item, name string) int {
	for _, kind := range []Kind{File, Dir} {
		i, ok := slices.BinarySearchFunc(items, Item{Name: name, Kind: kind}, compareItems)
		if ok && items[i].Name == name {
			return i
		}
	}
	return -1
}

func sortEntries(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
}
