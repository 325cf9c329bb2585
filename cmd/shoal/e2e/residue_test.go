//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Pull requests are opened, updated, rewritten, stacked, closed and reopened at random, many more than may have a preview, without a
// single webhook; the base moves, the forge has hours of nonsense, and the agent is killed now and then. When it is quiet the previews are
// those that should be; when all is closed nothing of any is left.
func TestFault_P4_Residue(t *testing.T) {
	const quota = 8
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	n := NewNode(t)
	forge, repo := newGitea(t, previewFiles("one", fmt.Sprintf(`{quota: %d, perAuthor: 5}`, quota)), n)
	repo.Push("one")
	n.Args = giteaFlags()
	n.Start()
	n.Image("probe:v1")
	n.Eventually(soon, func() error { return n.answers("http://127.0.0.1:30080/env", "GREETING=one") })

	greeting := map[int]string{} // of each pull request
	change := func(p *giteaPull, at, text string) {
		repo.git("checkout", "-q", "-B", "work", at)
		repo.greet(text)
		repo.commit(text)
		forge.push(repo, p)
		greeting[p.number] = text
	}
	pick := func(closed bool) *giteaPull {
		var of []*giteaPull
		for _, p := range forge.pulls {
			if p.closed == closed {
				of = append(of, p)
			}
		}
		if len(of) == 0 {
			return nil
		}
		return of[rng.IntN(len(of))]
	}
	total := rounds(40, 500)
	begun, kills, acts, most := time.Now(), 0, 0, 0
	for len(forge.pulls) < total {
		acts++
		text := fmt.Sprint("act-", acts)
		switch act := rng.IntN(20); {
		case act < 8:
			at := "main"
			p := &giteaPull{number: len(forge.pulls) + 1, branch: fmt.Sprint("../../topic ", acts), author: giteaPeople[1+rng.IntN(5)], draft: rng.IntN(12) == 0}
			if on := pick(false); on != nil && rng.IntN(3) == 0 { // stacked
				if at = on.head; rng.IntN(2) == 0 {
					p.base = on.branch
				}
			}
			change(p, at, text)
			forge.set(func() { forge.pulls = append(forge.pulls, p) })
		case act < 11:
			if p := pick(false); p != nil {
				change(p, p.head, text)
			}
		case act < 12:
			if p := pick(false); p != nil {
				change(p, "main", text) // by force
			}
		case act < 16:
			if p := pick(false); p != nil {
				forge.set(func() { p.closed = true })
			}
		case act < 18:
			if p := pick(true); p != nil {
				forge.set(func() { p.closed = false })
			}
		case act < 19:
			repo.git("checkout", "-q", "main")
			repo.Write("notes.txt", text)
			repo.Push(text)
		case rng.IntN(3) == 0 && kills < 2+total/100:
			kills++
			n.Kill()
			n.StartWithoutWaiting()
		default:
			status := []int{200, 500, 502, 404}[rng.IntN(4)]
			forge.set(func() {
				forge.odd = func(w http.ResponseWriter, _ string) bool { w.WriteHeader(status); return true }
			})
		}
		time.Sleep(time.Duration(rng.Int64N(int64(120 * time.Millisecond))))
		if rng.IntN(4) == 0 {
			forge.set(func() { forge.odd = nil })
		}
		if all, err := n.Client().Previews(context.Background()); err == nil {
			if most = max(most, len(all.Previews)); len(all.Previews) > quota {
				t.Errorf("%d previews, and there may be %d", len(all.Previews), quota)
			}
		}
	}
	forge.set(func() { forge.odd = nil })
	t.Logf("%d pull requests, %d acts, %d kills in %s; at most %d previews", total, acts, kills, time.Since(begun).Round(time.Second), most)

	// It is quiet: as many as may be, each with its newest commit.
	may := map[string]int{}
	for _, p := range forge.pulls {
		if !p.closed && !p.draft && p.base == "" {
			may[p.author] = min(may[p.author]+1, 5)
		}
	}
	want := 0
	for _, count := range may {
		want += count
	}
	want = min(want, quota)
	var all api.Previews
	n.Eventually(90*time.Second, func() (err error) {
		if all, err = n.Client().Previews(context.Background()); err != nil {
			return err
		}
		ready := 0
		for _, p := range all.Previews {
			if pull := forge.pulls[p.Number-1]; p.Ready && string(p.Head) == pull.head && !pull.closed {
				ready++
			}
		}
		if ready != want || len(all.Previews) != want {
			return fmt.Errorf("%d of %d previews are ready, want %d", ready, len(all.Previews), want)
		}
		return nil
	})
	for _, p := range all.Previews {
		n.previewGreets(soon, p.Name, greeting[p.Number])
	}
	if left := n.trace(); want > 0 && len(left) < 3*want {
		t.Errorf("what previews have is not found: %v", left)
	}

	begun = time.Now()
	forge.set(func() {
		for _, p := range forge.pulls {
			p.closed = true
		}
	})
	var names []string
	for _, p := range all.Previews {
		names = append(names, p.Name)
	}
	n.gone(60*time.Second, names...)
	t.Logf("nothing is left %s after all were closed", time.Since(begun).Round(time.Millisecond))
	if err := n.answers("http://127.0.0.1:30080/env", "GREETING=one"); err != nil {
		t.Error("dev is not what it was:", err)
	}
}
