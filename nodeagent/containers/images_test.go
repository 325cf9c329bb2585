package containers

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/shoal-dev/shoal/nodeagent/containers/containerstest"
)

func TestPull(t *testing.T) {
	n := newNode(t)
	host := containerstest.Registry(t)
	first := containerstest.Push(t, host, "app:1", map[string][]byte{"/version": []byte("1")}, v1.Config{Cmd: []string{"/bin/app"}, User: "5", StopSignal: "SIGINT"})
	ref := host + "/app:1"

	if present, _, err := n.Image(ref, ""); present || err != nil {
		t.Errorf("before the pull: %v, %v", present, err)
	}
	if d, err := n.Resolve(ctx(t), ref, nil); d != first || err != nil {
		t.Errorf("resolve: %s, %v", d, err)
	}
	var done, total atomic.Int64
	d, err := n.Pull(ctx(t), ref, "", nil, func(d, t int64) { done.Store(d); total.Store(t) })
	if d != first || err != nil || done.Load() == 0 || done.Load() != total.Load() {
		t.Errorf("pull: %s, %v, %d of %d bytes", d, err, done.Load(), total.Load())
	}
	present, config, err := n.Image(ref, "")
	if !present || err != nil || config.User != "5" || config.StopSignal != "SIGINT" || config.Cmd[0] != "/bin/app" {
		t.Errorf("after it: %v, %+v, %v", present, config, err)
	}

	// F-C8: the tag moves; the digest is what is run.
	second := containerstest.Push(t, host, "app:1", map[string][]byte{"/version": []byte("2")}, v1.Config{Cmd: []string{"/bin/app"}})
	if d, err := n.Pull(ctx(t), ref, first, nil, nil); d != first || err != nil {
		t.Errorf("pull by digest: %s, %v", d, err)
	}
	if d, err := n.Pull(ctx(t), ref, "", nil, nil); d != second || err != nil {
		t.Errorf("pull of the moved tag: %s, %v", d, err)
	}
	for _, d := range []string{first, second} {
		if present, _, err := n.Image(ref, d); !present || err != nil {
			t.Errorf("%s: %v, %v", d, present, err)
		}
	}
}

// TestLocalImages are those of the node's own store, which a registry writes.
func TestLocalImages(t *testing.T) {
	n := newNode(t)
	if _, err := n.Pull(ctx(t), "shoal.local/app:1", "", nil, nil); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "push it first") {
		t.Errorf("got %v", err)
	}
	rec, err := n.Images().Get(ctx(t), n.digest)
	mustNot(t, err)
	if _, err := n.Images().Create(ctx(t), images.Image{Name: "shoal.local/app:1", Target: rec.Target}); err != nil {
		t.Fatal(err)
	}
	if d, err := n.Resolve(ctx(t), "shoal.local/app:1", nil); d != n.digest || err != nil {
		t.Errorf("resolve: %s, %v", d, err)
	}
	if d, err := n.Pull(ctx(t), "shoal.local/app:1", n.digest, nil, nil); d != n.digest || err != nil {
		t.Errorf("pull: %s, %v", d, err)
	}
	if !IsLocal("shoal.local/app:1") || IsLocal("app:1") {
		t.Error("IsLocal")
	}
}

func TestCollectGarbage(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000")) // from n.digest, which nobody names below
	host := containerstest.Registry(t)
	digests := map[string]string{}
	for _, name := range []string{"kept", "dropped"} {
		digests[name] = containerstest.Push(t, host, name+":1", map[string][]byte{"/x": []byte(name)}, v1.Config{Cmd: []string{"x"}})
		n.pull(host + "/" + name + ":1")
	}
	mustNot(t, n.CollectGarbage(ctx(t), func(name string) bool { return name == digests["kept"] }))
	for name, want := range map[string]bool{digests["kept"]: true, digests["dropped"]: false, n.digest: true} {
		if present, _, err := n.Image("x", name); present != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", name, present, err, want)
		}
	}
	count := 0
	mustNot(t, n.Client().SnapshotService(snapshotter).Walk(ctx(t), func(context.Context, snapshots.Info) error { count++; return nil }))
	if count != 4 { // a layer and a view of each
		t.Errorf("%d snapshots are left", count)
	}
	mustNot(t, n.Start(ctx(t), n.launch(p, 1))) // the one in use still works
	mustNot(t, n.RemoveSandbox(ctx(t), p.ID))
	mustNot(t, n.CollectGarbage(ctx(t), func(string) bool { return false }))
	if recs, err := n.Images().List(ctx(t)); err != nil || len(recs) != 0 {
		t.Errorf("%d images are left, %v", len(recs), err)
	}
}

// lyingRegistry passes requests on to a good registry and lets change rewrite the answers.
func lyingRegistry(t *testing.T, good string, change func(path string, w http.ResponseWriter, body []byte) []byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, "http://"+good+r.URL.Path, nil)
		req.Header = r.Header
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		for _, h := range []string{"Content-Type", "Docker-Content-Digest"} {
			w.Header().Set(h, res.Header.Get(h))
		}
		if r.Method == http.MethodHead && res.Header.Get("Content-Length") != "" {
			w.Header().Set("Content-Length", res.Header.Get("Content-Length"))
		}
		if b = change(r.URL.Path, w, b); b == nil {
			return
		}
		w.WriteHeader(res.StatusCode)
		w.Write(b)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestFault_C6 has registries that refuse; what is here stays of use.
func TestFault_C6(t *testing.T) {
	n := newNode(t)
	for name, c := range map[string]struct {
		status int
		want   string
	}{"unauthorized": {401, "401"}, "absent": {404, "not found"}, "failing": {503, "503"}} {
		host := lyingRegistry(t, "127.0.0.1:1", func(string, http.ResponseWriter, []byte) []byte { return nil })
		host = lyingRegistry(t, host, func(_ string, w http.ResponseWriter, _ []byte) []byte {
			w.WriteHeader(c.status)
			return nil
		})
		short, cancel := context.WithTimeout(ctx(t), 20*time.Second)
		_, err := n.Pull(short, host+"/x:1", "", nil, nil)
		cancel()
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), c.want) {
			t.Errorf("%s: got %v, want something with %q", name, err, c.want)
		}
	}
	if _, err := n.Pull(ctx(t), "127.0.0.1:1/x:1", "", nil, nil); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
	// With the digest at hand a registry is not even asked.
	if d, err := n.Pull(ctx(t), "127.0.0.1:1/prog:1", n.digest, nil, nil); d != n.digest || err != nil {
		t.Errorf("an image that is here: %s, %v", d, err)
	}
}

// TestFault_C7 has a registry that sends other bytes than it promised.
func TestFault_C7(t *testing.T) {
	n := newNode(t)
	good := containerstest.Registry(t)
	for name, change := range map[string]func(path string, b []byte) []byte{
		"another manifest": func(path string, b []byte) []byte {
			if strings.Contains(path, "/manifests/") {
				return bytes.Replace(b, []byte("layers"), []byte("Layers"), 1)
			}
			return b
		},
		"a flipped bit": func(path string, b []byte) []byte {
			if strings.Contains(path, "/blobs/") && len(b) > 0 {
				b[len(b)/2] ^= 1
			}
			return b
		},
		"half a layer": func(path string, b []byte) []byte {
			if strings.Contains(path, "/blobs/") {
				return b[:len(b)/2]
			}
			return b
		},
	} {
		// One of its own: what an earlier lie left whole would not be asked for again.
		digest := containerstest.Push(t, good, "app:1", map[string][]byte{"/x": bytes.Repeat([]byte(name), 1000)}, v1.Config{Cmd: []string{"x"}})
		host := lyingRegistry(t, good, func(path string, _ http.ResponseWriter, b []byte) []byte { return change(path, b) })
		short, cancel := context.WithTimeout(ctx(t), 20*time.Second)
		_, err := n.Pull(short, host+"/app:1", digest, nil, nil)
		cancel()
		if err == nil {
			t.Errorf("%s: it was pulled", name)
		}
		if present, _, err := n.Image("app", digest); present || err != nil {
			t.Errorf("%s: present %v, %v", name, present, err)
		}
		if d, err := n.Pull(ctx(t), good+"/app:1", digest, nil, nil); d != digest || err != nil {
			t.Errorf("%s: then from a good registry: %s, %v", name, d, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	n := newNode(t)
	good := containerstest.Registry(t)
	digest := containerstest.Push(t, good, "app:1", map[string][]byte{"/x": nil}, v1.Config{Cmd: []string{"x"}})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "team" || pass != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, "http://"+good+r.URL.Path, nil)
		req.Header = r.Header.Clone()
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer res.Body.Close()
		for k := range res.Header {
			w.Header().Set(k, res.Header.Get(k))
		}
		w.WriteHeader(res.StatusCode)
		io.Copy(w, res.Body)
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	if _, err := n.Pull(ctx(t), host+"/app:1", "", []Auth{{Host: host, Username: "team", Password: "wrong"}}, nil); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong password: %v", err)
	}
	if d, err := n.Pull(ctx(t), host+"/app:1", "", []Auth{{Host: "other", Username: "x"}, {Host: host, Username: "team", Password: "secret"}}, nil); d != digest || err != nil {
		t.Errorf("with the right one: %s, %v", d, err)
	}
}

func TestReferences(t *testing.T) {
	for ref, want := range map[string]string{
		"nginx":                 "docker.io/library/nginx:latest",
		"team/app:2":            "docker.io/team/app:2",
		"localhost:5000/app":    "localhost:5000/app:latest",
		"shoal.local/app:3":     "shoal.local/app:3",
		"UPPER":                 "error",
		"":                      "error",
		"a b":                   "error",
		"x@sha256:1234":         "error",
		"registry.example/a/b:": "error",
	} {
		got := "error"
		if named, err := normal(ref); err == nil {
			got = named.String()
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", ref, got, want)
		}
	}
	for host, want := range map[string]bool{"localhost:5000": true, "127.0.0.9": true, "[::1]:5000": true, "registry.localhost": true, "example.com": false, "10.0.0.1:5000": false} {
		if got, _ := onThisMachine(host); got != want {
			t.Errorf("%s: got %v", host, got)
		}
	}
}

// A container whose tag was not known when its commit was activated, and one whose reference names the digest, start by what
// the reference leads to here.
func TestStartByReference(t *testing.T) {
	n := newNode(t)
	host, _, _ := strings.Cut(n.image, "/")
	for _, ref := range []string{n.image, host + "/prog@" + n.digest} {
		p := n.sandbox(n.podOf("exit", "3"))
		l := n.launch(p, 0)
		l.Image, l.Digest = ref, ""
		if err := n.Start(ctx(t), l); err != nil {
			t.Fatal(err)
		}
		if got := n.exit(p, "main"); got.ExitCode != 3 {
			t.Errorf("%s: %+v", ref, got)
		}
	}
	p := n.sandbox(n.podOf("exit", "0"))
	l := n.launch(p, 0)
	l.Image, l.Digest = host+"/other:1", ""
	if err := n.Start(ctx(t), l); err == nil || !strings.Contains(err.Error(), "image "+l.Image) {
		t.Errorf("an image that is not here: %v", err)
	}
}
