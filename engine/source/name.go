package source

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// checkNames goes over the names of one directory.
func checkNames(items []Item, at string) error {
	plain, kinds := true, map[Kind]bool{}
	for _, it := range items {
		if why := nameFault(it.Name); why != "" {
			return &Fault{path.Clean(at) + "/" + cut(it.Name), why}
		}
		kinds[it.Kind] = true
		plain = plain && !strings.ContainsFunc(it.Name, func(r rune) bool { return r >= 0x80 || 'A' <= r && r <= 'Z' })
	}
	if plain && len(kinds) < 2 {
		return nil // the names are in order and in lower case, so no two are alike: nearly all directories
	}
	folded := make(map[string]Item, len(items))
	for _, it := range items {
		key := strings.ToLower(it.Name)
		if twin, ok := folded[key]; ok {
			p, q := path.Join(at, twin.Name), path.Join(at, it.Name)
			if twin.Name == it.Name {
				return &Fault{p, fmt.Sprintf("both a %s and a %s", twin.Kind, it.Kind)}
			}
			return &Fault{q, fmt.Sprintf("differs from %s in case only; some file systems hold one of them", quoted(p))}
		}
		folded[key] = it
	}
	return nil
}

// nameFault says what is wrong with one name, or "".
func nameFault(name string) string {
	switch {
	case name == "":
		return "an empty name"
	case name == "." || name == "..":
		return "a name that means another directory"
	case len(name) > MaxName:
		return fmt.Sprintf("a name of %d bytes; at most %d", len(name), MaxName)
	case !utf8.ValidString(name):
		return "a name that is not UTF-8"
	case strings.ContainsAny(name, "/\\"):
		return "a name that holds a slash or backslash"
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return "a name that holds a control character"
	case isDotGit(name):
		return "a name that some file systems take for .git"
	}
	return ""
}

// isDotGit knows the spellings that HFS+ and NTFS take for ".git": other case, code points that HFS+ leaves
// out, the short name "git~1", and an NTFS stream or dots and spaces behind it.
func isDotGit(name string) bool {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, name)
	name, _, _ = strings.Cut(strings.ToLower(name), ":")
	name = strings.TrimRight(name, ". ")
	return name == ".git" || name == "git~1"
}

func cut(name string) string {
	if len(name) > 64 {
		return name[:64] + "..."
	}
	return name
}
