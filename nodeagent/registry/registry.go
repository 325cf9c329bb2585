package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Options say which store is served, to whom, and how much of it.
type Options struct {
	Content   content.Store  // required
	Images    images.Store   // required
	Leases    leases.Manager // required
	Namespace string         // of containerd; required
	Host      string         // registry part of image names; default shoal.local
	Token     string         // every request must carry it; "" serves loopback alone

	MaxBlob     int64         // bytes of one blob; default 32 GiB
	MaxManifest int64         // bytes of one manifest; default 4 MiB
	MaxUploads  int           // under way at once; default 64
	Idle        time.Duration // after which an upload is given up; default 10 minutes
	Stall       time.Duration // longest wait for the next bytes of a request; default 1 minute
	Keep        time.Duration // how long unreferenced content stays; default 1 hour

	// Inside says that whoever asks has been let in already, by what this server is mounted in. Pushes are refused.
	Inside bool
	// Agree is asked before a tag is set, when all that it leads to is safely on disk; an error refuses the push.
	Agree  func(ctx context.Context, name, digest string) error
	Pushed func(name, digest string) // told of every tag that was set; may be nil; must not block
	Log    *slog.Logger              // default: discard
}

// Server is the registry as an http.Handler for the site's root.
type Server struct {
	opt     Options
	handler http.Handler
	stop    context.CancelFunc
	done    sync.WaitGroup
	uploads uploads
	window  window
}

// backend implements ociregistry.Interface; what it lacks is unsupported.
type backend struct {
	*ociregistry.Funcs
	*Server
}

// New deletes uploads that a former process left and starts to expire idle ones; Close ends that.
func New(ctx context.Context, opt Options) (*Server, error) {
	if opt.Content == nil || opt.Images == nil || opt.Leases == nil || opt.Namespace == "" {
		return nil, errors.New("open registry: Content, Images, Leases and Namespace are required")
	}
	setDefault(&opt.Host, "shoal.local")
	setDefault(&opt.MaxBlob, 32<<30)
	setDefault(&opt.MaxManifest, 4<<20)
	setDefault(&opt.MaxUploads, 64)
	setDefault(&opt.Idle, 10*time.Minute)
	setDefault(&opt.Stall, time.Minute)
	setDefault(&opt.Keep, time.Hour)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: opt, uploads: uploads{open: map[string]*upload{}}}
	if err := s.abortOld(s.in(ctx)); err != nil {
		return nil, fmt.Errorf("open registry: delete old uploads: %w", err)
	}
	s.handler = ociserver.New(backend{&ociregistry.Funcs{}, s}, &ociserver.Options{WriteError: s.writeError, MaxListPageSize: 10_000})
	life, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() { s.expire(life) })
	return s, nil
}

// Close gives up all uploads.
func (s *Server) Close() error {
	s.stop()
	s.done.Wait()
	return nil
}

// ServeHTTP admits a request, bounds it and hands it on.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.admit(w, r) {
		return
	}
	if p := r.URL.Path; strings.HasSuffix(p, "/") && p != "/v2/" && !strings.HasSuffix(p, "/blobs/uploads/") {
		s.writeError(w, r, ociregistry.ErrNameUnknown) // the library's parser panics on an empty tag
		return
	}
	of := &fault{}
	r = r.WithContext(context.WithValue(s.in(r.Context()), fault{}, of))
	if r.Method == http.MethodPut || r.Method == http.MethodPost || r.Method == http.MethodPatch {
		limit := s.opt.MaxBlob
		isManifest := strings.Contains(r.URL.Path, "/manifests/")
		if isManifest {
			limit = s.opt.MaxManifest
		}
		if r.ContentLength > limit {
			s.writeError(w, r, fmt.Errorf("%w: %d bytes, expected %d at most", ociregistry.ErrSizeInvalid, r.ContentLength, limit))
			return
		}
		r.Body = &body{ReadCloser: http.MaxBytesReader(w, r.Body, limit), rc: http.NewResponseController(w), stall: s.opt.Stall, of: of}
		if isManifest {
			if err := readManifest(r); err != nil {
				s.writeError(w, r, err)
				return
			}
		}
	}
	if r.Method == http.MethodPost && r.URL.Query().Has("mount") {
		s.orUpload(r)
	}
	s.handler.ServeHTTP(w, r)
}

// readManifest takes a manifest in whole and refuses what is no JSON of its shape: the library would call that our
// fault.
func readManifest(r *http.Request) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err // noted by the body
	}
	if err := json.Unmarshal(data, new(manifest)); err != nil {
		return fmt.Errorf("%w: %w", ociregistry.ErrManifestInvalid, err)
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	return nil
}

// orUpload makes a mount of a blob that is not here an upload, as the specification wants it.
func (s *Server) orUpload(r *http.Request) {
	q := r.URL.Query()
	d, err := digest.Parse(q.Get("mount"))
	if err == nil {
		_, err = s.opt.Content.Info(r.Context(), d)
	}
	if err != nil {
		u := *r.URL
		u.RawQuery = ""
		r.URL = &u
		return
	}
	if q.Get("from") == "" { // optional since 1.1: every name sees every blob
		q.Set("from", "any")
		u := *r.URL
		u.RawQuery = q.Encode()
		r.URL = &u
	}
}

// in puts a context into containerd's namespace.
func (s *Server) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, s.opt.Namespace)
}

// writeError answers with an error of the protocol, and logs what is no fault of the client's.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if of, ok := r.Context().Value(fault{}).(*fault); ok && of.err != nil {
		err = of.err
	}
	_, status := ociregistry.MarshalError(err)
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.opt.Log.ErrorContext(r.Context(), "registry request failed", "op", r.Method+" "+r.URL.Path, "err", err)
	}
	_ = ociregistry.WriteError(w, err)
}

// unknown turns containerd's "not found" into an error of the protocol.
func unknown(err error, is ociregistry.Error) error {
	if errdefs.IsNotFound(err) {
		return is
	}
	return err
}

func setDefault[T comparable](p *T, otherwise T) {
	var zero T
	if *p == zero {
		*p = otherwise
	}
}
