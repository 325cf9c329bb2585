package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
)

const (
	collectEvery = 10 * time.Minute
	// collectAge is how old an object must be that nothing refers to: a commit under way, and the older of two
	// snapshots, may still need it.
	collectAge = 24 * time.Hour
)

// collect gives back what nothing refers to any more: images that no container was made from and no object asks for, and
// objects that no state refers to.
func (m *machine) collect(ctx context.Context) error {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if err := m.collectNow(ctx); err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "garbage not collected", "err", err)
		}
	}
}

// collectNow does it at once, also when the disk is short.
func (m *machine) collectNow(ctx context.Context) error {
	m.collecting.Lock()
	defer m.collecting.Unlock()
	var s *cluster.State
	m.ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	images, err := wantedImages(s, m.content)
	if err == nil { // what cannot be read may want any image
		err = m.containers.CollectGarbage(ctx, func(name string) bool { return images[name] || isLocal(name) })
	}
	if err != nil {
		err = fmt.Errorf("images: %w", err)
	}
	kept := map[desired.Digest]bool{}
	for d := range s.Blobs() {
		kept[d] = true
	}
	swept, sweepErr := m.content.Sweep(func(d desired.Digest) bool { return kept[d] }, collectAge)
	if sweepErr != nil {
		sweepErr = fmt.Errorf("objects: %w", sweepErr)
	} else if swept.Removed > 0 {
		m.log.InfoContext(ctx, "objects removed that nothing refers to", "objects", swept.Removed, "bytes", swept.RemovedBytes)
	}
	return errors.Join(err, sweepErr)
}

// wantedImages are the names and digests of the images that objects of the ring ask for, also of those that run at other
// times: what a CronJob needs at night stays over the day, whatever its registry does.
func wantedImages(s *cluster.State, content desired.Content) (map[string]bool, error) {
	wanted := map[string]bool{}
	for e := range s.Environments().Values() {
		for ref, digest := range e.Images {
			wanted[ref], wanted[digest] = true, true
		}
		for _, digest := range goBackTo(s, e.Name) {
			wanted[digest] = true
		}
	}
	for o := range s.Objects().Values() {
		if o.Template == "" {
			continue // it makes no pods
		}
		if err := wantImagesOf(s, o.Key, o.Digest, content, wanted); err != nil {
			return nil, err
		}
	}
	for rs := range s.ReplicaSets().Values() {
		if d, ok := s.Deployments().Get(rs.Owner.Key); ok && rs.Revision >= d.Revision-undoImages {
			if err := wantImagesOf(s, rs.Key, rs.Object, content, wanted); err != nil {
				return nil, err
			}
			for _, digest := range rs.Images {
				wanted[digest] = true
			}
		}
	}
	return wanted, nil
}

// wantImagesOf adds the images of an object's pods.
func wantImagesOf(s *cluster.State, key desired.Key, object desired.Digest, content desired.Content, wanted map[string]bool) error {
	t, err := s.TemplateOf(object, content)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	for _, c := range slices.Concat(t.Spec.InitContainers, t.Spec.Containers) {
		named, err := reference.ParseDockerRef(c.Image)
		if err != nil {
			continue // it can be pulled by nobody
		}
		wanted[named.String()] = true
		if d, ok := named.(reference.Digested); ok {
			wanted[d.Digest().String()] = true
		}
	}
	return nil
}

// undoImages is of how many versions before the one that runs the images stay on the nodes: a rollback waits for no registry.
const undoImages = 2

// goBackTo are the digests of the images of what an environment ran last, before what it runs now.
func goBackTo(s *cluster.State, environment string) (digests []string) {
	runs := slices.Collect(s.History(environment))
	slices.Reverse(runs)
	renders := map[desired.Digest]bool{}
	for _, r := range runs {
		if renders[r.Render] = true; len(renders) > undoImages+1 {
			break
		}
		for _, digest := range r.Images {
			digests = append(digests, digest)
		}
	}
	return digests
}

// isLocal tells whether an image is of the ring's own store: it was pushed by people, and stays.
func isLocal(name string) bool { return strings.HasPrefix(name, localImages) }

const localImages = "shoal.local/"
