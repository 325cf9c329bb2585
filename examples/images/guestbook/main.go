// Command guestbook is a page that counts its visitors in Redis.
//
// Environment: REDIS (host:port, default redis:6379), ADDR (default :8080), VERSION and GREETING (shown on the
// page), DRAIN (how long it goes on answering after SIGTERM, default 0s).
package main

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/examples/images/resp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		slog.Error("guestbook ended", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, env func(string) string) error {
	drain, err := time.ParseDuration(or(env("DRAIN"), "0s"))
	if err != nil {
		return fmt.Errorf("DRAIN: %w", err)
	}
	redis := &resp.Client{Addr: or(env("REDIS"), "redis:6379")}
	defer redis.Close()
	listener, err := net.Listen("tcp", or(env("ADDR"), ":8080"))
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler:           handler(redis, or(env("GREETING"), "Welcome"), or(env("VERSION"), "unversioned")),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
	}
	slog.Info("listening", "addr", listener.Addr().String(), "redis", redis.Addr, "version", env("VERSION"))
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	slog.Info("asked to end", "drain", drain.String())
	time.Sleep(drain) // those who have not heard yet that this pod leaves are still answered
	grace, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return web.Shutdown(grace)
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Guestbook</title></head>
<body><h1>{{.Greeting}}</h1>
<p>You are visitor <strong id="count">{{.Count}}</strong>.</p>
<p>Guestbook {{.Version}} on {{.Host}}.</p></body></html>
`))

func handler(redis *resp.Client, greeting, version string) http.Handler {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		count, err := redis.Int(r.Context(), "INCR", "visitors")
		if err == nil {
			_, err = redis.Int(r.Context(), "INCR", "visitors:"+time.Now().UTC().Format(time.DateOnly))
		}
		if err != nil {
			slog.Warn("count a visitor", "err", err)
			http.Error(w, "the visitors' book is closed", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = page.Execute(w, map[string]any{"Greeting": greeting, "Count": count, "Version": version, "Host": host})
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, version) })
	// Alive is who answers; ready is who can count.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := redis.Do(r.Context(), "PING"); err != nil {
			http.Error(w, errors.Join(errors.New("no Redis"), err).Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
