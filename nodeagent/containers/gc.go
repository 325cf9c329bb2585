package containers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// CollectGarbage removes images that keep does not want and no container here was made from, and then what
// containerd holds for them. keep is asked with a digest ("sha256:...") or with a name; an image stays if either of
// its own is wanted. Names below shoal.local are the registry's, and stay unless keep says otherwise.
func (r *Runtime) CollectGarbage(ctx context.Context, keep func(refOrDigest string) bool) error {
	used, err := r.usedImages()
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	recs, err := r.client.ImageService().List(ctx)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	wanted := map[digest.Digest]bool{}
	for _, rec := range recs {
		d := rec.Target.Digest
		if used[d.String()] || keep(d.String()) || keep(rec.Name) {
			wanted[d] = true
		}
	}
	var errs []error
	for _, rec := range recs {
		if wanted[rec.Target.Digest] {
			continue
		}
		if err := r.client.ImageService().Delete(ctx, rec.Name); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, r.dropViews(ctx, func(d digest.Digest) bool {
		return wanted[d] || used[d.String()] || keep(d.String())
	}))
	if err := errors.Join(append(errs, r.sweep(ctx))...); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

// dropViews removes the views of images that are not kept, and what is remembered of them.
func (r *Runtime) dropViews(ctx context.Context, kept func(digest.Digest) bool) error {
	sn := r.client.SnapshotService(snapshotter)
	var drop []string
	err := sn.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if d, ok := strings.CutPrefix(info.Name, viewPrefix); ok && !kept(digest.Digest(d)) {
			drop = append(drop, info.Name)
		}
		return nil
	})
	errs := []error{err}
	for _, name := range drop {
		r.store.mu.Lock()
		delete(r.store.images, digest.Digest(strings.TrimPrefix(name, viewPrefix)))
		r.store.mu.Unlock()
		if err := sn.Remove(ctx, name); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// usedImages are the digests that containers here were made from.
func (r *Runtime) usedImages() (map[string]bool, error) {
	used := map[string]bool{}
	ids, err := r.podIDs()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		for _, in := range r.pod(id).instances() {
			used[in.meta.Image] = true
		}
	}
	return used, nil
}

// IsLocal tells whether an image is of the node's own store.
func IsLocal(ref string) bool {
	named, err := normal(ref)
	return err == nil && reference.Domain(named) == LocalHost
}
