//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/shoal-dev/shoal/internal/images"
)

// registries are one registry that each machine of a ring reaches at 127.0.0.1:5001, with the test program as "probe:v1"; closed
// makes it unreachable from all.
func (r *ring) registries() (closed *atomic.Bool) {
	r.t.Helper()
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	serve := func(l net.Listener, h http.Handler) string {
		server := &http.Server{Handler: h}
		go func() { _ = server.Serve(l) }()
		r.t.Cleanup(func() { server.Close() })
		return l.Addr().String()
	}
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	img, err := (&images.Builder{}).Image(context.Background(), "probe", "v1")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := images.Push(context.Background(), serve(outside, store)+"/probe:v1", img); err != nil {
		r.t.Fatal(err)
	}
	closed = &atomic.Bool{}
	for _, n := range r.nodes {
		var inside net.Listener
		if err := n.within(func() (err error) { inside, err = net.Listen("tcp", "127.0.0.1:5001"); return err }); err != nil {
			r.t.Fatal(err)
		}
		serve(inside, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if closed.Load() {
				http.Error(w, "closed", http.StatusServiceUnavailable)
				return
			}
			store.ServeHTTP(w, q)
		}))
	}
	return closed
}

// An image is on one machine more than runs it, before anything is lost: so when a machine is lost and the registry with it, its
// pod starts where the image is.
func TestFeature_R2_ImagesAhead(t *testing.T) {
	r := newRing(t, 3)
	closed := r.registries()
	for _, n := range r.nodes { // nothing is fetched ahead to a disk that is nearly full, as that of a busy test machine may be
		n.must("mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", filepath.Dir(n.Data))
	}
	r.start()
	first := r.nodes[0]
	app := strings.Replace(replicated("one"), "shoal.local/probe:v1", "127.0.0.1:5001/probe:v1", 1)
	repo := first.Repository(map[string]string{"apps/web/web.cue": strings.Replace(app, "replicas: 3", "replicas: 2", 1)})
	repo.Push("first")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 2) })
	begun := time.Now()
	on := podsOn(first.Status())
	var spare *Node
	for _, n := range r.nodes {
		if on[n.name] == 0 {
			spare = n
		}
	}
	if spare == nil {
		t.Fatalf("two pods are on %v", on)
	}
	const said = "image fetched ahead of need"
	first.Eventually(60*time.Second, func() error {
		if !strings.Contains(spare.output.String(), said) {
			return fmt.Errorf("%s has not fetched the image", spare.name)
		}
		return nil
	})
	t.Logf("%s has the image %s after the others run it", spare.name, time.Since(begun).Round(time.Millisecond))
	closed.Store(true)
	for _, n := range r.nodes {
		if got := strings.Count(n.output.String(), said); n != spare && got > 0 {
			t.Errorf("%s fetched %d images ahead of need", n.name, got)
		}
	}
	lost := r.nodes[1]
	if lost == spare {
		lost = r.nodes[2]
	}
	lost.powerOff()
	begun = time.Now()
	spare.Eventually(30*time.Second, func() error {
		if err := spare.readyOff(lost.name, "web-", 2); err != nil {
			return err
		}
		if on := podsOn(spare.Status()); on[spare.name] != 1 {
			return fmt.Errorf("ready pods: %v", on)
		}
		return nil
	})
	t.Logf("its substitute is ready on %s, without a registry, %s after a machine was lost", spare.name, time.Since(begun).Round(time.Millisecond))
	if got := strings.Count(spare.output.String(), said); got != 1 {
		t.Errorf("%s says %d times that it fetched it", spare.name, got)
	}
}
