package api

import (
	"fmt"
	"net/http"
	"runtime/pprof"
	"strconv"
	"time"
)

const maxProfile = 60 * time.Second // that CPU use is watched

// profile answers GET /debug/pprof/{name} with a profile of the agent for `go tool pprof`: "cpu" over ?seconds=N
// (1 to 60, default 10), or one of runtime/pprof's ("heap", "goroutine"); ?debug=1 gives text.
func (s *Server) profile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	number := func(key string, otherwise int) int {
		if n, err := strconv.Atoi(r.URL.Query().Get(key)); err == nil {
			return n
		}
		return otherwise
	}
	if name != "cpu" {
		p := pprof.Lookup(name)
		if p == nil {
			http.Error(w, fmt.Sprintf("no profile %q: expected cpu, heap, allocs, goroutine, block or mutex", name), http.StatusNotFound)
			return
		}
		_ = p.WriteTo(w, number("debug", 0)) // a client that left
		return
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer pprof.StopCPUProfile()
	select {
	case <-time.After(min(maxProfile, max(time.Second, time.Duration(number("seconds", 10))*time.Second))):
	case <-r.Context().Done():
	}
}
