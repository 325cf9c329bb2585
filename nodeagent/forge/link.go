package forge

import (
	"errors"
	"strings"
)

// maxLink bounds a Link header in bytes.
const maxLink = 16 << 10

// hasNext says whether a Link header names a next page. Its address is not looked at: pages are asked for by number.
func hasNext(link string) (bool, error) {
	if len(link) > maxLink {
		return false, errors.New("Link header: expected at most 16 KiB")
	}
	for s := strings.TrimLeft(link, " \t,"); s != ""; s = strings.TrimLeft(s, " \t,") {
		end := strings.IndexByte(s, '>')
		if s[0] != '<' || end < 0 {
			return false, errors.New("Link header: expected <address>")
		}
		s = strings.TrimLeft(s[end+1:], " \t")
		for strings.HasPrefix(s, ";") {
			name, value, rest, err := linkParam(strings.TrimLeft(s[1:], " \t"))
			if err != nil {
				return false, err
			}
			if strings.EqualFold(name, "rel") {
				for rel := range strings.FieldsSeq(value) {
					if strings.EqualFold(rel, "next") {
						return true, nil
					}
				}
			}
			s = strings.TrimLeft(rest, " \t")
		}
		if s != "" && s[0] != ',' {
			return false, errors.New("Link header: expected ; or , after an address")
		}
	}
	return false, nil
}

// linkParam reads one name=value or name="value" and what follows it.
func linkParam(s string) (name, value, rest string, err error) {
	end := strings.IndexAny(s, "=;,")
	if end < 0 {
		return strings.TrimSpace(s), "", "", nil
	}
	name = strings.TrimSpace(s[:end])
	if s[end] != '=' {
		return name, "", s[end:], nil
	}
	s = strings.TrimLeft(s[end+1:], " \t")
	if quoted, ok := strings.CutPrefix(s, `"`); ok {
		value, rest, ok = strings.Cut(quoted, `"`)
		if !ok {
			return "", "", "", errors.New(`Link header: expected a closing "`)
		}
		return name, value, rest, nil
	}
	if end = strings.IndexAny(s, ";,"); end < 0 {
		return name, strings.TrimSpace(s), "", nil
	}
	return name, strings.TrimSpace(s[:end]), s[end:], nil
}
