package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// Backend is what the commands ask for.
type Backend interface {
	nodesBackend
	downBackend
	planBackend
	promoteBackend
	PodsBackend
	Status(ctx context.Context) (Status, error)
	Why(ctx context.Context, kind, namespace, name string) (Why, error)
	Events(ctx context.Context, object string) ([]string, error)
	Manifest(ctx context.Context, environment string) ([]byte, error) // of what is active
	Blob(ctx context.Context, digest string) ([]byte, error)
}

// PodsBackend is what is asked of the pods on a node.
type PodsBackend interface {
	Logs(ctx context.Context, namespace, pod string, o LogOptions, stdout, stderr io.Writer) error
	Exec(ctx context.Context, namespace, pod string, o ExecRequest, s Streams) (exit int, err error)
}

// ErrNotFound is wrapped by a Backend where what was asked for does not exist.
var ErrNotFound = errors.New("not found")

const (
	maxRequest    = 64 << 20 // bytes of a request's body: a plan of a large repository
	headerTimeout = 10 * time.Second
)

// Server answers on the agent's socket.
type Server struct {
	pods PodsBackend
	log  *slog.Logger
	http *http.Server
}

// NewServer makes a server; Serve starts it.
func NewServer(b Backend, log *slog.Logger) *Server {
	s := &Server{pods: b, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.answer(func(r *http.Request) (any, error) { return b.Status(r.Context()) }))
	mux.HandleFunc("GET /v1/why", s.answer(func(r *http.Request) (any, error) {
		q := r.URL.Query()
		return b.Why(r.Context(), q.Get("kind"), q.Get("namespace"), q.Get("name"))
	}))
	mux.HandleFunc("GET /v1/events", s.answer(func(r *http.Request) (any, error) {
		return b.Events(r.Context(), r.URL.Query().Get("object"))
	}))
	mux.HandleFunc("GET /v1/environments/{name}/manifest", s.answer(func(r *http.Request) (any, error) {
		return b.Manifest(r.Context(), r.PathValue("name"))
	}))
	mux.HandleFunc("GET /v1/blobs/{digest}", s.answer(func(r *http.Request) (any, error) {
		return b.Blob(r.Context(), r.PathValue("digest"))
	}))
	s.plans(mux, b)
	s.promotions(mux, b)
	s.nodes(mux, b)
	s.down(mux, b)
	mux.HandleFunc("GET /debug/pprof/{name}", s.profile)
	return s.handle(mux)
}

// NewPodsServer makes a server for other nodes, which ask for nothing but the pods that are here.
func NewPodsServer(b PodsBackend, log *slog.Logger) *Server {
	s := &Server{pods: b, log: log}
	return s.handle(http.NewServeMux())
}

// handle completes a server with what both answer.
func (s *Server) handle(mux *http.ServeMux) *Server {
	mux.HandleFunc("GET /v1/pods/{namespace}/{name}/logs", s.logs)
	mux.HandleFunc("POST /v1/pods/{namespace}/{name}/exec", s.exec)
	s.http = &http.Server{
		Handler:           http.MaxBytesHandler(mux, maxRequest),
		ReadHeaderTimeout: headerTimeout,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	return s
}

// Listen opens the socket at path, which only root and the group shoal may use. What a dead agent left is removed.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, fmt.Errorf("socket: %s is something else: %s", path, info.Mode())
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("socket: another agent answers at %s", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("socket: %w", err)
	}
	if g, err := user.LookupGroup("shoal"); err == nil {
		if gid, err := strconv.Atoi(g.Gid); err == nil {
			err = os.Chown(path, 0, gid)
			if err != nil {
				l.Close()
				return nil, fmt.Errorf("socket: %w", err)
			}
		}
	}
	return l, nil
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// answer sends a value as JSON, or an error with a status that fits it.
func (s *Server) answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			s.log.DebugContext(r.Context(), "answer not sent", "err", err)
		}
	}
}

func refuse(w http.ResponseWriter, err error) {
	code := http.StatusBadRequest
	if errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = http.StatusNotFound
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(Error{Message: err.Error()})
}

// logs sends frames of stdout and stderr, then one with the error if there was one.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := LogOptions{
		Container: q.Get("container"), Follow: q.Get("follow") != "", Previous: q.Get("previous") != "",
		Timestamps: q.Get("timestamps") != "", Tail: -1,
	}
	if t := q.Get("tail"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 0 {
			refuse(w, fmt.Errorf("tail: %q is not a number of lines", t))
			return
		}
		o.Tail = n
	}
	if t := q.Get("since"); t != "" {
		at, err := time.Parse(time.RFC3339Nano, t)
		if err != nil {
			refuse(w, fmt.Errorf("since: %w", err))
			return
		}
		o.Since = at
	}
	out := &frameWriter{w: w, flush: http.NewResponseController(w).Flush}
	err := s.pods.Logs(r.Context(), r.PathValue("namespace"), r.PathValue("name"), o, out.channel(chanStdout), out.channel(chanStderr))
	if err != nil && r.Context().Err() == nil {
		if !out.begun() {
			refuse(w, err)
			return
		}
		_, _ = out.channel(chanError).Write([]byte(err.Error()))
	}
}
