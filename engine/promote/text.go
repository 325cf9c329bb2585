package promote

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// isLabel says whether s is a DNS label, as names of environments are.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// isWord says whether s can name a check or a Job.
func isWord(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

// isLine says whether s may stand in one line of a commit's message and comes back as it was.
func isLine(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && s == strings.TrimSpace(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Line makes what somebody typed fit for a trailer: one line of at most most bytes, without what cannot be printed.
func Line(s string, most int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == utf8.RuneError }), " ")
	return clip(s, most)
}

// clip shortens s to at most most bytes at the border of a rune.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	const dots = "..."
	return strings.TrimSpace(string(bytes.ToValidUTF8([]byte(s[:max(0, most-len(dots))]), nil))) + dots
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// oneOf lists what would have been right.
func oneOf(names []string) string {
	switch len(names) {
	case 0:
		return "none"
	case 1:
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
