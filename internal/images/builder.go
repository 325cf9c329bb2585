package images

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Builder builds images of recipes. Zero fields mean their defaults. Safe for concurrent use, also by several
// processes with one cache.
type Builder struct {
	Cache   string // downloaded packages; default <user cache>/shoal/images
	Arch    string // GOARCH of the images; default the host's
	Refresh bool   // ask Debian for newer packages although the lock is complete

	mu     sync.Mutex
	layers map[string]v1.Layer // by recipe's name
}

// Image builds the recipe called name; version is told to its program in the environment variable VERSION and
// is in the config, so two versions differ in digest and share their layer.
func (b *Builder) Image(ctx context.Context, name, version string) (v1.Image, error) {
	r, err := Find(name)
	if err != nil {
		return nil, err
	}
	return b.Build(ctx, r, version)
}

// Build builds any recipe, as Image does for those known by name.
func (b *Builder) Build(ctx context.Context, r Recipe, version string) (v1.Image, error) {
	layer, err := b.layer(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", r.Name, err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.AppendLayers(img, layer)
	if err != nil {
		return nil, fmt.Errorf("image %s: append layer: %w", r.Name, err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image %s: read config: %w", r.Name, err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", b.arch()
	file.Config = *r.Config.DeepCopy()
	if version != "" {
		file.Config.Env = append(file.Config.Env, Version+"="+version)
	}
	img, err = mutate.ConfigFile(img, file)
	if err != nil {
		return nil, fmt.Errorf("image %s: write config: %w", r.Name, err)
	}
	return img, nil
}

// layer builds the one layer of a recipe, once for the life of the Builder.
func (b *Builder) layer(ctx context.Context, r Recipe) (v1.Layer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, ok := b.layers[r.Name]; ok {
		return l, nil
	}
	t := tree{}
	if r.Program != "" {
		bin, err := b.compile(ctx, r.Program)
		if err != nil {
			return nil, err
		}
		t.put("/"+path.Base(r.Program), node{mode: 0o755, data: bin})
	}
	if len(r.Packages) > 0 {
		from, err := b.debian(ctx, r.Packages)
		if err != nil {
			return nil, err
		}
		for _, f := range r.Files {
			if err := t.take(from, f); err != nil {
				return nil, err
			}
		}
	}
	for at, to := range r.Links {
		t.put(at, node{link: to})
	}
	for at, o := range r.Dirs {
		t.put(at, node{dir: true, mode: o.Mode, owner: o.ID})
	}
	for at, text := range r.Texts {
		t.put(at, node{mode: 0o644, data: []byte(text)})
	}
	raw, err := t.tar()
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("compress layer: %w", err)
	}
	if b.layers == nil {
		b.layers = map[string]v1.Layer{}
	}
	b.layers[r.Name] = l
	return l, nil
}

// compile builds a Go program statically. It must be called within the module.
func (b *Builder) compile(ctx context.Context, pkg string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "shoal-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.arch())
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w: %s", pkg, err, bytes.TrimSpace(text))
	}
	return os.ReadFile(out)
}

func (b *Builder) arch() string {
	if b.Arch != "" {
		return b.Arch
	}
	return runtime.GOARCH
}

func (b *Builder) cache() (string, error) {
	if b.Cache != "" {
		return filepath.Abs(b.Cache)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache directory: %w", err)
	}
	return filepath.Join(dir, "shoal", "images"), nil
}
