package promote

import (
	"fmt"
	"path"
	"strings"
)

// fields is one entry of same.except: objects, and which of their fields may differ.
//
//	Deployment/*:spec.replicas          spec.replicas of every Deployment, and all below it
//	*/web:metadata.annotations[a.b/c]   one key that holds dots, in brackets
//	Deployment/web:spec.template.spec.containers[*].image
//	CronJob/backup                      the whole object: it may be there on one side only
//
// "*" stands for any part of a kind or name, or for one whole step of a path. Elements of lists are named by their name if
// each has one of its own, else by their number.
type fields struct {
	text       string
	kind, name string   // patterns
	steps      []string // "*": any; none: the object
}

// parseFields reads same.except. Problems are at "except[0]" and so on.
func parseFields(except []string) (out []fields, problems Problems) {
	for i, text := range except {
		f, err := parseField(text)
		if err != nil {
			problems.add(fmt.Sprintf("except[%d]", i), "%q: %v; expected KIND/NAME:PATH like Deployment/*:spec.replicas", clip(text, 100), err)
			continue
		}
		out = append(out, f)
	}
	return out, problems
}

func parseField(text string) (fields, error) {
	f := fields{text: text}
	if !isLine(text, 500) {
		return f, fmt.Errorf("not one line of at most 500 bytes")
	}
	object, at, more := strings.Cut(text, ":")
	kind, name, ok := strings.Cut(object, "/")
	f.kind, f.name = kind, name
	plain := func(s string) bool { return s != "" && !strings.ContainsAny(s, `[]?\/ `) }
	if !ok || !plain(kind) || !plain(name) {
		return f, fmt.Errorf("no kind and name")
	}
	if !more {
		return f, nil
	}
	var err error
	f.steps, err = parseSteps(at)
	return f, err
}

// parseSteps reads "spec.containers[web].image" as its four steps.
func parseSteps(s string) (steps []string, err error) {
	for first := true; s != "" || first; first = false {
		if s != "" && s[0] == '[' && !first {
			end := strings.IndexByte(s, ']')
			if end < 2 {
				return nil, fmt.Errorf("a bracket without a key")
			}
			steps, s = append(steps, s[1:end]), s[end+1:]
		} else {
			if !first {
				if s[0] != '.' {
					return nil, fmt.Errorf("a key behind a bracket without a dot")
				}
				s = s[1:]
			}
			end := strings.IndexAny(s, ".[")
			if end < 0 {
				end = len(s)
			}
			if end == 0 || strings.Contains(s[:end], "]") {
				return nil, fmt.Errorf("an empty step in its path")
			}
			steps, s = append(steps, s[:end]), s[end:]
		}
	}
	return steps, nil
}

// joinStep prints a path and one more step of it.
func joinStep(at, key string, element bool) string {
	switch {
	case element || strings.ContainsAny(key, ".[]"):
		return at + "[" + key + "]"
	case at == "":
		return key
	}
	return at + "." + key
}

// object says whether f is about an object of that kind and name.
func (f *fields) object(kind, name string) bool {
	k, _ := path.Match(f.kind, kind) // patterns hold nothing but stars, so there is no error
	n, _ := path.Match(f.name, name)
	return k && n
}

// allows says whether the field at steps, or one above it, may differ.
func (f *fields) allows(steps []string) bool {
	if len(f.steps) > len(steps) {
		return false
	}
	for i, s := range f.steps {
		if s != "*" && s != steps[i] {
			return false
		}
	}
	return true
}
