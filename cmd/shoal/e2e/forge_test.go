//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// forgeURL is where each machine of a ring finds the forge: something on it leads there.
const forgeURL = "http://127.0.0.1:9418/forge.git"

// door is what leads from a machine to the forge, and counts who asks.
type door struct {
	n      *Node
	closed atomic.Bool // the forge answers nothing to this machine but that it may not
	gone   atomic.Bool // the forge does not answer it at all
	// meet, if set, takes what it wants of the requests, in place of the forge, git.
	meet  atomic.Pointer[func(w http.ResponseWriter, q *http.Request, git http.Handler) bool]
	looks atomic.Int64
}

// doors make a forge, a Git server over HTTP, and have each machine of a ring reach it.
func (r *ring) doors() (forge string, doors []*door) {
	r.t.Helper()
	root := r.t.TempDir()
	forge = filepath.Join(root, "forge.git")
	r.nodes[0].must("git", "init", "-q", "--bare", "-b", "main", forge)
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		r.t.Fatal(err)
	}
	git := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"},
	}
	for _, n := range r.nodes {
		d := &door{n: n}
		var l net.Listener
		if err := n.within(func() (err error) {
			l, err = net.Listen("tcp", "127.0.0.1:9418")
			return err
		}); err != nil {
			r.t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if strings.HasSuffix(q.URL.Path, "/info/refs") {
				d.looks.Add(1)
			}
			if d.gone.Load() {
				panic(http.ErrAbortHandler)
			}
			if d.closed.Load() {
				http.Error(w, "not from here", http.StatusForbidden)
				return
			}
			if meet := d.meet.Load(); meet != nil && (*meet)(w, q, git) {
				return
			}
			git.ServeHTTP(w, q)
		})}
		go func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				r.t.Errorf("forge: %v", err)
			}
		}()
		r.t.Cleanup(func() { _ = server.Close() })
		doors = append(doors, d)
	}
	return forge, doors
}

// pollers are the machines that poll the forge, as they say themselves.
func (r *ring) pollers(nodes ...*Node) (names []string, err error) {
	for _, n := range nodes {
		list, err := n.Client().Ring(context.Background(), true)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list.Nodes, func(o api.Node) bool { return o.Self })
		if f := list.Nodes[i].Now.Forge; f != nil && f.Polls {
			names = append(names, n.name)
		}
	}
	return names, nil
}

// Of three machines two poll the forge, and a commit is on all of them after a poll and an exchange. One of the two is lost:
// the third takes its place. Then one machine alone reaches the forge, and polls it for all.
func TestFeature_G1_SomeNodesPoll(t *testing.T) {
	const poll = 2 * time.Second
	r := newRing(t, 3, "--repository", forgeURL, "--poll", poll.String())
	forge, doors := r.doors()
	r.start()
	first := r.nodes[0]
	first.Image("probe:v1")
	repo := first.Repository(map[string]string{"apps/web/web.cue": replicated("zero")})
	repo.git("remote", "set-url", "origin", forge)
	repo.Push("zero")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 3) })
	polled := func(want int, nodes ...*Node) (names []string) {
		t.Helper()
		nodes[0].Eventually(30*time.Second, func() (err error) {
			if names, err = r.pollers(nodes...); err == nil && len(names) != want {
				err = fmt.Errorf("%v poll, not %d machines", names, want)
			}
			return err
		})
		return names
	}
	two := polled(2, r.nodes...)

	const span = 20 * time.Second
	before := []int64{doors[0].looks.Load(), doors[1].looks.Load(), doors[2].looks.Load()}
	time.Sleep(span)
	total := int64(0)
	for i, d := range doors {
		looks := d.looks.Load() - before[i]
		total += looks
		polls := slices.Contains(two, d.n.name)
		t.Logf("%s asks the forge %d times a minute, polls: %v", d.n.name, looks*int64(time.Minute/span), polls)
		if most := int64(span/poll) * 5 / 4; polls && looks > most || !polls && looks > 3 {
			t.Errorf("%s asked %d times in %s, polls: %v", d.n.name, looks, span, polls)
		}
	}
	if total < int64(span/poll) {
		t.Errorf("%d requests in %d intervals", total, span/poll)
	}
	// How long until each machine has judged a commit: it is in its own renders.
	spread := func(what string, nodes ...*Node) {
		t.Helper()
		repo.Write("apps/web/web.cue", replicated(what))
		repo.git("add", "-A")
		repo.git("commit", "-q", "-m", what)
		repo.git("push", "-q", "origin", "HEAD:main")
		begun, head := time.Now(), repo.Head()
		for _, n := range nodes {
			n.Eventually(60*time.Second, func() error {
				list, err := n.Client().Ring(context.Background(), true)
				if err != nil {
					return err
				}
				i := slices.IndexFunc(list.Nodes, func(o api.Node) bool { return o.Self })
				if e := list.Nodes[i].Now.Environments["dev"]; e.Commit != head || e.Digest == "" {
					return fmt.Errorf("%s is at commit %.12s, not %.12s", n.name, e.Commit, head)
				}
				return nil
			})
		}
		t.Logf("%s is rendered on %d machines after %s", what, len(nodes), time.Since(begun).Round(time.Millisecond))
		for _, n := range nodes {
			n.Eventually(60*time.Second, func() error { return n.answers("http://"+n.address+":30080/env", "GREETING="+what) })
		}
	}
	for _, what := range []string{"one", "two", "three"} {
		spread(what, r.nodes...)
	}
	if out, _, _ := first.Shoal("status"); !strings.Contains(out, "polled by ") || !strings.Contains(out, "  read ") {
		t.Errorf("status does not say who polls the forge, and when it was read:\n%s", out)
	}
	if out, _, _ := first.Shoal("ring", "status"); strings.Count(out, ", polls\n") != 2 {
		t.Errorf("ring status does not say who polls the forge:\n%s", out)
	}

	lost, rest := r.around(two[0])
	lost.powerOff()
	begun := time.Now()
	polled(2, rest...)
	t.Logf("both that are left poll %s after a poller was lost", time.Since(begun).Round(time.Millisecond))
	spread("lost", rest...)
	lost.powerOn()
	rest[0].Eventually(60*time.Second, func() error {
		list, err := rest[0].Client().Ring(context.Background(), true)
		if err != nil {
			return err
		}
		for _, n := range list.Nodes {
			if n.Now == nil {
				return fmt.Errorf("%s does not answer", n.Name)
			}
		}
		return nil
	})
	r.settled(3)

	// Those that poll are cut off from the forge, and the third is not.
	two = polled(2, r.nodes...)
	var alone *Node
	for _, d := range doors {
		if d.closed.Store(slices.Contains(two, d.n.name)); !d.closed.Load() {
			alone = d.n
		}
	}
	begun = time.Now()
	first.Eventually(30*time.Second, func() error {
		names, err := r.pollers(r.nodes...)
		if err == nil && (len(names) != 1 || names[0] != alone.name) {
			err = fmt.Errorf("%v poll, and %s alone reaches the forge", names, alone.name)
		}
		return err
	})
	t.Logf("%s, which alone reaches the forge, polls %s after the others lost it", alone.name, time.Since(begun).Round(time.Millisecond))
	spread("alone", r.nodes...)
	cut, _ := r.around(two[0])
	if out, _, _ := cut.Shoal("status"); !strings.Contains(out, "this node cannot read the source, and has it from the others") || !strings.Contains(out, "polled by "+alone.name) {
		t.Errorf("status of a machine that does not reach the forge:\n%s", out)
	}
}
