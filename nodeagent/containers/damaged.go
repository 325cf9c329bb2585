package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// readIntact reads a small blob and sees that it is what its digest says. One that is not counts as absent: then it is
// pulled again.
func readIntact(ctx context.Context, store content.Provider, desc ocispec.Descriptor) ([]byte, error) {
	b, err := content.ReadBlob(ctx, store, desc)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("blob %s is damaged: %w", desc.Digest, errdefs.ErrNotFound)
		}
		return nil, err
	}
	if is := desc.Digest.Algorithm().FromBytes(b); is != desc.Digest {
		return nil, fmt.Errorf("blob %s is damaged, it has digest %s: %w", desc.Digest, is, errdefs.ErrNotFound)
	}
	return b, nil
}

// dropDamaged takes those blobs of an image out of the store that are not what their digests say, or whose files are
// gone, and returns their digests. All that the image leads to is read: it is called when the image is of no use as
// it is.
func (r *Runtime) dropDamaged(ctx context.Context, d digest.Digest) (damaged []digest.Digest, err error) {
	store := r.client.ContentStore()
	look := func(desc ocispec.Descriptor) (known, intact bool, err error) {
		info, err := store.Info(ctx, desc.Digest)
		if errdefs.IsNotFound(err) {
			return false, false, nil
		}
		if err != nil {
			return false, false, err
		}
		desc.Size = info.Size
		intact, err = isIntact(ctx, store, desc)
		return true, intact, err
	}
	walk := images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		known, intact, err := look(desc)
		switch {
		case err != nil:
			return nil, err
		case known && !intact:
			damaged = append(damaged, desc.Digest)
			return nil, nil
		case !known, images.IsLayerType(desc.MediaType), images.IsConfigType(desc.MediaType):
			return nil, nil
		}
		return images.FilterPlatforms(images.ChildrenHandler(store), platforms.Default())(ctx, desc)
	})
	root := ocispec.Descriptor{Digest: d, MediaType: ocispec.MediaTypeImageManifest}
	known, intact, err := look(root)
	switch {
	case err != nil || !known:
		return nil, err
	case !intact:
		damaged = append(damaged, d)
	default:
		if root, err = describe(ctx, store, d); err != nil {
			return nil, err
		}
		if err := images.Walk(ctx, walk, root); err != nil {
			return nil, fmt.Errorf("look for damaged blobs of %s: %w", d, err)
		}
	}
	slices.Sort(damaged)
	damaged = slices.Compact(damaged)
	for _, d := range damaged {
		if err := store.Delete(ctx, d); err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("remove damaged blob %s: %w", d, err)
		}
	}
	if len(damaged) == 0 {
		return nil, nil
	}
	// Their files go with the sweep only, and until then would be taken for what is to be fetched.
	return damaged, r.sweep(ctx)
}

// isIntact reads a blob to its end.
func isIntact(ctx context.Context, store content.Provider, desc ocispec.Descriptor) (bool, error) {
	ra, err := store.ReaderAt(ctx, desc)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer ra.Close()
	if ra.Size() != desc.Size {
		return false, nil
	}
	v := desc.Digest.Verifier()
	if _, err := io.Copy(v, content.NewReader(ra)); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errdefs.IsNotFound(err) {
			return false, nil // shorter than it was, or its file is gone
		}
		return false, err
	}
	return v.Verified(), nil
}

// sweep has containerd collect its garbage now, not at its next turn: the end of a lease can be made to wait for it.
func (r *Runtime) sweep(ctx context.Context) error {
	l, err := r.client.LeasesService().Create(ctx, leases.WithRandomID())
	if err != nil {
		return err
	}
	return r.client.LeasesService().Delete(ctx, l, leases.SynchronousDelete)
}
