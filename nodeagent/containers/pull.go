package containers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Auth is what a registry wants to know before it gives an image out.
type Auth struct {
	Host     string // "registry.example.com:5000"; "docker.io" for Docker Hub
	Username string
	Password string
	Token    string // an identity token instead of the two
}

// Limits on what a registry may send.
const (
	resolveTimeout = 30 * time.Second
	maxIndex       = 1000      // manifests in an index
	maxLayers      = 500       // layers in a manifest
	maxBlobs       = 1000      // of all kinds that one image leads to
	maxLayerBytes  = 16 << 30  // one layer, compressed
	pullTimeout    = time.Hour // all of it
)

// Resolve asks the registry, or the node's own store, for the digest of ref. A digest in ref is returned as it
// is.
func (r *Runtime) Resolve(ctx context.Context, ref string, auth []Auth) (string, error) {
	named, err := normal(ref)
	if err != nil {
		return "", err
	}
	if d, ok := named.(reference.Digested); ok {
		return d.Digest().String(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	if isLocal(named) {
		rec, err := r.client.ImageService().Get(ctx, named.String())
		if errdefs.IsNotFound(err) {
			return "", errNotLocal(ref)
		}
		if err != nil {
			return "", fmt.Errorf("resolve image %s: %w", ref, err)
		}
		return rec.Target.Digest.String(), nil
	}
	_, desc, err := resolver(auth).Resolve(ctx, named.String())
	if err != nil {
		return "", fmt.Errorf("resolve image %s: %w", ref, err)
	}
	return desc.Digest.String(), nil
}

// Pull makes an image ready to run: fetched as far as it is not here, unpacked, and synced to the disk. It gives
// the digest it is known by from now on. With a digest exactly that is pulled, whatever the tag says by
// now. progress, which may be nil, is told the bytes of layers that are here and those known of.
func (r *Runtime) Pull(ctx context.Context, ref, dgst string, auth []Auth, progress func(done, total int64)) (string, error) {
	named, err := normal(ref)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	if dgst == "" {
		if dgst, err = r.Resolve(ctx, ref, auth); err != nil {
			return "", err
		}
	}
	d, err := digest.Parse(dgst)
	if err != nil {
		return "", fmt.Errorf("pull image %s: digest %q: %w", ref, dgst, err)
	}
	defer r.store.pulls.lock(dgst)()
	if _, err := r.store.get(ctx, d); err == nil {
		return dgst, nil
	}
	// What is fetched and unpacked is on a lease until the view at the end keeps it.
	ctx, release, err := r.client.WithLease(ctx, leases.WithRandomID(), leases.WithExpiration(pullTimeout))
	if err != nil {
		return "", fmt.Errorf("pull image %s: %w", ref, err)
	}
	defer func() { _ = release(context.WithoutCancel(ctx)) }()
	target, err := r.bring(ctx, named, d, auth, progress)
	if err != nil && ctx.Err() == nil {
		// What is here already is not fetched: if that is what is wrong, it goes, and comes anew.
		damaged, herr := r.dropDamaged(ctx, d)
		if len(damaged) > 0 {
			r.o.Log.Warn("blobs of an image were damaged, they are fetched again", "image", ref, "blobs", damaged)
			target, err = r.bring(ctx, named, d, auth, progress)
		}
		err = errors.Join(err, herr)
	}
	if err != nil {
		return "", fmt.Errorf("pull image %s: %w", ref, err)
	}
	for _, name := range []string{pinName(d), tagName(named)} {
		if name == "" {
			continue
		}
		if err := r.putImage(ctx, images.Image{Name: name, Target: target}); err != nil {
			return "", fmt.Errorf("pull image %s: %w", ref, err)
		}
	}
	if err := r.store.open(ctx, d); err != nil {
		return "", fmt.Errorf("pull image %s: %w", ref, err)
	}
	return dgst, nil
}

// bring makes an image of this digest whole and unpacked: fetched as far as it is not here.
func (r *Runtime) bring(ctx context.Context, named reference.Named, d digest.Digest, auth []Auth, progress func(done, total int64)) (target ocispec.Descriptor, err error) {
	if isLocal(named) {
		target, err = r.bringLocal(ctx, named, d, progress)
	} else {
		target, err = r.fetch(ctx, named, d, resolver(auth), progress)
	}
	if err != nil {
		return target, err
	}
	if err := r.unpack(ctx, images.Image{Name: pinName(d), Target: target}); err != nil {
		return target, err
	}
	_, _, err = r.store.read(ctx, d)
	return target, err
}

// fetch brings manifests, config and layers for this machine into the store.
func (r *Runtime) fetch(ctx context.Context, named reference.Named, d digest.Digest, from remotes.Resolver, progress func(done, total int64)) (ocispec.Descriptor, error) {
	exact, err := reference.WithDigest(reference.TrimNamed(named), d)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	count := &counter{tell: progress, seen: map[digest.Digest]bool{}}
	defer r.watchParts(ctx, count)()
	img, err := r.client.Fetch(ctx, exact.String(),
		containerd.WithResolver(from),
		containerd.WithPlatformMatcher(platforms.Default()),
		containerd.WithMaxConcurrentDownloads(3),
		containerd.WithImageHandlerWrapper(func(h images.Handler) images.Handler {
			return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
				if desc.Size > maxLayerBytes || !images.IsLayerType(desc.MediaType) && desc.Size > manifestBytes {
					return nil, fmt.Errorf("%s %s has %d bytes: more than is allowed", desc.MediaType, desc.Digest, desc.Size)
				}
				if count.add(desc, 0) > maxBlobs {
					return nil, fmt.Errorf("%s leads to more than %d blobs: more than is allowed", d, maxBlobs)
				}
				children, err := h.Handle(ctx, desc)
				if err != nil {
					return nil, err
				}
				if len(children) > maxIndex || images.IsManifestType(desc.MediaType) && len(children) > maxLayers {
					return nil, fmt.Errorf("%s %s has %d parts: more than is allowed", desc.MediaType, desc.Digest, len(children))
				}
				count.add(desc, desc.Size)
				return children, nil
			})
		}))
	if err != nil {
		r.abandon(ctx, count, err)
		return ocispec.Descriptor{}, err
	}
	// The reference we asked by is no name that we keep: the digest and the tag are.
	if img.Name != pinName(d) {
		_ = r.client.ImageService().Delete(ctx, img.Name)
	}
	return img.Target, nil
}

// resumable is how large a part of a blob must be to be kept after a broken connection, for the next pull to go on with.
const resumable = 8 << 20

// abandon removes what a failed pull left half written: all of it where the next pull must not go on with it, because
// the bytes are not what was promised, filled the disk, or the registry gives no rest; else what is small.
func (r *Runtime) abandon(ctx context.Context, count *counter, why error) {
	spoilt := false
	for _, word := range []string{"failed precondition", "no space left on device", "416 Requested Range"} {
		spoilt = spoilt || strings.Contains(why.Error(), word)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), imageTimeout)
	defer cancel()
	store := r.client.ContentStore()
	parts, err := store.ListStatuses(ctx)
	if err != nil {
		r.o.Log.Warn("clean up after a failed pull", "err", err)
		return
	}
	for _, part := range parts {
		// A part is called "layer-sha256:...": what it is to become is in no other field.
		_, name, _ := strings.Cut(part.Ref, "-")
		if !count.has(digest.Digest(name)) || !spoilt && part.Offset >= resumable {
			continue
		}
		if err := store.Abort(ctx, part.Ref); err != nil && !errdefs.IsNotFound(err) {
			r.o.Log.Warn("clean up after a failed pull", "part", part.Ref, "err", err)
		}
	}
}

// unpack makes snapshots of the layers, each synced to the disk before it counts: after a power loss a layer is
// whole or is unpacked again.
func (r *Runtime) unpack(ctx context.Context, rec images.Image) error {
	img := containerd.NewImageWithPlatform(r.client, rec, platforms.Default())
	return img.Unpack(ctx, snapshotter, containerd.WithUnpackApplyOpts(diff.WithSyncFs(true)))
}

func (r *Runtime) putImage(ctx context.Context, rec images.Image) error {
	_, err := r.client.ImageService().Create(ctx, rec)
	if errdefs.IsAlreadyExists(err) {
		_, err = r.client.ImageService().Update(ctx, rec)
	}
	return err
}

// pinName is the image name that keeps an image's content by its digest.
func pinName(d digest.Digest) string { return d.String() }

// tagName is the name under which a pulled tag is found again; "" for a reference without a tag. In the node's
// own store tags are the registry's to move.
func tagName(named reference.Named) string {
	if _, ok := named.(reference.Tagged); !ok || isLocal(named) {
		return ""
	}
	return named.String()
}

// resolver speaks with registries: https, and plain http with this machine itself.
func resolver(auth []Auth) remotes.Resolver {
	client := &http.Client{Transport: transport}
	authorizer := docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(func(host string) (string, string, error) {
		for _, a := range auth {
			if sameHost(a.Host, host) {
				if a.Token != "" {
					return "", a.Token, nil
				}
				return a.Username, a.Password, nil
			}
		}
		return "", "", nil
	}))
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(
			docker.WithPlainHTTP(onThisMachine),
			docker.WithClient(client),
			docker.WithAuthorizer(authorizer)),
	})
}

// transport is shared, so that connections are used again.
var transport = &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
	MaxIdleConns:          10,
	IdleConnTimeout:       30 * time.Second,
	TLSHandshakeTimeout:   10 * time.Second,
	ResponseHeaderTimeout: 30 * time.Second,
	ExpectContinueTimeout: 5 * time.Second,
}

// onThisMachine tells whether a registry's host is loopback, where plain http is spoken.
func onThisMachine(host string) (bool, error) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true, nil
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return ip != nil && ip.IsLoopback(), nil
}

// sameHost compares a registry's name in a credential with the host that is asked.
func sameHost(want, host string) bool {
	want = strings.TrimPrefix(strings.TrimPrefix(want, "https://"), "http://")
	want, _, _ = strings.Cut(want, "/")
	hub := map[string]bool{"docker.io": true, "index.docker.io": true, "registry-1.docker.io": true}
	return want == host || hub[want] && hub[host]
}

// counter adds up the bytes of what is fetched. A descriptor counts once, when it is heard of and when it is here.
type counter struct {
	tell func(done, total int64)

	mu          sync.Mutex // guards what follows
	seen        map[digest.Digest]bool
	done, total int64
	way         int64 // bytes of blobs that are not here wholly
}

func (c *counter) has(d digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[d]
}

// add returns how many blobs are known of.
func (c *counter) add(desc ocispec.Descriptor, done int64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seen[desc.Digest] {
		c.seen[desc.Digest] = true
		c.total += desc.Size
	}
	c.done += done
	c.say()
	return len(c.seen)
}

// under says how many bytes of what is fetched now are here already.
func (c *counter) under(way int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.way = way
	c.say()
}

func (c *counter) say() {
	if c.tell != nil {
		c.tell(min(c.done+c.way, c.total), c.total)
	}
}

// partsEvery is how often a pull looks how far its blobs are.
const partsEvery = 200 * time.Millisecond

// watchParts counts the bytes of blobs that are under way, where somebody wants to know; the function it returns ends
// that.
func (r *Runtime) watchParts(ctx context.Context, c *counter) (end func()) {
	if c.tell == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(partsEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			parts, err := r.client.ContentStore().ListStatuses(ctx)
			if err != nil {
				continue
			}
			var way int64
			for _, part := range parts {
				if _, name, _ := strings.Cut(part.Ref, "-"); c.has(digest.Digest(name)) {
					way += part.Offset
				}
			}
			c.under(way)
		}
	}()
	return func() { cancel(); <-ended }
}
