package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spf13/cobra"
)

func newImage() *cobra.Command {
	image := &cobra.Command{Use: "image", Short: "Images of the ring's own store", Args: exactly(0, "a subcommand: push"), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	var registry string
	push := &cobra.Command{
		Use: "push FILE|DIR NAME[:TAG]", Short: "Put an image into the ring's own store",
		Long: `Pushes an image to the built-in registry, from where manifests name it shoal.local/NAME:TAG. FILE is what
"docker save" or an OCI archive gives, DIR an OCI layout. Any OCI client can push too: docker push localhost:5000/NAME:TAG.`,
		Args: exactly(2, "an image file or OCI layout, and a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := registry + "/" + strings.TrimPrefix(args[1], "shoal.local/")
			ref, err := name.ParseReference(target, name.Insecure)
			if err != nil {
				return usageError{fmt.Errorf("image name %q: %w", args[1], err)}
			}
			img, err := readImage(args[0])
			if err != nil {
				return err
			}
			if err := remote.Write(ref, img, remote.WithContext(cmd.Context())); err != nil {
				return fmt.Errorf("push to %s: %w", registry, err)
			}
			digest, err := img.Digest()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "shoal.local/%s:%s@%s\n", ref.Context().RepositoryStr(), ref.Identifier(), digest)
			return nil
		},
	}
	push.Flags().StringVar(&registry, "registry", "localhost:5000", "the agent's registry")
	image.AddCommand(push)
	return image
}

// readImage reads an OCI layout, an OCI archive or what docker save writes.
func readImage(path string) (v1.Image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return layoutImage(path)
	}
	if img, err := tarball.ImageFromPath(path, nil); err == nil {
		return img, nil
	}
	dir, err := os.MkdirTemp("", "shoal-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := unpackLayout(path, dir); err != nil {
		return nil, fmt.Errorf("%s: neither a docker archive nor an OCI archive: %w", path, err)
	}
	return layoutImage(dir)
}

func layoutImage(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: no OCI layout: %w", dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s: holds %d images, expected one", dir, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// unpackLayout unpacks the regular files of an OCI archive, whose names are fixed by its specification.
func unpackLayout(path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%q leads out of the archive", h.Name)
		}
		to := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}

// loadArchive pushes every image of an OCI archive to a registry, under the name it has in the archive.
func loadArchive(ctx context.Context, path, registry string) ([]string, error) {
	dir, err := os.MkdirTemp("", "shoal-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := unpackLayout(path, dir); err != nil {
		return nil, fmt.Errorf("%s: no OCI archive: %w", path, err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: no OCI archive: %w", path, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range manifest.Manifests {
		full := m.Annotations["org.opencontainers.image.ref.name"]
		ref, err := name.ParseReference(registry+"/"+strings.TrimPrefix(full, "shoal.local/"), name.Insecure)
		if err != nil {
			return nil, fmt.Errorf("%s: image %q: %w", path, full, err)
		}
		img, err := index.Image(m.Digest)
		if err != nil {
			return nil, err
		}
		if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
			return nil, fmt.Errorf("push %s: %w", full, err)
		}
		names = append(names, full)
	}
	return names, nil
}
