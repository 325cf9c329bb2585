package images

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Named is an image and the reference it is known by, "shoal.local/guestbook:v1".
type Named struct {
	Ref   string
	Image v1.Image
}

// WriteLayout writes an OCI image layout into dir, which must be empty or absent. Each manifest is annotated
// with its reference in the way that containerd's importer and `oras` read it.
func WriteLayout(dir string, images ...Named) error {
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write layout %s: %w", dir, err)
	}
	for _, n := range images {
		notes := map[string]string{"io.containerd.image.name": n.Ref, "org.opencontainers.image.ref.name": n.Ref}
		if err := l.AppendImage(n.Image, layout.WithAnnotations(notes)); err != nil {
			return fmt.Errorf("write %s: %w", n.Ref, err)
		}
	}
	return nil
}

// WriteArchive writes an OCI image layout as one tar stream, as `ctr image import` and the client's Import
// read it.
func WriteArchive(w io.Writer, images ...Named) error {
	dir, err := os.MkdirTemp("", "shoal-layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := WriteLayout(dir, images...); err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := t.AddFS(os.DirFS(dir)); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return t.Close()
}

// Push sends an image to a registry; plain HTTP is used for loopback hosts. The reference is that of the
// registry, "localhost:5000/guestbook:v1".
func Push(ctx context.Context, ref string, img v1.Image) error {
	r, err := name.ParseReference(ref)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if err := remote.Write(r, img, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}
