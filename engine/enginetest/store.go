package enginetest

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
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

// Manifest stores the objects of a YAML text (documents parted by "---"), each an app of its own, and their
// manifest, and returns its digest. They are defaulted and checked as an environment's objects are; every
// environment may have objects in the namespace "shared", too.
func (s Store) Manifest(environment, text string) (desired.Digest, error) {
	env := render.Environment{Name: environment, Namespace: environment, Namespaces: map[string]string{"shared": "shared"}}
	var apps []desired.App
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		b, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			return "", fmt.Errorf("%w in:\n%s", err, doc)
		}
		name := fmt.Sprintf("app%d", len(apps))
		app, blobs := desired.Compile(env, render.App{Name: name, Objects: []render.Object{{JSON: b, File: name}}})
		for _, b := range blobs {
			s[b.Digest] = b.Bytes
		}
		apps = append(apps, app)
	}
	built, err := desired.Build(env, apps, nil, s)
	if err != nil {
		return "", err
	}
	if len(built.Problems) > 0 {
		return "", built.Problems
	}
	return s.Put(built.Manifest), nil
}

// digests are all there are, sorted.
func (s Store) digests() []desired.Digest { return slices.Sorted(maps.Keys(s)) }
