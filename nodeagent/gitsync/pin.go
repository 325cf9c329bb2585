package gitsync

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// pinRefs holds refs/shoal/pins/<environment>/<commit>.
const pinRefs = hiddenRefs + "pins/"

// MaxPins bounds the pins of one environment; at the bound Pin is an error, since the caller forgot to Unpin.
const MaxPins = 1000

// Pin keeps a commit and its tree in the mirror, whatever is pushed by force or collected upstream, until Unpin.
// It is safe on disk when Pin returns. Pinning twice changes nothing.
func (m *Mirror) Pin(ctx context.Context, environment string, commit source.ID) error {
	h, err := toHash(commit)
	if err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	m.incoming.RLock()
	defer m.incoming.RUnlock()
	if _, err := m.repo.ReadKind(h, bare.Commit); err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	name, err := pinName(environment, commit)
	if err != nil {
		return err
	}
	if len(m.Pins(environment)) >= MaxPins {
		return fmt.Errorf("pin: environment %s has %d pinned commits already", environment, MaxPins)
	}
	return m.repo.UpdateRefs([]bare.Move{{Name: name, New: h, Force: true}})
}

// Unpin lets a commit go. One that is not pinned is let be.
func (m *Mirror) Unpin(ctx context.Context, environment string, commit source.ID) error {
	name, err := pinName(environment, commit)
	if err != nil {
		return err
	}
	return m.repo.UpdateRefs([]bare.Move{{Name: name, Force: true}})
}

// Pins lists the commits an environment has pinned, by id.
func (m *Mirror) Pins(environment string) []source.ID {
	var list []source.ID
	refs := m.repo.Refs()
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		if id, ok := strings.CutPrefix(name, pinRefs+environment+"/"); ok && !strings.Contains(id, "/") {
			list = append(list, source.ID(id))
		}
	}
	return list
}

// AllPins lists what is pinned, by environment.
func (m *Mirror) AllPins() map[string][]source.ID {
	all := map[string][]source.ID{}
	refs := m.repo.Refs()
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		rest, ok := strings.CutPrefix(name, pinRefs)
		if environment, id, two := strings.Cut(rest, "/"); ok && two {
			all[environment] = append(all[environment], source.ID(id))
		}
	}
	return all
}

func pinName(environment string, commit source.ID) (string, error) {
	name := pinRefs + environment + "/" + string(commit)
	if strings.Contains(environment, "/") {
		return "", fmt.Errorf("pin: environment %q holds a slash", environment)
	}
	if err := source.CheckRefName(name); err != nil {
		return "", fmt.Errorf("pin: %w", err)
	}
	return name, nil
}
