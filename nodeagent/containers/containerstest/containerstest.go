// Package containerstest makes small images and serves them, for tests that run containers.
package containerstest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Registry serves an empty registry on loopback until the test ends, and gives its "host:port".
func Registry(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return l.Addr().String()
}

// Push puts an image of one layer into a registry and gives its digest. Files are by absolute path; what lies in
// a bin directory may be executed. ref is "name:tag".
func Push(t testing.TB, host, ref string, files map[string][]byte, config v1.Config) (digest string) {
	t.Helper()
	return PushImage(t, host, ref, Image(t, files, config))
}

// PushImage puts an image into a registry by the distribution protocol and gives its digest.
func PushImage(t testing.TB, host, ref string, img v1.Image) (digest string) {
	t.Helper()
	repo, tag, _ := strings.Cut(ref, ":")
	base := "http://" + host + "/v2/" + repo
	layers, err := img.Layers()
	must(t, err)
	for _, l := range layers {
		d, err := l.Digest()
		must(t, err)
		r, err := l.Compressed()
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		send(t, http.MethodPost, base+"/blobs/uploads/?digest="+d.String(), "application/octet-stream", b)
	}
	config, err := img.RawConfigFile()
	must(t, err)
	name, err := img.ConfigName()
	must(t, err)
	send(t, http.MethodPost, base+"/blobs/uploads/?digest="+name.String(), "application/octet-stream", config)
	manifest, err := img.RawManifest()
	must(t, err)
	kind, err := img.MediaType()
	must(t, err)
	send(t, http.MethodPut, base+"/manifests/"+tag, string(kind), manifest)
	d, err := img.Digest()
	must(t, err)
	return d.String()
}

func send(t testing.TB, method, url, kind string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	must(t, err)
	req.Header.Set("Content-Type", kind)
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		t.Fatalf("%s %s: %s: %s", method, url, res.Status, b)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Image makes an image of one layer.
func Image(t testing.TB, files map[string][]byte, config v1.Config) v1.Image {
	t.Helper()
	b := layer(t, files)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
		tarball.WithCompressedCaching, tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Config = runtime.GOARCH, "linux", config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

func layer(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{"/": true}
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if made[dir] {
			return
		}
		made[dir] = true
		mkdir(path.Dir(dir))
		if err := w.WriteHeader(&tar.Header{Name: dir[1:] + "/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	mkdir("/tmp")
	for _, file := range slices.Sorted(maps.Keys(files)) {
		mkdir(path.Dir(file))
		mode := int64(0o644)
		if strings.HasSuffix(path.Dir(file), "bin") {
			mode = 0o755
		}
		err := w.WriteHeader(&tar.Header{Name: file[1:], Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(files[file]))})
		if err == nil {
			_, err = w.Write(files[file])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// PushProgram puts an image with the test program (see package prog) as /bin/prog and entrypoint.
func PushProgram(t testing.TB, host, ref string) (digest string) {
	t.Helper()
	program.once.Do(func() {
		program.image = Image(t, map[string][]byte{
			"/bin/prog":   Program(t),
			"/etc/passwd": []byte("root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n"),
			"/etc/group":  []byte("root:x:0:\nweb:x:1001:\nextra:x:1002:web\n"),
		}, v1.Config{Entrypoint: []string{"/bin/prog"}, Env: []string{"FROM=image"}})
	})
	if program.image == nil {
		t.Fatal("the image of the test program was not made")
	}
	return PushImage(t, host, ref, program.image)
}

// program is the image of the test program: it is compressed once in a test binary, which takes long under the race detector.
var program struct {
	once  sync.Once
	image v1.Image
}

// Program is the static test program.
func Program(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(build(t, "./nodeagent/containers/containerstest/prog"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// OlderProgram is the test program for the 32-bit ABI of a machine of 64 bits.
func OlderProgram(t testing.TB) []byte {
	t.Helper()
	older := map[string]string{"amd64": "386", "arm64": "arm"}[runtime.GOARCH]
	b, err := os.ReadFile(buildIn(t, root(t), "./nodeagent/containers/containerstest/prog", "GOARCH="+older))
	must(t, err)
	return b
}

// Shim builds the pod shim and gives its path.
func Shim(t testing.TB) string {
	t.Helper()
	return build(t, "./cmd/shoal-shim")
}

// Containerd builds the containerd of an agent and gives its path; its first argument is "containerd".
func Containerd(t testing.TB) string {
	t.Helper()
	return build(t, "./nodeagent/containers/containerstest/containerd")
}

// Runc gives the path of the pinned runc, which `make setup` builds.
func Runc(t testing.TB) string {
	t.Helper()
	file := filepath.Join(root(t), ".tools", "runc")
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%s is missing: run make setup", file)
	}
	return file
}

var built sync.Map // package and environment -> func() (string, error)

// build compiles a program of this module, once in a test binary.
func build(t testing.TB, pkg string) string {
	t.Helper()
	return buildIn(t, root(t), pkg)
}

// buildIn compiles a program of the module in directory at, with more variables in the environment.
func buildIn(t testing.TB, at, pkg string, env ...string) string {
	t.Helper()
	f, _ := built.LoadOrStore(pkg+strings.Join(env, " "), sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "shoal-built-")
		if err != nil {
			return "", err
		}
		out := filepath.Join(dir, path.Base(pkg))
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
		cmd.Dir, cmd.Env = at, append(append(os.Environ(), "CGO_ENABLED=0"), env...)
		if b, err := cmd.CombinedOutput(); err != nil {
			os.RemoveAll(dir)
			return "", fmt.Errorf("build %s: %w\n%s", pkg, err, b)
		}
		return out, nil
	}))
	file, err := f.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// RemoveBuilt removes what was built; TestMain calls it at its end.
func RemoveBuilt() {
	built.Range(func(_, f any) bool {
		if file, err := f.(func() (string, error))(); err == nil {
			os.RemoveAll(filepath.Dir(file))
		}
		return true
	})
}

// root is the directory of go.mod.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("not below a directory with go.mod")
	return ""
}
