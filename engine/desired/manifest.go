package desired

import (
	"fmt"
	"strings"
)

// header opens every manifest; the number is raised when the form changes.
const header = "shoal manifest 1 "

// Encode returns the manifest of s: a line that names the environment, then a line an object, sorted by Key:
//
//	shoal manifest 1 production
//	apps Deployment shop web 3f6c…64 digits 9a0b…64 digits frontend
//
// The fields are group, kind, namespace, name, digest, template, app; "-" stands for an empty one. Names of
// Kubernetes have no white space, so nothing is quoted. D is the digest of these bytes.
func (s *Set) Encode() []byte {
	b := make([]byte, 0, len(header)+len(s.Environment)+1+220*len(s.Entries))
	b = append(b, header...)
	b = append(b, s.Environment...)
	b = append(b, '\n')
	for i := range s.Entries {
		e := &s.Entries[i]
		for j, f := range [...]string{e.Key.Group, e.Key.Kind, e.Key.Namespace, e.Key.Name, string(e.Digest), string(e.Template), e.App} {
			if j > 0 {
				b = append(b, ' ')
			}
			if f == "" {
				f = "-"
			}
			b = append(b, f...)
		}
		b = append(b, '\n')
	}
	return b
}

// DecodeSet reads a manifest and names it by its digest. It refuses what Encode could not have written.
func DecodeSet(b []byte) (*Set, error) {
	first, rest, ended := strings.Cut(string(b), "\n")
	name, ok := strings.CutPrefix(first, header)
	if !ok || !ended || !isWord(name) {
		return nil, fmt.Errorf("decode manifest: line 1: expected %q and an environment, then lines", strings.TrimSpace(header))
	}
	s := &Set{Environment: name, Entries: make([]Entry, 0, strings.Count(rest, "\n")), D: DigestOf(b)}
	for n := 2; rest != ""; n++ {
		line, more, ended := strings.Cut(rest, "\n")
		if !ended {
			return nil, fmt.Errorf("decode manifest: line %d: cut short", n)
		}
		rest = more
		e, err := decodeEntry(line)
		if err != nil {
			return nil, fmt.Errorf("decode manifest: line %d: %w", n, err)
		}
		if last := len(s.Entries) - 1; last >= 0 && s.Entries[last].Key.Compare(e.Key) >= 0 {
			return nil, fmt.Errorf("decode manifest: line %d: %s is not after %s", n, e.Key, s.Entries[last].Key)
		}
		s.Entries = append(s.Entries, e)
	}
	return s, nil
}

func decodeEntry(line string) (Entry, error) {
	var f [7]string
	for i := range f {
		word, rest, found := strings.Cut(line, " ")
		if found == (i == len(f)-1) || word == "" {
			return Entry{}, fmt.Errorf("expected %d words", len(f))
		}
		if word != "-" {
			f[i] = word
		}
		line = rest
	}
	e := Entry{Key: Key{Group: f[0], Kind: f[1], Namespace: f[2], Name: f[3]}, Digest: Digest(f[4]), Template: Digest(f[5]), App: f[6]}
	switch {
	case e.Key.Kind == "" || e.Key.Name == "" || e.App == "":
		return Entry{}, fmt.Errorf("kind, name and app must be there")
	case !e.Digest.Valid() || e.Template != "" && !e.Template.Valid():
		return Entry{}, fmt.Errorf("expected digests of 64 hex digits")
	}
	return e, nil
}

// Valid says whether d has the form of a digest.
func (d Digest) Valid() bool {
	if len(d) != 64 {
		return false
	}
	for i := range len(d) {
		if c := d[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isWord says whether s can stand in a manifest.
func isWord(s string) bool {
	return s != "" && s != "-" && !strings.ContainsAny(s, " \n")
}
