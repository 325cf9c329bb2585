package containers

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bringLocal finds an image of the ring's own store: here, or on the first other node that has it whole.
func (r *Runtime) bringLocal(ctx context.Context, named reference.Named, d digest.Digest, progress func(done, total int64)) (ocispec.Descriptor, error) {
	target, err := describe(ctx, r.client.ContentStore(), d)
	if err == nil {
		if err = r.whole(ctx, target); err == nil {
			return target, nil
		}
	}
	if !errdefs.IsNotFound(err) {
		return target, err
	}
	errs := []error{errNotLocal(named.String())}
	for _, p := range r.o.Peers() {
		target, err := r.fetch(ctx, named, d, p.resolver(), progress)
		if err == nil {
			return target, nil
		}
		if ctx.Err() != nil {
			return target, err
		}
		if !errdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("node %s: %w", p.Name, err))
		}
	}
	return ocispec.Descriptor{}, errors.Join(errs...)
}

// whole tells whether all that an image leads to is here; an error that is not found names what is not.
func (r *Runtime) whole(ctx context.Context, target ocispec.Descriptor) error {
	store := r.client.ContentStore()
	return images.Walk(ctx, images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if _, err := store.Info(ctx, desc.Digest); err != nil {
			return nil, err
		}
		if images.IsLayerType(desc.MediaType) {
			return nil, nil
		}
		return images.FilterPlatforms(images.ChildrenHandler(store), platforms.Default())(ctx, desc)
	}), target)
}

// resolver speaks with another node's store.
func (p Peer) resolver() remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: func(string) ([]docker.RegistryHost, error) {
			return []docker.RegistryHost{{
				Client: p.Client, Host: p.Name, Scheme: "https", Path: "/v2", Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
			}}, nil
		},
	})
}

// Adopt makes an image of the ring's own store ready on this node, and has its tag lead to it here too. Other tags of
// the name stay as they are.
func (r *Runtime) Adopt(ctx context.Context, ref, dgst string) error {
	named, err := normal(ref)
	if err != nil {
		return err
	}
	if !isLocal(named) {
		return fmt.Errorf("adopt image %s: expected a name below %s", ref, LocalHost)
	}
	if _, err := r.Pull(ctx, ref, dgst, nil, nil); err != nil {
		return err
	}
	target, err := describe(ctx, r.client.ContentStore(), digest.Digest(dgst))
	if err != nil {
		return fmt.Errorf("adopt image %s: %w", ref, err)
	}
	return r.putImage(ctx, images.Image{Name: named.String(), Target: target})
}
