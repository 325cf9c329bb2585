package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/containerd/containerd/v2/core/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const octets = "application/octet-stream"

// blob reads a piece of content.
type blob struct {
	io.Reader
	io.Closer
	desc ocispec.Descriptor
}

func (b blob) Descriptor() ocispec.Descriptor { return b.desc }

func (b backend) GetBlob(ctx context.Context, _ string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	return b.read(ctx, ocispec.Descriptor{MediaType: octets, Digest: d}, 0, -1, ociregistry.ErrBlobUnknown)
}

func (b backend) GetBlobRange(ctx context.Context, _ string, d ociregistry.Digest, from, to int64) (ociregistry.BlobReader, error) {
	return b.read(ctx, ocispec.Descriptor{MediaType: octets, Digest: d}, from, to, ociregistry.ErrBlobUnknown)
}

func (b backend) GetManifest(ctx context.Context, repo string, d ociregistry.Digest) (ociregistry.BlobReader, error) {
	desc, err := b.ResolveManifest(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	return b.read(ctx, desc, 0, -1, ociregistry.ErrManifestUnknown)
}

func (b backend) GetTag(ctx context.Context, repo, tag string) (ociregistry.BlobReader, error) {
	desc, err := b.ResolveTag(ctx, repo, tag)
	if err != nil {
		return nil, err
	}
	return b.read(ctx, desc, 0, -1, ociregistry.ErrManifestUnknown)
}

func (b backend) ResolveBlob(ctx context.Context, _ string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	info, err := b.opt.Content.Info(ctx, d)
	if err != nil {
		return ociregistry.Descriptor{}, unknown(err, ociregistry.ErrBlobUnknown)
	}
	// Who asks for a blob by HEAD is about to push a manifest that refers to it.
	if err := b.protect(ctx, d); err != nil {
		return ociregistry.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: octets, Digest: d, Size: info.Size}, nil
}

func (b backend) ResolveManifest(ctx context.Context, _ string, d ociregistry.Digest) (ociregistry.Descriptor, error) {
	info, err := b.opt.Content.Info(ctx, d)
	if err != nil {
		return ociregistry.Descriptor{}, unknown(err, ociregistry.ErrManifestUnknown)
	}
	desc := ocispec.Descriptor{Digest: d, Size: info.Size}
	if info.Size > b.opt.MaxManifest {
		return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
	}
	data, err := content.ReadBlob(ctx, b.opt.Content, desc)
	if err != nil {
		return ociregistry.Descriptor{}, unknown(err, ociregistry.ErrManifestUnknown)
	}
	if desc.MediaType = typeOf(data); desc.MediaType == "" {
		return ociregistry.Descriptor{}, ociregistry.ErrManifestUnknown
	}
	return desc, b.protect(ctx, d)
}

func (b backend) ResolveTag(ctx context.Context, repo, tag string) (ociregistry.Descriptor, error) {
	img, err := b.opt.Images.Get(ctx, b.image(repo, tag))
	if err != nil {
		return ociregistry.Descriptor{}, unknown(err, ociregistry.ErrManifestUnknown)
	}
	return ocispec.Descriptor{MediaType: img.Target.MediaType, Digest: img.Target.Digest, Size: img.Target.Size}, nil
}

// image is the name of a tag in containerd.
func (s *Server) image(repo, tag string) string { return s.opt.Host + "/" + repo + ":" + tag }

// read opens bytes from up to but not including to of some content; a negative to is the end.
func (b backend) read(ctx context.Context, desc ocispec.Descriptor, from, to int64, absent ociregistry.Error) (ociregistry.BlobReader, error) {
	r, err := b.opt.Content.ReaderAt(ctx, desc)
	if err != nil {
		return nil, unknown(err, absent)
	}
	desc.Size = r.Size()
	if to < 0 || to > desc.Size {
		to = desc.Size
	}
	if from < 0 || from > to {
		r.Close()
		return nil, fmt.Errorf("%w: bytes %d to %d of %d", ociregistry.ErrRangeInvalid, from, to, desc.Size)
	}
	return blob{io.NewSectionReader(r, from, to-from), r, desc}, nil
}

// typeOf finds the media type of a manifest that is known by its digest alone; "" for what is none.
func typeOf(data []byte) string {
	var head struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Config        json.RawMessage `json:"config"`
		Manifests     json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(data, &head) != nil || head.SchemaVersion != 2 {
		return ""
	}
	switch {
	case head.MediaType != "":
		return head.MediaType
	case head.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case head.Config != nil:
		return ocispec.MediaTypeImageManifest
	}
	return ""
}
