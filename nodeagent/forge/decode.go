package forge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxRef    = 4096 // bytes of a branch's name; forges allow 255, Git more
	maxLabels = 1000
	maxName   = 1024 // bytes of a label or a user's name
)

// object decodes a body that must be one JSON object.
func object[T any](body []byte) (T, error) {
	var v T
	if err := begins(body, '{', "an object"); err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, explain(err)
	}
	return v, nil
}

// objects decodes a body that must be a JSON list of objects.
func objects[T any](body []byte) ([]T, error) {
	if err := begins(body, '[', "a list"); err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, explain(err)
	}
	out := make([]T, 0, min(len(raw), 100))
	for i, r := range raw {
		v, err := object[T](r)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		out = append(out, v)
	}
	return out, nil
}

// openPulls reads a list of pull requests, all of which must be open.
func openPulls[T interface{ pull() (Pull, bool, error) }](body []byte) ([]Pull, error) {
	raw, err := objects[T](body)
	if err != nil {
		return nil, err
	}
	out := make([]Pull, 0, len(raw))
	for i, r := range raw {
		p, open, err := r.pull()
		if err == nil && !open {
			err = errors.New("state: expected open, got one that is not")
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// begins says what is wrong with a body that does not begin as JSON of the wanted shape does.
func begins(body []byte, with byte, what string) error {
	b := bytes.TrimSpace(body)
	switch {
	case len(b) == 0:
		return fmt.Errorf("expected %s as JSON, got nothing", what)
	case b[0] == with:
		return nil
	case b[0] == '<':
		return fmt.Errorf("expected %s as JSON, got HTML or XML", what)
	case b[0] == '{':
		return fmt.Errorf("expected %s, got an object", what)
	case b[0] == '[':
		return fmt.Errorf("expected %s, got a list", what)
	case string(b) == "null":
		return fmt.Errorf("expected %s, got null", what)
	}
	return fmt.Errorf("expected %s as JSON, got something that begins with %q", what, b[:min(len(b), 16)])
}

// explain names field and type as a person would.
func explain(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("expected JSON: %s after %d bytes", cut(syntax.Error(), maxSaid), syntax.Offset)
	}
	t, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok { // from stamp, which says what was expected
		return err
	}
	want := "an object"
	switch t.Type.Kind() {
	case reflect.String:
		want = "a string"
	case reflect.Bool:
		want = "true or false"
	case reflect.Int, reflect.Int64:
		want = "a whole number"
	case reflect.Slice:
		want = "a list"
	}
	return fmt.Errorf("%s: expected %s, got %s", first(t.Field, "value"), want, cut(t.Value, 40))
}

// stamp is a time as forges write it; one that is absent or null stays zero.
type stamp struct{ time.Time }

func (s *stamp) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return errors.New("expected a time as RFC 3339 has it, got no string")
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("expected a time as RFC 3339 has it, got %q", cut(text, 40))
	}
	s.Time = t.UTC()
	return nil
}

// need checks fields one after the other and keeps the first fault.
type need struct{ err error }

func (n *need) fail(field, format string, args ...any) {
	if n.err == nil {
		n.err = fmt.Errorf("%s: expected %s", field, fmt.Sprintf(format, args...))
	}
}

// number checks the number of a pull request.
func (n *need) number(field string, v int) {
	if v < 1 || v > math.MaxInt32 {
		n.fail(field, "1 to %d, got %d", math.MaxInt32, v)
	}
}

func (n *need) id(field string, v int64) {
	if v < 1 {
		n.fail(field, "an id above 0, got %d", v)
	}
}

func (n *need) commit(field, v string) {
	if !isCommit(v) {
		n.fail(field, "a commit id of 40 or 64 lower case hex digits, got %q", cut(v, 80))
	}
}

// ref checks a branch's name. It is whatever Git allows and is never used as a path.
func (n *need) ref(field, v string) {
	if v == "" || len(v) > maxRef || !plain(v) {
		n.fail(field, "a branch's name of 1 to %d bytes without control characters", maxRef)
	}
}

func (n *need) name(field, v string) {
	if len(v) > maxName || !plain(v) {
		n.fail(field, "a name of at most %d bytes without control characters", maxName)
	}
}

func (n *need) time(field string, v stamp) {
	if v.IsZero() {
		n.fail(field, "a time, got none")
	}
}

// oneOf checks a word.
func (n *need) oneOf(field, v string, words ...string) {
	if !slices.Contains(words, v) {
		n.fail(field, "%s, got %q", strings.Join(words, " or "), cut(v, 40))
	}
}

func plain(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// isCommit says whether s is the id of a commit, of SHA-1 or SHA-256, in lower case.
func isCommit(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

// isLink says whether s is an address that a browser may be sent to.
func isLink(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && len(s) <= maxRef && plain(s)
}
