package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func build(t *testing.T, b *Builder, name, version string) v1.Image {
	t.Helper()
	img, err := b.Image(t.Context(), name, version)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// TestSameInputSameDigest builds a Go image and one from packages, each twice from nothing.
func TestSameInputSameDigest(t *testing.T) {
	for _, name := range []string{"echo", "busybox"} {
		a, b := build(t, &Builder{}, name, "v1"), build(t, &Builder{}, name, "v1")
		if digest(t, a) != digest(t, b) {
			t.Errorf("%s: two builds differ", name)
		}
		c := build(t, &Builder{}, name, "v2")
		if digest(t, a) == digest(t, c) {
			t.Errorf("%s: v1 and v2 have one digest", name)
		}
	}
}

func TestUnknownName(t *testing.T) {
	_, err := new(Builder).Image(t.Context(), "gustbook", "v1")
	const want = `image "gustbook": there is no such recipe; there are busybox, echo, guestbook, nginx, probe, redis, report`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// TestOutputs writes one image as layout, archive and push, and reads the same digest back from each.
func TestOutputs(t *testing.T) {
	img := build(t, &Builder{}, "echo", "v1")
	n := Named{Ref: "shoal.local/echo:v1", Image: img}

	dir := t.TempDir()
	if err := WriteLayout(dir, n); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Manifests[0].Digest.String() + " " + m.Manifests[0].Annotations["io.containerd.image.name"]; got != digest(t, img)+" "+n.Ref {
		t.Errorf("layout holds %s", got)
	}

	var buf bytes.Buffer
	if err := WriteArchive(&buf, n); err != nil {
		t.Fatal(err)
	}
	found := false
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found = found || h.Name == "blobs/sha256/"+strings.TrimPrefix(digest(t, img), "sha256:")
	}
	if !found {
		t.Error("the archive has no manifest")
	}

	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	ref := strings.TrimPrefix(server.URL, "http://") + "/echo:v1"
	if err := Push(t.Context(), ref, img); err != nil {
		t.Fatal(err)
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	back, err := remote.Image(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, back) != digest(t, img) {
		t.Error("the registry gives another digest")
	}
	if err := validate.Image(back); err != nil {
		t.Error(err)
	}
}

// TestGuestbookRuns starts Redis, the guestbook and the report from their images' own files and configs.
func TestGuestbookRuns(t *testing.T) {
	needsRoot(t)
	b := &Builder{}
	redis, web := freePort(t), freePort(t)
	start(t, build(t, b, "redis", "v1"), []string{"--port", redis}, nil)
	start(t, build(t, b, "guestbook", "v7"), nil, []string{"REDIS=127.0.0.1:" + redis, "ADDR=127.0.0.1:" + web})

	var page string
	for i := range 2 {
		page = eventually(t, "http://127.0.0.1:"+web+"/")
		if want := fmt.Sprintf(`<strong id="count">%d</strong>`, i+1); !strings.Contains(page, want) || !strings.Contains(page, "Guestbook v7 on") {
			t.Fatalf("visit %d: got %s", i+1, page)
		}
	}
	out := start(t, build(t, b, "report", "v1"), nil, []string{"REDIS=127.0.0.1:" + redis, "DAY=" + time.Now().UTC().Format(time.DateOnly)})
	if err := out.wait(); err != nil {
		t.Fatalf("report: %v: %s", err, out.text())
	}
	if !strings.Contains(out.text(), `"total":2}`) {
		t.Errorf("report printed %s", out.text())
	}
}

// TestEchoRuns asks Debian's nginx, which asks the echo server behind it on localhost.
func TestEchoRuns(t *testing.T) {
	needsRoot(t)
	b := &Builder{}
	back, front := freePort(t), freePort(t)
	start(t, build(t, b, "echo", "v1"), nil, []string{"ADDR=127.0.0.1:" + back})
	nginx := start(t, build(t, b, "nginx", "v1"), nil, nil, func(root string) {
		site := filepath.Join(root, "etc/nginx/conf.d/default.conf")
		text := strings.NewReplacer("8080", "127.0.0.1:"+front, "8081", back).Replace(nginxSite)
		if err := os.WriteFile(site, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	got := eventually(t, "http://127.0.0.1:"+front+"/a/b?c=d")
	if !strings.Contains(got, `"path": "/a/b"`) || !strings.Contains(got, `"X-Forwarded-Proto"`) {
		t.Errorf("got %s; nginx said %s", got, nginx.text())
	}
}

// TestShellRuns runs a script in the busybox image.
func TestShellRuns(t *testing.T) {
	needsRoot(t)
	p := start(t, build(t, &Builder{}, "busybox", ""), []string{"-c", "for i in 1 2; do echo n=$i | sed s/n/m/; done"}, nil)
	if err := p.wait(); err != nil || p.text() != "m=1\nm=2\n" {
		t.Errorf("%v: %s", err, p.text())
	}
}

// process is a started image.
type process struct {
	cmd  *exec.Cmd
	out  *os.File
	done chan struct{}
	err  error
}

func (p *process) wait() error {
	<-p.done
	return p.err
}

func (p *process) text() string {
	b, _ := os.ReadFile(p.out.Name())
	return string(b)
}

// start unpacks an image and starts it there with chroot; args follow its own.
func start(t *testing.T, img v1.Image, args, env []string, prepare ...func(root string)) *process {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	unpack(t, img, root)
	for _, p := range prepare {
		p(root)
	}
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mknod(filepath.Join(root, "dev/null"), syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := file.Config
	line := append(append(append([]string{}, c.Entrypoint...), c.Cmd...), args...)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: line[0], Args: line, Dir: "/", Env: append(append([]string{}, c.Env...), env...), Stdout: out, Stderr: out}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	if c.User != "" {
		var id uint32
		if _, err := fmt.Sscanf(c.User, "%d:", &id); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id, Gid: id}
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %v: %v", line, err)
	}
	p := &process{cmd: cmd, out: out, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
			t.Errorf("%v did not end on SIGTERM: %s", line, p.text())
			_ = cmd.Process.Kill()
			<-p.done
		}
		out.Close()
	})
	return p
}

func unpack(t *testing.T, img v1.Image, root string) {
	t.Helper()
	flat := mutate.Extract(img)
	defer flat.Close()
	for tr := tar.NewReader(flat); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(root, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(at, 0o755)
			if err == nil {
				err = os.Chmod(at, h.FileInfo().Mode())
			}
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, at)
		case tar.TypeReg:
			var data []byte
			if data, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(at, data, h.FileInfo().Mode())
			}
		}
		if err == nil {
			err = os.Lchown(at, h.Uid, h.Gid)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// eventually returns the first answer 200 within 20 s.
func eventually(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for last := "nothing"; ; time.Sleep(20 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%s: last answer: %s", url, last)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return string(body)
		}
		last = resp.Status + " " + string(body)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
