package source

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The trailers that Shoal reads and writes.
const (
	TrailerAllowDelete  = "Shoal-Allow-Delete"  // "<n>" or "all": how many objects this commit may take away
	TrailerRetire       = "Shoal-Retire"        // names of environments that shoal.cue declares no longer: they are taken away
	TrailerRing         = "Shoal-Ring"          // identity of the ring that a claim is for
	TrailerReason       = "Shoal-Reason"        // why, in words
	TrailerBy           = "Shoal-By"            // who asked for a commit that the server made
	TrailerPromotedFrom = "Shoal-Promoted-From" // "<environment> <commit>"
	TrailerEvidence     = "Shoal-Evidence"      // one gate's verdict
	TrailerHotfix       = "Shoal-Hotfix"        // "<gates> <reason>"
	TrailerPinUntil     = "Shoal-Pin-Until"     // a time
)

// Trailer is one "Key: value" line at the end of a message.
type Trailer struct{ Key, Value string }

// Trailers reads the last paragraph of a message as git interpret-trailers does: it holds trailers if every
// line is one, continues one (begins with a space), or is a comment. The first paragraph, which is the subject,
// never holds any.
func Trailers(message string) []Trailer {
	message = strings.TrimRight(strings.ReplaceAll(message, "\r\n", "\n"), " \t\n")
	i := strings.LastIndex(message, "\n\n")
	if i < 0 {
		return nil
	}
	var trailers []Trailer
	for line := range strings.SplitSeq(strings.TrimLeft(message[i:], "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if n := len(trailers); n > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
			trailers[n-1].Value += " " + strings.TrimSpace(line)
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || !isTrailerKey(key) {
			return nil
		}
		trailers = append(trailers, Trailer{key, strings.TrimSpace(value)})
	}
	return trailers
}

func isTrailerKey(key string) bool {
	for _, r := range key {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return key != ""
}

// Trailer returns the last value of key, whose case does not matter, and whether there is one.
func (c Commit) Trailer(key string) (value string, ok bool) {
	for _, t := range Trailers(c.Message) {
		if strings.EqualFold(t.Key, key) {
			value, ok = t.Value, true
		}
	}
	return value, ok
}

// Retires says whether a commit names an environment to be taken away: among all its Shoal-Retire trailers, whose names
// are parted by commas or white space.
func (c Commit) Retires(environment string) bool {
	for _, t := range Trailers(c.Message) {
		if strings.EqualFold(t.Key, TrailerRetire) && slices.Contains(strings.FieldsFunc(t.Value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }), environment) {
			return true
		}
	}
	return false
}

// AllowDelete is what a commit says it may take away: 0 without the trailer, -1 for "all", otherwise a number
// of objects. Another value is an error, since its author meant something.
func (c Commit) AllowDelete() (n int, err error) {
	value, ok := c.Trailer(TrailerAllowDelete)
	switch {
	case !ok:
		return 0, nil
	case strings.EqualFold(value, "all"):
		return -1, nil
	}
	n, err = strconv.Atoi(value)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("commit %s: %s: %q is neither a number nor \"all\"", c.ID.Short(), TrailerAllowDelete, cut(value))
	}
	return n, nil
}
