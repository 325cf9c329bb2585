package containers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/nodeagent/containers/containerstest"
)

// rawRegistry gives out blobs as they are, whatever they say.
type rawRegistry struct {
	t     *testing.T
	host  string
	blobs map[digest.Digest][]byte
	kinds map[digest.Digest]string
}

func newRawRegistry(t *testing.T) *rawRegistry {
	r := &rawRegistry{t: t, blobs: map[digest.Digest][]byte{}, kinds: map[digest.Digest]string{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		d := digest.Digest(filepath.Base(req.URL.Path))
		b, there := r.blobs[d]
		if !there {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", r.kinds[d])
		w.Header().Set("Docker-Content-Digest", d.String())
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		if req.Method != http.MethodHead {
			w.Write(b)
		}
	}))
	t.Cleanup(s.Close)
	r.host = strings.TrimPrefix(s.URL, "http://")
	return r
}

// add keeps a blob, made JSON unless it is bytes.
func (r *rawRegistry) add(kind string, v any) ocispec.Descriptor {
	r.t.Helper()
	b, raw := v.([]byte)
	if !raw {
		var err error
		if b, err = json.Marshal(v); err != nil {
			r.t.Fatal(err)
		}
	}
	d := digest.FromBytes(b)
	r.blobs[d], r.kinds[d] = b, kind
	return ocispec.Descriptor{MediaType: kind, Digest: d, Size: int64(len(b))}
}

// image makes one of a gzipped layer.
func (r *rawRegistry) image(layer []byte) ocispec.Descriptor {
	return r.imageOf(layer, ocispec.ImageConfig{})
}

func (r *rawRegistry) imageOf(layer []byte, says ocispec.ImageConfig) ocispec.Descriptor {
	r.t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(layer)
	w.Close()
	config := ocispec.Image{Config: says, Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}}}
	return r.add(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: r.add(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{r.add(ocispec.MediaTypeImageLayerGzip, b.Bytes())},
	})
}

func tarOf(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		body := []byte("evil")
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(body))
		}
		h.Mode = 0o755
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write(body)
		}
	}
	w.Close()
	return b.Bytes()
}

// TestFault_C9 has images that were made to do harm when they are pulled: they are refused, by limits that hold before
// anything is unpacked where there can be such, and nothing outside is touched.
func TestFault_C9(t *testing.T) {
	n := newNode(t)
	r := newRawRegistry(t)
	n.o.Daemon = append(n.o.Daemon, "-inflated", fmt.Sprint(16<<20))
	n.killDaemon() // the next one has the test's limit of what a layer may unpack to
	mustNot(t, n.Shutdown(ctx(t)))
	n.open()

	plain := r.image(tarOf(t, tar.Header{Name: "x", Typeflag: tar.TypeReg}))
	both := map[string]any{}
	mustNot(t, json.Unmarshal(r.blobs[plain.Digest], &both))
	both["manifests"] = []ocispec.Descriptor{plain}
	platform := &ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}
	index := func(children ...ocispec.Descriptor) ocispec.Descriptor {
		for i := range children {
			children[i].Platform = platform
		}
		return r.add(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
	}
	var many []ocispec.Descriptor
	for i := range 5000 {
		many = append(many, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 100})
	}
	chain := plain
	for range maxBlobs + 10 {
		chain = index(chain)
	}
	huge := r.add(ocispec.MediaTypeImageIndex, bytes.Repeat([]byte(" "), manifestBytes+1))
	layered := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: r.add(ocispec.MediaTypeImageConfig, []byte("{}"))}
	for range maxLayers + 1 {
		layered.Layers = append(layered.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("l"), Size: 10})
	}
	vast := layered
	vast.Layers = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("l"), Size: maxLayerBytes + 1}}

	for name, c := range map[string]struct {
		image ocispec.Descriptor
		want  string
	}{
		"both a manifest and an index": {r.add(ocispec.MediaTypeImageManifest, both), "manifest"},
		"an index of 5,000 entries":    {index(many...), "more than is allowed"},
		"a chain of 1,010 indexes":     {chain, "more than is allowed"},
		"an index of 8 MiB and a byte": {huge, "rejecting"},
		"501 layers":                   {r.add(ocispec.MediaTypeImageManifest, layered), "more than is allowed"},
		"a layer said to have 16 GiB":  {r.add(ocispec.MediaTypeImageManifest, vast), "more than is allowed"},
		"a gzip bomb": {
			r.image(append(bytes.Clone(tarOf(t, tar.Header{Name: "y", Typeflag: tar.TypeReg})[:1024]), bombOf(t, 64<<20)...)), "unpack to more than",
		},
	} {
		short, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a thousand manifests, one after the other
		_, err := n.Pull(short, r.host+"/evil:1", c.image.Digest.String(), nil, nil)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want something with %q", name, clipped(err), c.want)
		}
		if present, _, err := n.Image("evil", c.image.Digest.String()); present || err != nil {
			t.Errorf("%s: present %v, %v", name, present, err)
		}
	}

	// Paths that lead out are taken inside, or refused.
	outside := t.TempDir()
	for name, layer := range map[string][]byte{
		"a path upwards":         tarOf(t, tar.Header{Name: strings.Repeat("../", 20) + outside[1:] + "/up", Typeflag: tar.TypeReg}),
		"an absolute path":       tarOf(t, tar.Header{Name: outside + "/abs", Typeflag: tar.TypeReg}),
		"through a link":         tarOf(t, tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside}, tar.Header{Name: "out/through", Typeflag: tar.TypeReg}),
		"a hard link to outside": tarOf(t, tar.Header{Name: "shadow", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}, tar.Header{Name: "shadow", Typeflag: tar.TypeReg}),
		"a link's whiteout":      tarOf(t, tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside}, tar.Header{Name: "out/.wh.keep", Typeflag: tar.TypeReg}),
	} {
		mustNot(t, os.WriteFile(filepath.Join(outside, "keep"), nil, 0o600))
		shadow, err := os.Stat("/etc/shadow")
		mustNot(t, err)
		_, err = n.Pull(ctx(t), r.host+"/evil:1", r.image(layer).Digest.String(), nil, nil)
		t.Logf("%s: %v", name, clipped(err))
		if got := fmt.Sprint(mustReadDir(t, outside)); got != "[- keep]" {
			t.Errorf("%s: outside there is %s", name, got)
		}
		if after, err := os.Stat("/etc/shadow"); err != nil || after.ModTime() != shadow.ModTime() || after.Size() != shadow.Size() {
			t.Errorf("%s: /etc/shadow was changed: %v", name, err)
		}
	}

	// A device of the host in an image is one that the container may not open.
	d := r.image(append(bytes.Clone(tarOf(t, tar.Header{Name: "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1})[:512]), progLayer(t)...))
	if _, err := n.Pull(ctx(t), r.host+"/dev:1", d.Digest.String(), nil, nil); err != nil {
		t.Fatal(err)
	}
	p := n.podOf("cat", "/mem")
	p.Spec.Containers[0].Command = []string{"/bin/prog"}
	n.sandbox(p)
	l := n.launch(p, 0)
	l.Digest = d.Digest.String()
	mustNot(t, n.Start(ctx(t), l))
	if c := n.exit(p, "main"); c.ExitCode == 0 || !strings.Contains(n.log(p, "main", 0), "not permitted") {
		t.Errorf("a device in the image: %+v, %s", c, n.log(p, "main", 0))
	}
}

// bombOf is that many zeros as a file of a tar archive.
func bombOf(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "bomb", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, size))
	w.Close()
	return b.Bytes()
}

// progLayer is a tar archive with the test program.
func progLayer(t *testing.T) []byte {
	t.Helper()
	img := containerstest.Image(t, map[string][]byte{"/bin/prog": containerstest.Program(t)}, v1.Config{})
	layers, err := img.Layers()
	mustNot(t, err)
	rc, err := layers[0].Uncompressed()
	mustNot(t, err)
	defer rc.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(rc)
	mustNot(t, err)
	return b.Bytes()
}

func clipped(err error) string {
	if s := fmt.Sprint(err); len(s) > 900 {
		return s[:900] + "..."
	} else {
		return s
	}
}

// TestFault_C13 damages what containerd has of an image: it is found out when a pod is to start, and the image is
// pulled again; what runs goes on.
func TestFault_C13(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	pid := n.pod(p.ID).newest("main").state.Pid
	var manifest ocispec.Manifest
	b, err := os.ReadFile(n.blob(n.imageDigest()))
	mustNot(t, err)
	mustNot(t, json.Unmarshal(b, &manifest))

	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(path, b, 0o600)
	}
	for _, c := range []struct {
		name   string
		damage func() error
		either bool // it may be of use as it is, until containerd collects its garbage
	}{
		{"the manifest, a flipped bit", func() error { return flip(n.blob(n.imageDigest())) }, false},
		{"the config, a flipped bit", func() error { return flip(n.blob(manifest.Config.Digest)) }, false},
		{"the manifest is gone", func() error { return os.Remove(n.blob(n.imageDigest())) }, false},
		{"the config is cut short", func() error { return os.Truncate(n.blob(manifest.Config.Digest), 10) }, false},
		{"the view of its layers is gone", func() error { return n.client.SnapshotService(snapshotter).Remove(ctx(t), viewPrefix+n.digest) }, false},
		{"its names are gone", func() error {
			return errors.Join(n.Images().Delete(ctx(t), n.image), n.Images().Delete(ctx(t), n.digest))
		}, true},
	} {
		name := c.name
		mustNot(t, c.damage())
		n.Close()
		n.open() // an agent that remembers nothing
		present, _, err := n.Image(n.image, n.digest)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if present && !c.either {
			t.Errorf("%s: the image counts as there: %v", name, present)
		}
		if d, err := n.Pull(ctx(t), n.image, n.digest, nil, nil); err != nil || d != n.digest {
			t.Errorf("%s: pulled again: %s, %v", name, d, clipped(err))
		}
		q := n.run(n.podOf("exit", "0"))
		if c := n.exit(q, "main"); c.ExitCode != 0 {
			t.Errorf("%s: afterwards: %+v", name, c)
		}
		mustNot(t, n.RemoveSandbox(ctx(t), q.ID))
	}
	// A layer that was fetched and not unpacked yet when it was damaged.
	r := newRawRegistry(t)
	other := r.image(tarOf(t, tar.Header{Name: "x", Typeflag: tar.TypeReg}))
	named, err := normal(r.host + "/other:1")
	mustNot(t, err)
	_, err = n.fetch(ctx(t), named, other.Digest, resolver(nil), nil)
	mustNot(t, err)
	mustNot(t, json.Unmarshal(r.blobs[other.Digest], &manifest))
	mustNot(t, flip(n.blob(manifest.Layers[0].Digest)))
	if _, err := n.Pull(ctx(t), r.host+"/other:1", other.Digest.String(), nil, nil); err != nil {
		t.Errorf("a damaged layer: %v", clipped(err))
	}

	if got := n.pod(p.ID).newest("main").state; got.Pid != pid || got.Finished != 0 {
		t.Errorf("what ran: %+v", got)
	}
}

// blob is the file of a blob in containerd's store.
func (n *node) blob(d digest.Digest) string {
	return filepath.Join(n.o.DataDir, "containerd/io.containerd.content.v1.content/blobs", d.Algorithm().String(), d.Encoded())
}
