package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ingests begins the name of every upload in containerd's store.
const ingests = "shoal-registry-"

// uploads are the sessions under way.
type uploads struct {
	mu   sync.Mutex // guards open
	open map[string]*upload
}

// upload is one session. Whoever holds turn has the other fields to himself.
type upload struct {
	id     string
	repo   string
	turn   chan struct{} // holds one token
	writer content.Writer
	size   int64
	used   time.Time
	over   bool
	cancel context.CancelFunc
}

// session is an upload in the hands of one request: an ociregistry.BlobWriter.
type session struct {
	*upload
	server *Server
	ctx    context.Context
	given  bool // turn was given back
}

var errBusy = ociregistry.NewError("another request writes to this upload", "BLOB_UPLOAD_INVALID", nil)

// begin opens a session and takes its turn.
func (s *Server) begin(ctx context.Context, repo string) (*session, error) {
	if !validName(repo) {
		return nil, ociregistry.ErrNameInvalid
	}
	u := &upload{id: rand.Text(), repo: repo, turn: make(chan struct{}, 1), used: time.Now()}
	s.uploads.mu.Lock()
	if len(s.uploads.open) >= s.opt.MaxUploads {
		s.uploads.mu.Unlock()
		return nil, fmt.Errorf("%w: %d uploads are under way", ociregistry.ErrTooManyRequests, s.opt.MaxUploads)
	}
	s.uploads.open[u.id] = u
	s.uploads.mu.Unlock()
	// The writer outlives the request, as the session does.
	life, cancel := context.WithCancel(s.in(context.WithoutCancel(ctx)))
	u.cancel = cancel
	var err error
	if u.writer, err = s.opt.Content.Writer(life, content.WithRef(ingests+u.id)); err != nil {
		s.forget(u)
		return nil, fmt.Errorf("open upload: %w", err)
	}
	return &session{upload: u, server: s, ctx: ctx}, nil
}

// resume takes the turn of a session, waiting a little for a request whose client is gone.
func (s *Server) resume(ctx context.Context, repo, id string) (*session, error) {
	s.uploads.mu.Lock()
	u := s.uploads.open[id]
	s.uploads.mu.Unlock()
	if u == nil || u.repo != repo {
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case <-u.turn:
	case <-patience.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if u.over {
		u.turn <- struct{}{}
		return nil, ociregistry.ErrBlobUploadUnknown
	}
	return &session{upload: u, server: s, ctx: ctx}, nil
}

func (b backend) PushBlobChunked(ctx context.Context, repo string, _ int) (ociregistry.BlobWriter, error) {
	return b.begin(ctx, repo)
}

func (b backend) PushBlobChunkedResume(ctx context.Context, repo, id string, offset int64, _ int) (ociregistry.BlobWriter, error) {
	w, err := b.resume(ctx, repo, id)
	if err != nil {
		return nil, err
	}
	// 0 also stands for a request that names no range: it goes on where the last one ended.
	if offset > 0 && offset != w.size {
		defer w.Close()
		return nil, fmt.Errorf("%w: it begins at byte %d, expected %d", ociregistry.ErrRangeInvalid, offset, w.size)
	}
	return w, nil
}

func (b backend) PushBlob(ctx context.Context, repo string, desc ociregistry.Descriptor, r io.Reader) (ociregistry.Descriptor, error) {
	w, err := b.begin(ctx, repo)
	if err != nil {
		return ociregistry.Descriptor{}, err
	}
	defer func() { _ = w.Cancel() }() // nothing is lost with it
	if _, err := io.Copy(w, r); err != nil {
		return ociregistry.Descriptor{}, err
	}
	if desc.Size >= 0 && desc.Size != w.size {
		return ociregistry.Descriptor{}, ociregistry.ErrSizeInvalid
	}
	return w.Commit(desc.Digest)
}

func (w *session) Write(p []byte) (int, error) {
	if w.size+int64(len(p)) > w.server.opt.MaxBlob {
		err := fmt.Errorf("%w: more than %d bytes", ociregistry.ErrSizeInvalid, w.server.opt.MaxBlob)
		note(w.ctx, err)
		return 0, err
	}
	n, err := w.writer.Write(p)
	w.size += int64(n)
	w.used = time.Now()
	return n, err
}

func (w *session) Size() int64    { return w.size }
func (w *session) ChunkSize() int { return 64 << 10 }
func (w *session) ID() string     { return w.id }

// Close gives the turn back; the session goes on.
func (w *session) Close() error {
	if !w.given {
		w.given, w.used = true, time.Now()
		w.turn <- struct{}{}
	}
	return nil
}

// Commit makes the bytes content if they have the digest. The session is over either way.
func (w *session) Commit(d ociregistry.Digest) (ociregistry.Descriptor, error) {
	if err := d.Validate(); err != nil {
		return ociregistry.Descriptor{}, fmt.Errorf("%w: %w", ociregistry.ErrDigestInvalid, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return ociregistry.Descriptor{}, fmt.Errorf("%w: expected sha256", ociregistry.ErrDigestInvalid)
	}
	ctx := w.server.in(w.ctx)
	err := w.server.protect(ctx, d) // first, so that no collection comes in between
	if err == nil {
		err = w.writer.Commit(ctx, w.size, d)
	}
	if errdefs.IsAlreadyExists(err) {
		err = nil
	}
	size := w.size
	w.end()
	switch {
	case errdefs.IsFailedPrecondition(err):
		return ociregistry.Descriptor{}, fmt.Errorf("%w: %w", ociregistry.ErrDigestInvalid, err)
	case err != nil:
		return ociregistry.Descriptor{}, fmt.Errorf("commit upload: %w", err)
	}
	return ocispec.Descriptor{MediaType: octets, Digest: d, Size: size}, nil
}

// Cancel ends the session and deletes its bytes. After a Commit it does nothing.
func (w *session) Cancel() error {
	w.end()
	return w.Close()
}

// end is called by who has the turn.
func (w *session) end() {
	if !w.over {
		w.server.drop(w.ctx, w.upload)
	}
}

// drop closes an upload and deletes what is left of it; the caller has its turn.
func (s *Server) drop(ctx context.Context, u *upload) {
	u.over = true
	u.writer.Close()
	ctx, cancel := context.WithTimeout(s.in(context.WithoutCancel(ctx)), 10*time.Second)
	defer cancel()
	if err := s.opt.Content.Abort(ctx, ingests+u.id); err != nil && !errdefs.IsNotFound(err) {
		s.opt.Log.WarnContext(ctx, "upload was not deleted", "err", err)
	}
	s.forget(u)
}

func (s *Server) forget(u *upload) {
	u.cancel()
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	delete(s.uploads.open, u.id)
}

// expire gives up idle uploads until ctx ends, and then all.
func (s *Server) expire(ctx context.Context) {
	tick := time.NewTicker(max(s.opt.Idle/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for _, u := range s.all() {
				select {
				case <-u.turn:
					s.giveUp(u)
				case <-time.After(5 * time.Second): // its request does not end: its bytes go at the next start
				}
			}
			return
		case <-tick.C:
		}
		for _, u := range s.all() {
			select {
			case <-u.turn:
				if time.Since(u.used) > s.opt.Idle {
					s.giveUp(u)
					continue
				}
				u.turn <- struct{}{}
			default: // a request has it
			}
		}
	}
}

func (s *Server) giveUp(u *upload) {
	if !u.over {
		s.drop(context.Background(), u)
	}
	u.turn <- struct{}{}
}

func (s *Server) all() []*upload {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	var all []*upload
	for _, u := range s.uploads.open {
		all = append(all, u)
	}
	return all
}

// abortOld deletes the uploads of former processes.
func (s *Server) abortOld(ctx context.Context) error {
	old, err := s.opt.Content.ListStatuses(ctx)
	if err != nil {
		return err
	}
	for _, o := range old {
		if !strings.HasPrefix(o.Ref, ingests) {
			continue
		}
		if e := s.opt.Content.Abort(ctx, o.Ref); e != nil && !errdefs.IsNotFound(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}
