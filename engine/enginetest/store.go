// Package enginetest is a ring in memory for tests: a content store, a node that starts and stops pods, faults
// by seed, and the invariants that hold whatever happens.
package enginetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/desired"
)

// Store is a content store in memory.
type Store map[desired.Digest][]byte

// Get returns the bytes of d; an absent digest gives an error that is fs.ErrNotExist.
func (s Store) Get(d desired.Digest) ([]byte, error) {
	b, ok := s[d]
	if !ok {
		return nil, fmt.Errorf("digest %s: %w", d, fs.ErrNotExist)
	}
	return b, nil
}

// Put stores b under its digest.
func (s Store) Put(b []byte) desired.Digest {
	d := desired.DigestOf(b)
	s[d] = b
	return d
}

// Manifest stores the objects of a YAML text (documents parted by "---") and their manifest, and returns its
// digest. Objects without a namespace get the one given; kinds are not defaulted.
func (s Store) Manifest(namespace, text string) desired.Digest {
	var entries []desired.Entry
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var o map[string]any
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			panic(fmt.Errorf("%w in:\n%s", err, doc))
		}
		entries = append(entries, s.entry(namespace, o))
	}
	slices.SortFunc(entries, func(a, b desired.Entry) int { return a.Key.Compare(b.Key) })
	return s.Entries(entries)
}

// Entries stores a manifest of sorted entries.
func (s Store) Entries(entries []desired.Entry) desired.Digest { return s.Put(canonical(entries)) }

func (s Store) entry(namespace string, o map[string]any) desired.Entry {
	meta := o["metadata"].(map[string]any)
	if _, ok := meta["namespace"]; !ok {
		meta["namespace"] = namespace
	}
	group, _, found := strings.Cut(o["apiVersion"].(string), "/")
	if !found {
		group = ""
	}
	e := desired.Entry{App: meta["name"].(string), Key: desired.Key{
		Group: group, Kind: o["kind"].(string), Namespace: meta["namespace"].(string), Name: meta["name"].(string),
	}}
	if spec, ok := o["spec"].(map[string]any); ok {
		if job, ok := spec["jobTemplate"].(map[string]any); ok {
			spec = job["spec"].(map[string]any)
		}
		if template, ok := spec["template"]; ok {
			e.Template = desired.DigestOf(canonical(template))
		}
	}
	e.Digest = s.Put(canonical(o))
	return e
}

// canonical is JSON with sorted keys, without white space.
func canonical(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}
