package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const routes = `GET /            this text, with the pod's name and version
GET /healthz     200 while healthy, else 500
GET /readyz      200 while ready, else 503
GET /set?ready=B&healthy=B   switches them
GET /env         the environment
GET /dns?name=N  the addresses of N
GET /get?url=U   fetches U
GET /file?path=P the file
GET /slow?for=D  answers after D
GET /big?kib=N   answers N KiB
GET /redirect?to=U
GET /exit?code=N ends the process
`

// server is the state behind the web server's switches.
type server struct {
	ready, healthy atomic.Bool
	served         atomic.Int64
}

func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	addr := flags.String("addr", ":8080", "")
	ready := flags.Bool("ready", true, "")
	readyAfter := flags.Duration("ready-after", 0, "")
	linger := flags.Duration("linger", 0, "")
	_ = flags.Parse(args)
	s := &server{}
	s.healthy.Store(true)
	s.ready.Store(*ready && *readyAfter == 0)
	if *ready && *readyAfter > 0 {
		time.AfterFunc(*readyAfter, func() { s.ready.Store(true) })
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Println("serve: listening on", listener.Addr())
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	fmt.Println("serve: asked to end")
	time.Sleep(*linger) // goes on answering
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = web.Shutdown(grace)
	fmt.Println("serve: bye after", s.served.Load(), "requests")
	return err
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "probe %s on %s\n", os.Getenv("VERSION"), host)
		if r.URL.Query().Has("help") {
			fmt.Fprint(w, routes)
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, s.healthy.Load(), http.StatusInternalServerError)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, s.ready.Load(), http.StatusServiceUnavailable)
	})
	mux.HandleFunc("GET /set", func(w http.ResponseWriter, r *http.Request) {
		for name, flag := range map[string]*atomic.Bool{"ready": &s.ready, "healthy": &s.healthy} {
			if v, err := strconv.ParseBool(r.FormValue(name)); err == nil {
				flag.Store(v)
			}
		}
		fmt.Fprintf(w, "ready=%t healthy=%t\n", s.ready.Load(), s.healthy.Load())
	})
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		all := os.Environ()
		slices.Sort(all)
		fmt.Fprintln(w, strings.Join(all, "\n"))
	})
	mux.HandleFunc("GET /dns", func(w http.ResponseWriter, r *http.Request) {
		found, err := net.DefaultResolver.LookupHost(r.Context(), r.FormValue("name"))
		slices.Sort(found)
		reply(w, strings.Join(found, "\n")+"\n", err)
	})
	mux.HandleFunc("GET /get", func(w http.ResponseWriter, r *http.Request) {
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		text, err := fetch(r.Context(), client, r.FormValue("url"))
		reply(w, text, err)
	})
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(r.FormValue("path"))
		reply(w, string(text), err)
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("for"))
		if err == nil {
			wait(r.Context(), d)
		}
		reply(w, "at last\n", err)
	})
	mux.HandleFunc("GET /big", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("kib"))
		if err != nil || n < 0 {
			reply(w, "", errors.Join(errors.New("kib must be a number"), err))
			return
		}
		block := make([]byte, 1024)
		for range n {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.FormValue("to"), http.StatusFound)
	})
	mux.HandleFunc("GET /exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code"))
		os.Exit(code)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.served.Add(1)
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, ok bool, otherwise int) {
	if !ok {
		http.Error(w, "no", otherwise)
		return
	}
	fmt.Fprintln(w, "ok")
}

func reply(w http.ResponseWriter, text string, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprint(w, text)
}
