package render

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
)

// encoder writes concrete values as canonical JSON: sorted keys, no white space, within the limits of an object.
// A value that refers to itself many times over is stopped while it is written, not after.
type encoder struct {
	buf bytes.Buffer
	max int
}

// tooBig is the error of a value past a limit.
type tooBig struct{ text string }

func (e tooBig) Error() string { return e.text }

func (e *encoder) value(v cue.Value, depth int) error {
	if depth > MaxDepth {
		return tooBig{fmt.Sprintf("is nested deeper than %d levels", MaxDepth)}
	}
	if e.buf.Len() > e.max {
		return tooBig{fmt.Sprintf("has more than %d bytes of JSON", e.max)}
	}
	if d, ok := v.Default(); ok {
		v = d
	}
	switch v.Kind() {
	case cue.StructKind:
		return e.object(v, depth)
	case cue.ListKind:
		it, err := v.List()
		if err != nil {
			return err
		}
		e.buf.WriteByte('[')
		for i := 0; it.Next(); i++ {
			if i > 0 {
				e.buf.WriteByte(',')
			}
			if err := e.value(it.Value(), depth+1); err != nil {
				return err
			}
		}
		e.buf.WriteByte(']')
		return nil
	case cue.StringKind:
		s, err := v.String()
		if err != nil {
			return err
		}
		return e.text(s)
	case cue.BytesKind:
		b, err := v.Bytes()
		if err != nil {
			return err
		}
		return e.text(base64.StdEncoding.EncodeToString(b))
	case cue.NullKind:
		e.buf.WriteString("null")
		return nil
	case cue.BoolKind:
		b, err := v.Bool()
		e.buf.WriteString(strconv.FormatBool(b))
		return err
	case cue.IntKind, cue.FloatKind, cue.NumberKind:
		b, err := v.MarshalJSON()
		if err != nil {
			return err
		}
		return e.number(string(b))
	default: // not concrete
	}
	if err := v.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%s: is not set; expected %v", v.Path(), v.IncompleteKind())
}

func (e *encoder) object(v cue.Value, depth int) error {
	it, err := v.Fields()
	if err != nil {
		return err
	}
	type field struct {
		name  string
		value cue.Value
	}
	var fields []field
	for it.Next() {
		fields = append(fields, field{it.Selector().Unquoted(), it.Value()})
	}
	sort.Slice(fields, func(i, j int) bool { return fields[i].name < fields[j].name })
	e.buf.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			e.buf.WriteByte(',')
		}
		if err := e.text(f.name); err != nil {
			return err
		}
		e.buf.WriteByte(':')
		if err := e.value(f.value, depth+1); err != nil {
			return err
		}
	}
	e.buf.WriteByte('}')
	return nil
}

func (e *encoder) text(s string) error {
	if e.buf.Len()+len(s) > e.max {
		return tooBig{fmt.Sprintf("has more than %d bytes of JSON", e.max)}
	}
	writeString(&e.buf, s)
	return nil
}

// number writes integers in plain digits: 1.0, 1e3 and 1000.0 are the integers they are, and other numbers as
// the shortest decimal.
func (e *encoder) number(s string) error {
	out, err := canonicalNumber(s)
	if err != nil {
		return err
	}
	e.buf.WriteString(out)
	return nil
}

func canonicalNumber(s string) (string, error) {
	if len(s) > 64 {
		return "", tooBig{"is a number of more than 64 digits"}
	}
	if !strings.ContainsAny(s, ".eE") {
		return s, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return "", tooBig{"is a number out of range: " + s}
	}
	if i := int64(f); float64(i) == f && i > -1<<53 && i < 1<<53 {
		return strconv.FormatInt(i, 10), nil
	}
	return strconv.FormatFloat(f, 'g', -1, 64), nil
}

// writeString writes s as a JSON string, escaping no more than JSON asks for.
func writeString(buf *bytes.Buffer, s string) {
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string cannot fail
	buf.Truncate(buf.Len() - 1)
}
