package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociref"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Labels of containerd's garbage collector.
const (
	labelRef     = "containerd.io/gc.ref.content."
	labelSubject = "containerd.io/gc.bref.content.subject" // lives as long as its subject
)

// maxChildren bounds what one manifest or index refers to.
const maxChildren = 1000

// manifest is what an image manifest and an index have in common with what refers to them.
type manifest struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       *ocispec.Descriptor  `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`
}

func (b backend) MountBlob(ctx context.Context, _, to string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	if !validName(to) {
		return ociregistry.Descriptor{}, ociregistry.ErrNameInvalid
	}
	return b.ResolveBlob(ctx, to, d)
}

// PushManifest stores a manifest all of whose blobs are here, and points the tag at it.
func (b backend) PushManifest(ctx context.Context, repo, tag string, data []byte, mediaType string) (ociregistry.Descriptor, error) {
	if !validName(repo) {
		return ociregistry.Descriptor{}, ociregistry.ErrNameInvalid
	}
	m, err := parse(data, mediaType)
	if err != nil {
		return ociregistry.Descriptor{}, fmt.Errorf("%w: %w", ociregistry.ErrManifestInvalid, err)
	}
	labels, err := b.children(ctx, m)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := b.store(ctx, desc, data, labels); err != nil {
		return ociregistry.Descriptor{}, fmt.Errorf("store manifest: %w", err)
	}
	if tag == "" {
		return desc, nil
	}
	if !ociref.IsValidTag(tag) {
		return ociregistry.Descriptor{}, fmt.Errorf("%w: tag %q", ociregistry.ErrNameInvalid, tag)
	}
	if b.opt.Agree != nil {
		if err := b.opt.Agree(ctx, b.image(repo, tag), desc.Digest.String()); err != nil {
			return ociregistry.Descriptor{}, fmt.Errorf("agree on tag: %w", err)
		}
	}
	if err := b.tag(ctx, b.image(repo, tag), desc); err != nil {
		return ociregistry.Descriptor{}, fmt.Errorf("set tag: %w", err)
	}
	b.opt.Log.InfoContext(ctx, "image pushed", "image", b.image(repo, tag), "digest", desc.Digest.String())
	if b.opt.Pushed != nil {
		b.opt.Pushed(b.image(repo, tag), desc.Digest.String())
	}
	return desc, nil
}

// parse checks that the bytes are what their media type says, and nothing else besides.
func parse(data []byte, mediaType string) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return m, err
	}
	if m.MediaType != "" && m.MediaType != mediaType {
		return m, fmt.Errorf("it says mediaType %q, the request %q", m.MediaType, mediaType)
	}
	switch {
	case images.IsIndexType(mediaType):
		if m.Config != nil || len(m.Layers) > 0 {
			return m, fmt.Errorf("an index has no config and no layers")
		}
	case images.IsManifestType(mediaType):
		if len(m.Manifests) > 0 {
			return m, fmt.Errorf("an image manifest has no manifests")
		}
		if m.Config == nil {
			return m, fmt.Errorf("an image manifest must have a config")
		}
	default:
		return m, fmt.Errorf("media type %q is not supported", mediaType)
	}
	if n := len(m.Layers) + len(m.Manifests); n > maxChildren {
		return m, fmt.Errorf("it refers to %d others, expected %d at most", n, maxChildren)
	}
	return m, nil
}

// children checks that all a manifest refers to is here, and returns the labels that keep it.
func (b backend) children(ctx context.Context, m manifest) (map[string]string, error) {
	labels := map[string]string{}
	all := slices.Concat(m.Layers, m.Manifests)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	for i, c := range all {
		if err := c.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("%w: digest %q: %w", ociregistry.ErrManifestInvalid, c.Digest, err)
		}
		info, err := b.opt.Content.Info(ctx, c.Digest)
		if errdefs.IsNotFound(err) {
			if images.IsNonDistributable(c.MediaType) {
				continue
			}
			return nil, fmt.Errorf("%w: %s", ociregistry.ErrManifestBlobUnknown, c.Digest)
		}
		if err != nil {
			return nil, err
		}
		if info.Size != c.Size {
			return nil, fmt.Errorf("%w: it says %s has %d bytes, it has %d", ociregistry.ErrManifestInvalid, c.Digest, c.Size, info.Size)
		}
		labels[labelRef+fmt.Sprint(i)] = c.Digest.String()
	}
	if m.Subject != nil {
		if err := m.Subject.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("%w: subject: %w", ociregistry.ErrManifestInvalid, err)
		}
		labels[labelSubject] = m.Subject.Digest.String()
	}
	return labels, nil
}

// store writes content with its labels; what is there already gets the labels.
func (b backend) store(ctx context.Context, desc ocispec.Descriptor, data []byte, labels map[string]string) error {
	if err := b.protect(ctx, desc.Digest); err != nil {
		return err
	}
	err := content.WriteBlob(ctx, b.opt.Content, "shoal-registry-manifest-"+desc.Digest.String(), bytes.NewReader(data), desc, content.WithLabels(labels))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return b.label(ctx, desc.Digest, labels)
}

func (s *Server) label(ctx context.Context, d digest.Digest, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	var fields []string
	for k := range maps.Keys(labels) {
		fields = append(fields, "labels."+k)
	}
	_, err := s.opt.Content.Update(ctx, content.Info{Digest: d, Labels: labels}, fields...)
	return err
}

// tag points an image's name at a manifest.
func (s *Server) tag(ctx context.Context, name string, desc ocispec.Descriptor) error {
	img := images.Image{Name: name, Target: desc}
	for range 3 { // another push may create or delete it in between
		_, err := s.opt.Images.Update(ctx, img, "target")
		if !errdefs.IsNotFound(err) {
			return err
		}
		if _, err = s.opt.Images.Create(ctx, img); !errdefs.IsAlreadyExists(err) {
			return err
		}
	}
	return fmt.Errorf("name %s is created and deleted again and again", name)
}

// validName says whether a repository's name is one, and short enough for containerd.
func validName(repo string) bool { return ociref.IsValidRepository(repo) && len(repo) <= 255 }
