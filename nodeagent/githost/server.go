package githost

import (
	"compress/gzip"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Path is where the repository is served.
const Path = "/repo.git"

// Server answers git clients. It is an http.Handler.
type Server struct {
	opt     Options
	pushes  chan struct{}
	fetches chan struct{}
}

// New returns a server for opt.
func New(opt Options) (*Server, error) {
	opt = opt.WithDefaults()
	if err := opt.Check(); err != nil {
		return nil, err
	}
	return &Server{opt: opt, pushes: make(chan struct{}, opt.Limits.Pushes), fetches: make(chan struct{}, opt.Limits.Fetches)}, nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, Path)
	if !ok || path != "" && path[0] != '/' {
		http.Error(w, "no repository here; it is at "+Path, http.StatusNotFound)
		return
	}
	if !s.opt.Inside && !s.admit(w, r) {
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	h.Set("X-Content-Type-Options", "nosniff")
	switch {
	case r.Method == http.MethodPost && path == "/git-upload-pack":
		s.serve(w, r, "git-upload-pack", s.fetches, s.uploadPack)
	case s.opt.Inside && (path == "/git-receive-pack" || r.URL.Query().Get("service") == "git-receive-pack"):
		http.Error(w, "this is for reading alone", http.StatusForbidden)
	case r.Method == http.MethodGet && path == "/info/refs":
		s.advertise(w, r)
	case r.Method == http.MethodPost && path == "/git-receive-pack":
		s.serve(w, r, "git-receive-pack", s.pushes, s.receivePack)
	case path == "/git-upload-pack" || path == "/git-receive-pack" || path == "/info/refs":
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	default:
		http.Error(w, "this is a Git repository: git clone it", http.StatusNotFound)
	}
}

// admit says whether the request may go on, and answers it if not.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		http.Error(w, "requests of web pages are not served", http.StatusForbidden)
		return false
	}
	if s.opt.Token == "" {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !isLoopback(r.RemoteAddr) || host != "localhost" && !isLoopback(net.JoinHostPort(strings.Trim(host, "[]"), "0")) {
			http.Error(w, "without a token this server answers loopback addresses alone", http.StatusForbidden)
			return false
		}
		return true
	}
	_, given, _ := r.BasicAuth()
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		given = bearer
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.opt.Token))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="shoal"`)
		http.Error(w, "the token is missing or wrong: give it as password, or as bearer", http.StatusUnauthorized)
		return false
	}
	return true
}

func isLoopback(hostport string) bool {
	a, err := netip.ParseAddrPort(hostport)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// advertise answers info/refs.
func (s *Server) advertise(w http.ResponseWriter, r *http.Request) {
	service := r.URL.Query().Get("service")
	caps := ""
	switch service {
	case "git-upload-pack":
		caps = "multi_ack_detailed no-done side-band-64k ofs-delta shallow no-progress include-tag allow-reachable-sha1-in-want"
	case "git-receive-pack":
		caps = "report-status delete-refs side-band-64k ofs-delta no-thin atomic quiet"
	default:
		http.Error(w, "expected service=git-upload-pack or git-receive-pack; dumb HTTP is not served", http.StatusForbidden)
		return
	}
	caps += " object-format=sha1 agent=shoal"
	w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
	out := &pktWriter{w: w}
	out.linef("# service=%s\n", service)
	out.flush()
	refs := s.opt.Repo.Refs()
	head := ""
	for _, ref := range refs {
		if ref.Name == s.opt.Repo.DefaultRef() {
			head = string(ref.ID)
		}
	}
	first := true
	say := func(id, name string) {
		if first {
			out.linef("%s %s\x00%s\n", id, name, caps)
		} else {
			out.linef("%s %s\n", id, name)
		}
		first = false
	}
	if service == "git-upload-pack" {
		caps += " symref=HEAD:" + s.opt.Repo.DefaultRef()
		if head != "" {
			say(head, "HEAD")
		}
	}
	for _, ref := range refs {
		say(string(ref.ID), ref.Name)
	}
	if first {
		say(strings.Repeat("0", 40), "capabilities^{}")
	}
	for _, id := range s.opt.Repo.Shallow() {
		out.linef("shallow %s\n", id)
	}
	out.flush()
}

// serve prepares a request's two streams: a body that is bounded in bytes and in time, and an answer that is
// given up when the client takes nothing.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, service string, slots chan struct{}, answer func(*request)) {
	if got, want := r.Header.Get("Content-Type"), "application/x-"+service+"-request"; got != want {
		http.Error(w, "expected Content-Type "+want, http.StatusUnsupportedMediaType)
		return
	}
	select {
	case slots <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	q := &request{w: w, r: r, release: func() { <-slots }, control: http.NewResponseController(w)}
	defer q.free()
	q.out = &deadlineWriter{w: w, control: q.control, idle: s.opt.Limits.Idle}
	body := io.Reader(newPacedReader(r.Body, q.control, s.opt.Limits))
	switch enc := r.Header.Get("Content-Encoding"); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, "the body is not gzip", http.StatusBadRequest)
			return
		}
		body = z
	default:
		http.Error(w, fmt.Sprintf("Content-Encoding %.40q is not supported", enc), http.StatusUnsupportedMediaType)
		return
	}
	q.body = &limitedReader{r: body, left: s.opt.Limits.Body}
	w.Header().Set("Content-Type", "application/x-"+service+"-result")
	answer(q)
}

// request is one POST.
type request struct {
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	body    io.Reader
	out     io.Writer
	release func()
	freed   bool
}

// free gives the slot back; Pushed runs without one.
func (q *request) free() {
	if !q.freed {
		q.freed = true
		q.release()
	}
}

// limitedReader fails, rather than ends, past its limit.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("the request is longer than this server takes")
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// pacedReader gives up a client that stalls: nothing for Limits.Idle, less than Limits.MinRate over that time, or
// not done within Limits.Whole.
type pacedReader struct {
	r       io.Reader
	control *http.ResponseController
	limits  Limits
	end     time.Time
	window  time.Time
	got     int64 // bytes since window
	err     error // the first one: a client that was given up is not waited for again
}

func newPacedReader(r io.Reader, control *http.ResponseController, l Limits) *pacedReader {
	now := time.Now()
	return &pacedReader{r: r, control: control, limits: l, end: now.Add(l.Whole), window: now}
}

func (p *pacedReader) Read(b []byte) (n int, err error) {
	if p.err != nil {
		return 0, p.err
	}
	defer func() { p.err = err }()
	now := time.Now()
	if since := now.Sub(p.window); since > p.limits.Idle {
		if p.got < p.limits.MinRate*int64(since/time.Second) {
			return 0, fmt.Errorf("the client sends less than %d bytes a second", p.limits.MinRate)
		}
		p.window, p.got = now, 0
	}
	deadline := now.Add(p.limits.Idle)
	if p.end.Before(deadline) {
		deadline = p.end
	}
	_ = p.control.SetReadDeadline(deadline) // a connection without deadlines is a test's
	n, err = p.r.Read(b)
	p.got += int64(n)
	return n, err
}

// deadlineWriter writes through at once and gives up a client that takes nothing for idle.
type deadlineWriter struct {
	w       io.Writer
	control *http.ResponseController
	idle    time.Duration
}

func (d *deadlineWriter) Write(p []byte) (int, error) {
	_ = d.control.SetWriteDeadline(time.Now().Add(d.idle))
	return d.w.Write(p)
}
