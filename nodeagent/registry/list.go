package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// named is one tag: repository, tag, manifest.
type named struct {
	repo, tag string
	target    ocispec.Descriptor
}

// tags are the registry's images, sorted by repository and tag.
func (s *Server) tags(ctx context.Context) ([]named, error) {
	all, err := s.opt.Images.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []named
	for _, img := range all {
		path, ok := strings.CutPrefix(img.Name, s.opt.Host+"/")
		if !ok || strings.Contains(path, "@") {
			continue
		}
		if repo, tag, ok := strings.Cut(path, ":"); ok {
			out = append(out, named{repo, tag, img.Target})
		}
	}
	slices.SortFunc(out, func(a, b named) int {
		if n := strings.Compare(a.repo, b.repo); n != 0 {
			return n
		}
		return strings.Compare(a.tag, b.tag)
	})
	return out, nil
}

func (b backend) Repositories(ctx context.Context, after string) iter.Seq2[string, error] {
	all, err := b.tags(ctx)
	var names []string
	for _, t := range all {
		if t.repo > after {
			names = append(names, t.repo)
		}
	}
	return sequence(slices.Compact(names), err)
}

func (b backend) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	all, err := b.tags(ctx)
	var names []string
	known := false
	for _, t := range all {
		if t.repo != repo {
			continue
		}
		known = true
		if t.tag > after {
			names = append(names, t.tag)
		}
	}
	if err == nil && !known {
		err = ociregistry.ErrNameUnknown
	}
	return sequence(names, err)
}

// Referrers finds the manifests whose subject is d.
func (b backend) Referrers(ctx context.Context, _ string, d ociregistry.Digest, artifactType string) iter.Seq2[ociregistry.Descriptor, error] {
	var found []ocispec.Descriptor
	err := b.opt.Content.Walk(ctx, func(info content.Info) error {
		if info.Size > b.opt.MaxManifest {
			return nil
		}
		data, err := content.ReadBlob(ctx, b.opt.Content, ocispec.Descriptor{Digest: info.Digest, Size: info.Size})
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		var m manifest
		if json.Unmarshal(data, &m) != nil {
			return nil
		}
		desc := ocispec.Descriptor{MediaType: typeOf(data), Digest: info.Digest, Size: info.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations}
		if desc.ArtifactType == "" && m.Config != nil {
			desc.ArtifactType = m.Config.MediaType
		}
		if artifactType == "" || artifactType == desc.ArtifactType {
			found = append(found, desc)
		}
		return nil
	}, fmt.Sprintf("labels.%q==%q", labelSubject, d.String()))
	slices.SortFunc(found, func(a, b ocispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return sequence(found, err)
}

// DeleteTag takes a name away; what nothing else refers to goes with containerd's next collection.
func (b backend) DeleteTag(ctx context.Context, repo, tag string) error {
	return unknown(b.opt.Images.Delete(ctx, b.image(repo, tag)), ociregistry.ErrManifestUnknown)
}

// DeleteManifest takes away the tags of this repository that point at the manifest.
func (b backend) DeleteManifest(ctx context.Context, repo string, d ociregistry.Digest) error {
	all, err := b.tags(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, t := range all {
		if t.repo != repo || t.target.Digest != d {
			continue
		}
		found = true
		if err := b.opt.Images.Delete(ctx, b.image(repo, t.tag)); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if !found {
		return ociregistry.ErrManifestUnknown
	}
	return nil
}

// DeleteBlob is refused: blobs go when nothing refers to them.
func (b backend) DeleteBlob(context.Context, string, ociregistry.Digest) error {
	return ociregistry.ErrUnsupported
}

// sequence yields a list, or the error alone.
func sequence[T any](list []T, err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err != nil {
			var zero T
			yield(zero, err)
			return
		}
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}
