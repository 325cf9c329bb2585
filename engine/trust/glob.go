package trust

import (
	"errors"
	"strings"
)

// checkPattern says what is wrong with a pattern of paths or, with paths unset, of names of environments.
func checkPattern(p string, paths bool) error {
	switch {
	case p == "":
		return errors.New("is empty")
	case len(p) > maxPattern:
		return errors.New("is too long")
	case strings.ContainsAny(p, "?[]{}\\!"):
		return errors.New("holds one of ?[]{}\\!; only * and ** are understood")
	case strings.IndexFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\uFFFD' }) >= 0:
		return errors.New("holds a control character")
	case !paths && strings.Contains(p, "/"):
		return errors.New("holds a slash; names of environments do not")
	case strings.HasPrefix(p, "/"):
		return errors.New("begins with a slash; paths begin at the repository's root without one")
	case strings.HasSuffix(p, "/"):
		return errors.New("ends in a slash; write /** for what is below a directory")
	}
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return errors.New("holds an empty component, . or ..")
		case part != "**" && strings.Contains(part, "**"):
			return errors.New("** must be a whole component")
		}
	}
	return nil
}

// matchPath says whether path fits pattern: * is any part of a component, ** any number of components.
func matchPath(pattern, path string) bool {
	return match(strings.Split(pattern, "/"), strings.Split(path, "/"),
		func(p string) bool { return p == "**" }, matchName)
}

// matchName says whether a name without slashes fits pattern, in which * is any number of characters.
func matchName(pattern, name string) bool {
	return match([]byte(pattern), []byte(name),
		func(p byte) bool { return p == '*' }, func(p, c byte) bool { return p == c })
}

// match goes back to the latest star only, which is enough, so its time is at most len(pattern) * len(in).
func match[T any](pattern, in []T, star func(T) bool, one func(p, c T) bool) bool {
	p, i, starAt, resume := 0, 0, -1, 0
	for i < len(in) {
		switch {
		case p < len(pattern) && star(pattern[p]):
			starAt, resume = p, i
			p++
		case p < len(pattern) && one(pattern[p], in[i]):
			p++
			i++
		case starAt >= 0:
			resume++
			p, i = starAt+1, resume
		default:
			return false
		}
	}
	for p < len(pattern) && star(pattern[p]) {
		p++
	}
	return p == len(pattern)
}
