package containers

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/shoal-dev/shoal/nodeagent/containers/containerstest"
)

func TestNeedsOlderABI(t *testing.T) {
	elf32, elf64 := "\x7fELF\x01...", "\x7fELF\x02..."
	for _, c := range []struct {
		name         string
		files        map[string]string
		links        map[string]string
		architecture string
		command      []string
		want         bool
	}{
		{"nothing", nil, nil, "amd64", nil, false},
		{"of this machine", map[string]string{"/app": elf64}, nil, "amd64", []string{"/app"}, false},
		{"an image for the other architecture", map[string]string{"/app": elf64}, nil, "386", []string{"/app"}, true},
		{"its own command", map[string]string{"/app": elf32}, nil, "amd64", []string{"/app"}, true},
		{"found in PATH", map[string]string{"/usr/bin/app": elf32}, nil, "amd64", []string{"app"}, true},
		{"behind a link", map[string]string{"/opt/app": elf32}, map[string]string{"/app": "/opt/app"}, "amd64", []string{"/app"}, true},
		{"a link that leaves", nil, map[string]string{"/app": "../../../../../../../../bin"}, "amd64", []string{"/app"}, false},
		{"a loader", map[string]string{"/lib/ld-linux.so.2": "x"}, nil, "amd64", nil, true},
		{"a loader behind a linked directory", map[string]string{"/usr/lib/ld-musl-i386.so.1": "x"}, map[string]string{"/lib": "usr/lib"}, "amd64", nil, true},
		{"a script", map[string]string{"/app": "#!/bin/sh"}, nil, "amd64", []string{"/app"}, false},
		{"shorter than a head", map[string]string{"/app": "\x7f"}, nil, "amd64", []string{"/app"}, false},
	} {
		root := t.TempDir()
		for name, text := range c.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for name, to := range c.links {
			if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
		if got := needsOlderABI(root, c.architecture, c.command); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// TestOlderABI shows that an image's 32-bit programs run under the default seccomp profile, and what becomes of one
// that the image does not let expect.
func TestOlderABI(t *testing.T) {
	n := newNode(t)
	host := containerstest.Registry(t)
	for _, c := range []struct {
		name  string
		files map[string][]byte
		own   string // the image's command
		runs  string
		code  int32
	}{
		{"command", nil, "/bin/older", "/bin/older", 0},
		{"loader", map[string][]byte{"/lib/ld-linux.so.2": nil}, "/bin/prog", "/bin/older", 0},
		{"hidden", nil, "/bin/prog", "/bin/older", 159},
		{"plain", nil, "/bin/prog", "/bin/prog", 0},
	} {
		files := map[string][]byte{"/bin/prog": containerstest.Program(t), "/bin/older": containerstest.OlderProgram(t)}
		maps.Copy(files, c.files)
		ref := host + "/abi-" + c.name + ":1"
		d := containerstest.Push(t, host, "abi-"+c.name+":1", files, v1.Config{Entrypoint: []string{c.own}})
		n.pull(ref)
		p := n.sandbox(n.podOf("id"))
		p.Spec.Containers[0].Command = []string{c.runs}
		l := n.launch(p, 0)
		l.Image, l.Digest, l.Command = ref, d, []string{c.runs}
		if err := n.Start(ctx(t), l); err != nil {
			t.Fatal(err)
		}
		if got := n.exit(p, "main"); got.ExitCode != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.name, got.ExitCode, c.code, n.log(p, "main", 0))
		}
	}
}
