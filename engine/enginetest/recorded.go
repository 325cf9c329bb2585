package enginetest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
)

// Recording is a log with its objects, and the hash that its entries replay to.
type Recording struct {
	Engine  int    `json:"engine"`
	About   string `json:"about"`
	Entries int    `json:"entries"`
	Hash    string `json:"hash"` // of the State after the last entry

	Log     []cluster.Entry `json:"-"`
	Content Store           `json:"-"`
}

// maxLine bounds one line of a recording, bytes.
const maxLine = 16 << 20

// Record makes a Recording of a log.
func Record(about string, s *cluster.State, log []cluster.Entry, content Store) Recording {
	return Recording{
		Engine: cluster.EngineVersion, About: about, Entries: len(log), Hash: fmt.Sprintf("%x", s.Hash()), Log: log, Content: content,
	}
}

// Write writes a recording as gzipped lines of JSON, the same bytes for the same log: the head, the entries, then
// the objects sorted by digest.
func (r Recording) Write(w io.Writer) error {
	z := gzip.NewWriter(w)
	lines := json.NewEncoder(z)
	lines.SetEscapeHTML(false)
	if err := lines.Encode(r); err != nil {
		return err
	}
	for i := range r.Log {
		if err := lines.Encode(&r.Log[i]); err != nil {
			return err
		}
	}
	for _, d := range r.Content.digests() {
		if err := lines.Encode(string(r.Content[d])); err != nil {
			return err
		}
	}
	return z.Close()
}

// ReadRecording reads what Write wrote.
func ReadRecording(b []byte) (Recording, error) {
	var r Recording
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return r, fmt.Errorf("read recording: %w", err)
	}
	in := bufio.NewScanner(z)
	in.Buffer(nil, maxLine)
	next := func(v any) error {
		if !in.Scan() {
			if in.Err() != nil {
				return in.Err()
			}
			return io.EOF
		}
		return json.Unmarshal(in.Bytes(), v)
	}
	if err := next(&r); err != nil {
		return r, fmt.Errorf("read recording: head: %w", err)
	}
	for range r.Entries {
		var e cluster.Entry
		if err := next(&e); err != nil {
			return r, fmt.Errorf("read recording: entry %d: %w", len(r.Log)+1, err)
		}
		r.Log = append(r.Log, e)
	}
	r.Content = Store{}
	for {
		var object string
		switch err := next(&object); {
		case errors.Is(err, io.EOF):
			return r, nil
		case err != nil:
			return r, fmt.Errorf("read recording: object: %w", err)
		}
		r.Content.Put([]byte(object))
	}
}

// Verify replays a recording and tells whether it gives the recorded hash.
func (r Recording) Verify() error {
	s := cluster.NewState()
	for _, e := range r.Log {
		if out := cluster.Step(s, e, r.Content); out.Stalled != "" {
			return fmt.Errorf("entry %d stalled: %s", e.Index, out.Stalled)
		}
	}
	if got := fmt.Sprintf("%x", s.Hash()); got != r.Hash {
		return fmt.Errorf("%d entries replay to %s, recorded is %s", len(r.Log), got, r.Hash)
	}
	return nil
}

// Used is the content that a log refers to, and what those objects refer to: a recording needs no more.
func Used(log []cluster.Entry, content Store) Store {
	used := Store{}
	for _, e := range log {
		if e.Input.Activate == nil {
			continue
		}
		manifest, ok := content[e.Input.Activate.D]
		if !ok {
			continue
		}
		used.Put(manifest)
		set, err := desired.DecodeSet(manifest)
		if err != nil {
			continue
		}
		for _, entry := range set.Entries {
			used.Put(content[entry.Digest])
		}
	}
	return used
}
