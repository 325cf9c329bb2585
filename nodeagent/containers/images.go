package containers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ImageConfig is what an image says of the containers made from it.
type ImageConfig = ocispec.ImageConfig

// LocalHost is the registry name of the node's own store: an image below it is never fetched from elsewhere.
const LocalHost = "shoal.local"

const (
	snapshotter = "overlayfs"
	// viewPrefix begins the name of the read-only snapshot that stands for an unpacked image. It is a root of
	// garbage collection: layers stay while it is there.
	viewPrefix = "shoal-image-"
	gcRoot     = "containerd.io/gc.root"
	// imageTimeout bounds what is asked of containerd about an image that is there.
	imageTimeout = 10 * time.Second
	// cachedImages bounds what is remembered of images; a config has some KB.
	cachedImages = 256
)

// image is an image that is unpacked here. Immutable.
type image struct {
	digest digest.Digest // of the manifest or index it is known by
	config ocispec.ImageConfig
	lower  []string // directories of its layers, topmost first
	users  users
	older  bool // has programs of a 32-bit ABI
}

// imageStore remembers images by digest, which cannot change. It may forget any of them.
type imageStore struct {
	client *containerd.Client
	o      Options

	mu     sync.Mutex // guards images
	images map[digest.Digest]*image

	pulls keyed
}

func (s *imageStore) init(c *containerd.Client, o Options) {
	s.client, s.o, s.images = c, o, map[digest.Digest]*image{}
}

// normal completes a reference as Docker does: "nginx" is docker.io/library/nginx:latest.
func normal(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, fmt.Errorf("image reference %q: %w", ref, err)
	}
	return named, nil
}

// Image tells whether an image is here, unpacked and ready, and what it says. With a digest the reference is only
// for messages; without, it is looked up among the names here.
func (r *Runtime) Image(ref, dgst string) (present bool, config ImageConfig, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), imageTimeout)
	defer cancel()
	d, err := r.store.find(ctx, ref, dgst)
	if errdefs.IsNotFound(err) {
		return false, ImageConfig{}, nil
	}
	if err != nil {
		return false, ImageConfig{}, fmt.Errorf("image %s: %w", ref, err)
	}
	im, err := r.store.get(ctx, d)
	if errdefs.IsNotFound(err) {
		return false, ImageConfig{}, nil
	}
	if err != nil {
		return false, ImageConfig{}, fmt.Errorf("image %s: %w", ref, err)
	}
	return true, im.config, nil
}

// find gives the digest that is meant.
func (s *imageStore) find(ctx context.Context, ref, dgst string) (digest.Digest, error) {
	if dgst != "" {
		return digest.Parse(dgst)
	}
	named, err := normal(ref)
	if err != nil {
		return "", err
	}
	if d, ok := named.(reference.Digested); ok {
		return d.Digest(), nil
	}
	rec, err := s.client.ImageService().Get(ctx, named.String())
	if err != nil {
		return "", err
	}
	return rec.Target.Digest, nil
}

// get gives an image that was unpacked, or an error that errdefs.IsNotFound knows.
func (s *imageStore) get(ctx context.Context, d digest.Digest) (*image, error) {
	s.mu.Lock()
	im := s.images[d]
	s.mu.Unlock()
	if im != nil {
		return im, nil
	}
	mounts, err := s.client.SnapshotService(snapshotter).Mounts(ctx, viewPrefix+d.String())
	if err != nil {
		return nil, err
	}
	config, _, err := s.read(ctx, d)
	if err != nil {
		return nil, err
	}
	im = &image{digest: d, config: config.Config}
	if im.lower, err = lowerDirs(mounts); err != nil {
		return nil, err
	}
	if err := im.inspect(mounts, s.o.RunDir, config.Architecture); err != nil {
		return nil, fmt.Errorf("look into image %s: %w", d, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.images) >= cachedImages {
		clear(s.images)
	}
	s.images[d] = im
	return im, nil
}

// inspect reads what is needed of the image's files, its layers mounted read-only for that moment.
func (im *image) inspect(mounts []mount.Mount, runDir, architecture string) (err error) {
	dir, err := os.MkdirTemp(runDir, ".image-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := mount.All(mounts, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount(dir)) }()
	im.older = needsOlderABI(dir, architecture, append(slices.Clone(im.config.Entrypoint), im.config.Cmd...))
	if im.users.passwd, err = readInside(dir, "/etc/passwd"); err != nil {
		return err
	}
	im.users.group, err = readInside(dir, "/etc/group")
	return err
}

// read gives the config of the image for this machine, and the snapshot that its layers make.
func (s *imageStore) read(ctx context.Context, d digest.Digest) (ocispec.Image, digest.Digest, error) {
	var config ocispec.Image
	store := s.client.ContentStore()
	target, err := describe(ctx, store, d)
	if err != nil {
		return config, "", err
	}
	manifest, err := images.Manifest(ctx, store, target, platforms.Default())
	if err != nil {
		return config, "", err
	}
	b, err := readIntact(ctx, store, manifest.Config)
	if err != nil {
		return config, "", err
	}
	if err := json.Unmarshal(b, &config); err != nil {
		return config, "", fmt.Errorf("config of image %s: %w", d, err)
	}
	return config, identity.ChainID(config.RootFS.DiffIDs), nil
}

// manifestBytes bounds a manifest or an index, as containerd does.
const manifestBytes = 8 << 20

// describe makes the descriptor of a manifest or an index that is in the store.
func describe(ctx context.Context, store content.Store, d digest.Digest) (ocispec.Descriptor, error) {
	info, err := store.Info(ctx, d)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{Digest: d, Size: info.Size}
	if info.Size > manifestBytes {
		return desc, fmt.Errorf("manifest %s has %d bytes: expected %d at most", d, info.Size, manifestBytes)
	}
	b, err := readIntact(ctx, store, desc)
	if err != nil {
		return desc, err
	}
	var head struct {
		MediaType string          `json:"mediaType"`
		Config    json.RawMessage `json:"config"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return desc, fmt.Errorf("manifest %s: %w", d, err)
	}
	switch {
	case head.Config != nil && head.Manifests != nil:
		return desc, fmt.Errorf("manifest %s is both a manifest and an index", d)
	case head.MediaType != "":
		desc.MediaType = head.MediaType
	case head.Manifests != nil:
		desc.MediaType = ocispec.MediaTypeImageIndex
	default:
		desc.MediaType = ocispec.MediaTypeImageManifest
	}
	return desc, nil
}

// open makes the view that keeps an unpacked image, and forgets what was known of it.
func (s *imageStore) open(ctx context.Context, d digest.Digest) error {
	_, chain, err := s.read(ctx, d)
	if err != nil {
		return err
	}
	_, err = s.client.SnapshotService(snapshotter).View(ctx, viewPrefix+d.String(), chain.String(),
		snapshots.WithLabels(map[string]string{gcRoot: time.Now().UTC().Format(time.RFC3339)}))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	s.mu.Lock()
	delete(s.images, d)
	s.mu.Unlock()
	_, err = s.get(ctx, d)
	return err
}

func isLocal(ref reference.Named) bool { return reference.Domain(ref) == LocalHost }

// errNotLocal says that an image of the node's own store is not there.
func errNotLocal(ref string) error {
	return fmt.Errorf("image %s: %w in the node's own store: push it first", ref, errdefs.ErrNotFound)
}
