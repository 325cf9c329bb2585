package forge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// kinds are those whose API is spoken differently. Forgejo's is Gitea's.
var kinds = []Kind{GitHub, GitLab, Gitea}

func eachKind(t *testing.T, test func(t *testing.T, w *world)) {
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) { test(t, newWorld(t, k)) })
	}
}

func numbers(pulls []Pull) []int {
	var out []int
	for _, p := range pulls {
		out = append(out, p.Number)
	}
	return out
}

func TestFeature_V1_OpenPullRequests(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			p := w.open(12, sha("aa"))
			p.ref, p.draft, p.labels = "../../x", true, []string{"preview", "käse"}
			p = w.open(3, sha("bb"))
			p.fork, p.author = false, "maria"
			w.open(7, sha("cc")).author = "" // an account that is gone
		})
		c := w.client()
		got, err := c.Pulls(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		dir, merge, fraction := "refs/pull/", "/merge", time.Duration(0)
		if w.kind == GitLab {
			dir, fraction = "refs/merge-requests/", 123*time.Millisecond
		}
		mergeOf := func(n string) string {
			if w.kind == Gitea {
				return ""
			}
			return dir + n + merge
		}
		updated := time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC).Add(fraction)
		want := List{Complete: true, At: start, Open: []Pull{
			{Number: 3, Head: sha("bb"), HeadRef: "topic", BaseRef: "main", Author: "maria", HeadName: dir + "3/head", MergeName: mergeOf("3"), Updated: updated},
			{Number: 7, Head: sha("cc"), HeadRef: "topic", BaseRef: "main", Fork: true, HeadName: dir + "7/head", MergeName: mergeOf("7"), Updated: updated},
			{Number: 12, Head: sha("aa"), HeadRef: "../../x", BaseRef: "main", Fork: true, Author: "eve", Draft: true, Labels: []string{"preview", "käse"}, HeadName: dir + "12/head", MergeName: mergeOf("12"), Updated: updated},
		}}
		for i := range got.Open {
			if len(got.Open[i].Labels) == 0 {
				got.Open[i].Labels = nil
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestFeature_V1_ManyPages(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			for n := range 230 {
				w.open(n+1, sha(fmt.Sprintf("%04x", n)))
			}
		})
		for _, links := range []bool{true, false} {
			w.set(func() { w.links = links })
			got, err := w.client().Pulls(t.Context(), []int{1, 230})
			if err != nil || !got.Complete || len(got.Open) != 230 || got.Closed != nil {
				t.Errorf("links %v: %d open, complete %v, closed %v, %v", links, len(got.Open), got.Complete, got.Closed, err)
			}
		}
	})
}

func TestFeature_V1_SmallPagesOfTheServer(t *testing.T) {
	w := newWorld(t, Gitea)
	w.set(func() {
		w.page, w.links = 20, false // an administrator's choice
		for n := range 90 {
			w.open(n+1, sha(fmt.Sprintf("%04x", n)))
		}
	})
	got, err := w.client().Pulls(t.Context(), nil)
	if err != nil || !got.Complete || len(got.Open) != 90 {
		t.Errorf("%d open, complete %v, %v", len(got.Open), got.Complete, err)
	}
}

func TestPulls_UnchangedListsCostNothing(t *testing.T) {
	w := newWorld(t, GitHub)
	w.set(func() {
		for n := range 150 {
			w.open(n+1, sha(fmt.Sprintf("%04x", n)))
		}
	})
	c := w.client()
	before, err := c.Pulls(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	fresh := 0
	w.set(func() {
		w.now = at(60)
		w.seen = func(_ string, r *http.Request) {
			if r.Header.Get("If-None-Match") == "" {
				fresh++
			}
		}
	})
	second, err := c.Pulls(t.Context(), nil)
	if err != nil || !reflect.DeepEqual(before.Open, second.Open) || !second.At.Equal(at(60)) || fresh != 0 {
		t.Errorf("unchanged: %d fresh requests, at %v, %v", fresh, second.At, err)
	}
	w.set(func() { w.pulls[149].head = sha("feed") })
	third, err := c.Pulls(t.Context(), nil)
	if err != nil || third.Open[149].Head != sha("feed") || len(third.Open) != 150 {
		t.Errorf("changed: %v", err)
	}
}

func TestFeature_V3_ClosedOnlyByTheForgesWord(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			w.open(1, sha("aa"))
			w.open(2, sha("bb")).state = "closed"
			w.open(3, sha("cc")).gone = true
			w.open(4, sha("dd")).hidden = true // slipped over the edge of a page
			if w.kind == GitLab {
				w.open(5, sha("ee")).state = "locked" // being merged
			}
		})
		got, err := w.client().Pulls(t.Context(), []int{4, 3, 2, 1, 2})
		want := List{Closed: []int{2}, Gone: []int{3}, Complete: true}
		if err != nil || !slices.Equal(got.Closed, want.Closed) || !slices.Equal(got.Gone, want.Gone) || !got.Complete {
			t.Errorf("got %+v, %v", got, err)
		}
		if n := numbers(got.Open); !slices.Equal(n, []int{1, 4}) {
			t.Errorf("open %v", n)
		}
		if w.kind == GitLab {
			if got, err = w.client().Pulls(t.Context(), []int{5}); err != nil || !slices.Equal(numbers(got.Open), []int{1, 5}) {
				t.Errorf("locked: %v, %v", numbers(got.Open), err)
			}
		}
	})
}

func TestFault_P4_NothingClosesWhilePagesShift(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		rnd := rand.New(rand.NewPCG(4, 4))
		w.set(func() {
			for n := range 500 {
				w.open(n+1, sha(fmt.Sprintf("%04x", n)))
			}
			w.seen = func(string, *http.Request) { // something closes before each page
				if p := w.pulls[rnd.IntN(len(w.pulls))]; rnd.IntN(2) == 0 {
					p.state = "closed"
				}
			}
		})
		c := w.client(func(o *Options) { o.Limits.Lookups = 1000 })
		known := make([]int, 500)
		for i := range known {
			known[i] = i + 1
		}
		for range 20 {
			got, err := c.Pulls(t.Context(), known)
			if err != nil {
				t.Fatal(err)
			}
			w.set(func() {
				for _, n := range got.Closed {
					if w.find(n).state != "closed" {
						t.Errorf("%d was taken as closed", n)
					}
				}
			})
			if len(got.Open)+len(got.Closed) != len(known) || len(got.Gone) > 0 || !got.Complete {
				t.Errorf("%d open, %d closed, %d gone of %d", len(got.Open), len(got.Closed), len(got.Gone), len(known))
			}
			known = numbers(got.Open)
		}
	})
}

func TestFault_P4_Caps(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			for n := range 200 {
				w.open(n+1, sha(fmt.Sprintf("%04x", n)))
			}
		})
		got, err := w.client(func(o *Options) { o.Limits.Pages = 1 }).Pulls(t.Context(), nil)
		if err != nil || got.Complete || got.Why == "" {
			t.Errorf("pages: complete %v, %q, %v", got.Complete, got.Why, err)
		}
		got, err = w.client(func(o *Options) { o.Limits.Lookups = 2 }).Pulls(t.Context(), []int{901, 902, 903})
		if err != nil || got.Complete || len(got.Gone) != 2 {
			t.Errorf("lookups: complete %v, gone %v, %v", got.Complete, got.Gone, err)
		}
		_, err = w.client(func(o *Options) { o.Limits.Body = 2000 }).Pulls(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), "at most 2000 bytes") {
			t.Errorf("body: %v", err)
		}
		for _, bad := range []int{0, -1, 1 << 31} {
			if _, err := w.client().Pulls(t.Context(), []int{bad}); err == nil {
				t.Errorf("known %d was taken", bad)
			}
		}
	})
}

func TestFault_P4_ALookupThatFailsClosesNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			w.open(1, sha("aa"))
			w.open(2, sha("bb")).state = "closed"
			w.open(3, sha("cc")).state = "closed"
			w.before = func(rw http.ResponseWriter, op string) bool {
				if strings.HasSuffix(op, "{int}") {
					http.Error(rw, "oops", http.StatusBadGateway)
					return true
				}
				return false
			}
		})
		got, err := w.client().Pulls(t.Context(), []int{1, 2, 3})
		if err != nil || got.Complete || got.Closed != nil || got.Gone != nil || len(got.Open) != 1 || got.Why == "" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestPulls_NotReadYet(t *testing.T) {
	for _, kind := range []Kind{GitLab, Gitea} {
		w := newWorld(t, kind)
		w.set(func() { w.open(1, sha("aa")).unread = true })
		got, err := w.client().Pulls(t.Context(), nil)
		if err != nil || len(got.Open) != 1 || got.Open[0].Head != "" || !got.Complete {
			t.Errorf("%s: got %+v, %v", kind, got, err)
		}
	}
}

func TestFault_P1_APushToRefsForIsAStrangers(t *testing.T) {
	w := newWorld(t, Gitea)
	w.set(func() {
		p := w.open(1, sha("aa"))
		p.fork, p.agit = false, true
		p = w.open(2, sha("bb"))
		p.fork, p.ref = false, "refs/pull/2/head"
	})
	got, err := w.client().Pulls(t.Context(), nil)
	if err != nil || !got.Open[0].Fork || !got.Open[1].Fork {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestPulls_Timeout(t *testing.T) {
	w := newWorld(t, GitHub)
	release := make(chan struct{})
	defer close(release)
	w.set(func() {
		w.before = func(http.ResponseWriter, string) bool { <-release; return false }
	})
	c := w.client(func(o *Options) { o.Limits.Request = 50 * time.Millisecond; o.Now = nil })
	_, err := c.Pulls(t.Context(), []int{1})
	if err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("got %v", err)
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %#v", err)
	}
}
