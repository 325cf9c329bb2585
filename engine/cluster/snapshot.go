package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// snapshotHead is the first line of a snapshot.
type snapshotHead struct {
	Format int    `json:"shoalState"`
	Index  uint64 `json:"index"`
	Time   int64  `json:"time"`
	Hash   string `json:"hash"`
}

// snapshotRow is each further line.
type snapshotRow struct {
	Table   string          `json:"t"`
	Version uint64          `json:"v"`
	Record  json.RawMessage `json:"r"`
}

const (
	snapshotFormat = 1
	maxRecord      = 16 << 20 // bytes of one line
)

// Encode writes the State as lines of JSON, the same bytes for equal States: a head, then every record by table
// and key.
func (s *State) Encode(w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	line := json.NewEncoder(out)
	line.SetEscapeHTML(false)
	if err := line.Encode(snapshotHead{snapshotFormat, s.index, s.time, fmt.Sprintf("%x", s.Hash())}); err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	for _, table := range s.tables() {
		name := table.name()
		err := table.encode(func(version uint64, record []byte) error {
			return line.Encode(snapshotRow{name, version, record})
		})
		if err != nil {
			return fmt.Errorf("encode state: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return nil
}

// DecodeState reads the State that Encode wrote.
func DecodeState(r io.Reader) (*State, error) {
	s := NewState()
	if err := s.Decode(r); err != nil {
		return nil, err
	}
	return s, nil
}

// Decode replaces s by the State that Encode wrote. It is an error, and s stays as it is, if the bytes are not
// those of a whole snapshot with its hash.
func (s *State) Decode(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxRecord)
	next := func(v any) error {
		if !in.Scan() {
			if in.Err() != nil {
				return in.Err()
			}
			return io.EOF
		}
		return json.Unmarshal(in.Bytes(), v)
	}
	var head snapshotHead
	if err := next(&head); err != nil {
		return fmt.Errorf("decode state: head: %w", err)
	}
	if head.Format != snapshotFormat {
		return fmt.Errorf("decode state: format %d, this binary reads %d", head.Format, snapshotFormat)
	}
	now := NewState()
	now.index, now.time, now.objectCache = head.Index, head.Time, s.objectCache
	tables := map[string]anyTable{}
	for _, table := range now.tables() {
		tables[table.name()] = table
	}
	var wrong error // the first row that is: of a newer version's State, that version is said before what of it is not known here
	for {
		var row snapshotRow
		err := next(&row)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("decode state: %w", err)
		}
		if err := newerState(row); err != nil {
			return err
		}
		if wrong != nil {
			continue
		}
		if table, ok := tables[row.Table]; !ok {
			wrong = fmt.Errorf("there is no table %q", clip(row.Table, 64))
		} else {
			wrong = table.decode(now, row.Version, row.Record)
		}
	}
	if wrong != nil {
		return fmt.Errorf("decode state: %w", wrong)
	}
	if got := fmt.Sprintf("%x", now.Hash()); got != head.Hash {
		return fmt.Errorf("decode state: the records have hash %s, the head says %s", got, head.Hash)
	}
	*s = *now
	return nil
}

// newerState refuses a ring that is to be stepped by rules that this binary does not have.
func newerState(row snapshotRow) error {
	var ring struct {
		Engine int `json:"engineNow"`
	}
	if row.Table != "ring" || json.Unmarshal(row.Record, &ring) != nil || ring.Engine <= EngineVersion {
		return nil
	}
	return fmt.Errorf("decode state: the ring runs engine version %d, this binary knows %d", ring.Engine, EngineVersion)
}
