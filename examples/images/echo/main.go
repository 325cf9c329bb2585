// Command echo answers every request with what it was: pod, method, host, path and headers, as JSON. It
// listens on localhost only, for a proxy in the same pod.
//
// Environment: ADDR (default 127.0.0.1:8081), VERSION (in the answer), DRAIN (how long it goes on answering
// after SIGTERM, default 0s).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// answer is what a request was.
type answer struct {
	Pod     string              `json:"pod"`
	Version string              `json:"version,omitempty"`
	Method  string              `json:"method"`
	Host    string              `json:"host"`
	Path    string              `json:"path"`
	Query   string              `json:"query,omitempty"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body,omitempty"` // the first 64 KiB
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		slog.Error("echo ended", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, env func(string) string) error {
	drain, err := time.ParseDuration(or(env("DRAIN"), "0s"))
	if err != nil {
		return fmt.Errorf("DRAIN: %w", err)
	}
	listener, err := net.Listen("tcp", or(env("ADDR"), "127.0.0.1:8081"))
	if err != nil {
		return err
	}
	web := &http.Server{Handler: handler(env("VERSION")), ReadHeaderTimeout: 10 * time.Second}
	slog.Info("listening", "addr", listener.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	time.Sleep(drain)
	grace, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return web.Shutdown(grace)
}

func handler(version string) http.Handler {
	pod, err := os.Hostname()
	if err != nil {
		pod = "unknown"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(answer{
			Pod: pod, Version: version, Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery,
			Headers: r.Header, Body: string(body),
		})
	})
	return mux
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
