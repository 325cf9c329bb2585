package enginetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// Fields are the fields of inputs ("input.clock.ahead") and records ("nodes.tunnel.key") with the engine version that brought
// each; "[]" is an element of a list or map.
type Fields map[string]Field

// Field is what is known of one.
type Field struct {
	Type  string
	Since int
}

// ReadFields reads testdata/ledger/fields.txt.
func ReadFields(b []byte) (Fields, error) {
	all := Fields{}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if len(words) != 3 {
			return nil, fmt.Errorf("%q: expected a path, a type, a version", line)
		}
		since, err := strconv.Atoi(words[2])
		if err != nil {
			return nil, fmt.Errorf("%q: version: %w", line, err)
		}
		all[words[0]] = Field{words[1], since}
	}
	return all, nil
}

// Older is an entry as a binary decodes it that knows nothing of what came after an engine version.
func (f Fields) Older(e cluster.Entry, version int) (cluster.Entry, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return e, err
	}
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return e, err
	}
	f.drop(v, "", version)
	if b, err = json.Marshal(v); err != nil {
		return e, err
	}
	var out cluster.Entry
	err = json.Unmarshal(b, &out)
	return out, err
}

// drop takes away what came after a version, and what is nothing but that.
func (f Fields) drop(v any, path string, version int) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			at := name
			if path != "" {
				at = path + "." + name
			}
			if f.later(at, version) {
				delete(v, name)
				continue
			}
			f.drop(inner, at, version)
		}
	case []any:
		for _, inner := range v {
			f.drop(inner, path+"[]", version)
		}
	}
}

// later tells whether all there is at a path came after a version. What is not listed, as keys of a map, is as old as can be.
func (f Fields) later(path string, version int) bool {
	some := false
	for at, field := range f {
		if at == path || strings.HasPrefix(at, path+".") || strings.HasPrefix(at, path+"[]") {
			if field.Since <= version {
				return false
			}
			some = true
		}
	}
	return some
}

// CheckRecords tells whether a State of a ring that runs an engine version has a field in it that came later: a binary that does
// not know it would drop it, and could not read a snapshot that has it.
func (f Fields) CheckRecords(s *cluster.State) error {
	ring, ok := s.Ring()
	if !ok {
		return nil
	}
	var b bytes.Buffer
	if err := s.Encode(&b); err != nil {
		return err
	}
	lines := bufio.NewScanner(&b)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var row struct {
			Table  string `json:"t"`
			Record any    `json:"r"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return err
		}
		if path := f.newer(row.Record, row.Table, ring.Engine); path != "" {
			return fmt.Errorf("a ring of engine version %d has %s, which is of version %d: %s", ring.Engine, path, f[path].Since, lines.Bytes())
		}
	}
	return lines.Err()
}

func (f Fields) newer(v any, path string, version int) string {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if found := f.newer(inner, path+"."+name, version); found != "" {
				return found
			}
		}
	case []any:
		for _, inner := range v {
			if found := f.newer(inner, path+"[]", version); found != "" {
				return found
			}
		}
	default:
		if f[path].Since > version {
			return path
		}
	}
	return ""
}
