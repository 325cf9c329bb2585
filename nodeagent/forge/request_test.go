package forge

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestFault_G14_TheTokenStaysWithItsHost(t *testing.T) {
	got := ""
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = fmt.Sprint(r.Header, r.URL) }))
	defer thief.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = fmt.Sprint(r.Header) }))
	defer secure.Close()
	eachKind(t, func(t *testing.T, w *world) {
		own := strings.Replace(w.srv.URL, "127.0.0.1", "localhost", 1)
		for _, to := range []string{thief.URL + "/x?t=" + secret, secure.URL, own + "/x", "https://169.254.169.254/latest", "file:///etc/passwd", "//" + strings.TrimPrefix(thief.URL, "http://"), "ftp://x/", "%zz", ""} {
			for _, status := range []int{301, 302, 303, 307, 308} {
				w.set(func() {
					w.before = func(rw http.ResponseWriter, _ string) bool {
						rw.Header().Set("Location", to)
						rw.WriteHeader(status)
						return true
					}
				})
				for _, act := range acts {
					_, err := act.act(t, w.client())
					if err == nil && (w.kind != Gitea || act.name != "deploy" && act.name != "retire") {
						t.Errorf("%s: %d to %s: no error", act.name, status, to)
					}
					if err != nil && strings.Contains(err.Error(), secret) {
						t.Errorf("%s: %d to %s: the error has the token: %v", act.name, status, to, err)
					}
				}
			}
		}
	})
	if got != "" {
		t.Errorf("another host was asked: %s", got)
	}
}

func TestRedirects_OnTheSameHost(t *testing.T) {
	w := newWorld(t, GitHub)
	w.set(func() { w.open(1, sha("aa")) })
	from := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if path, ok := strings.CutPrefix(r.URL.Path, "/repos/old/name"); ok { // the repository was renamed
			http.Redirect(rw, r, "/repos/shop/cluster"+path+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
			return
		}
		w.ServeHTTP(rw, r)
	}))
	defer from.Close()
	c := w.client(func(o *Options) { o.Base, o.Path = from.URL, "old/name" })
	if l, err := c.Pulls(t.Context(), nil); err != nil || len(l.Open) != 1 {
		t.Errorf("read: %+v, %v", l, err)
	}
	if err := c.Comment(t.Context(), 1, "x", "hello"); err == nil || w.writes() > 0 {
		t.Errorf("a write that became a read: %v", err)
	}
}

func TestFault_A9_NoTokenInErrors(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		say := ""
		w.set(func() {
			w.before = func(rw http.ResponseWriter, _ string) bool {
				http.Error(rw, say, http.StatusBadRequest)
				return true
			}
		})
		for _, body := range []string{
			`{"message":"bad credentials: ` + secret + `"}`, `{"message":{"` + secret + `":["` + secret + `"]}}`,
			`{"error":"` + secret + `"}`, secret, `{"message":"\u001b[31m\u0000` + secret + strings.Repeat("x", 5000) + `"}`,
		} {
			w.set(func() { say = body })
			for _, act := range acts {
				_, err := act.act(t, w.client())
				if w.kind == Gitea && (act.name == "deploy" || act.name == "retire") {
					continue
				}
				if err == nil || strings.Contains(err.Error(), secret) || strings.ContainsAny(err.Error(), "\x1b\x00\n") || len(err.Error()) > 1000 {
					t.Errorf("%s: %v", act.name, err)
				}
			}
		}
	})
	c, err := New(Options{Kind: GitHub, Base: "https://127.0.0.1:1", Path: "shop/cluster", Token: secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pulls(t.Context(), nil); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("unreachable: %v", err)
	}
}

func TestRest(t *testing.T) {
	now := start
	epoch := func(s int) string { return strconv.FormatInt(at(s).Unix(), 10) }
	for _, c := range []struct {
		name    string
		status  int
		header  []string
		body    string
		wait    time.Duration
		refused bool
	}{
		{"fine", 200, nil, "", 0, false},
		{"much left", 200, []string{"X-RateLimit-Remaining", "17", "X-RateLimit-Reset", epoch(99)}, "", 0, false},
		{"the last one", 200, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", epoch(99)}, "", 99 * time.Second, false},
		{"forbidden", 403, nil, `{"message":"Resource not accessible by integration"}`, 0, false},
		{"used up", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", epoch(600)}, "", 600 * time.Second, true},
		{"used up on gitlab", 429, []string{"RateLimit-Remaining", "0", "RateLimit-Reset", epoch(30)}, "", 30 * time.Second, true},
		{"retry-after", 429, []string{"Retry-After", "17"}, "", 17 * time.Second, true},
		{"retry-after before reset", 429, []string{"Retry-After", "17", "RateLimit-Remaining", "0", "RateLimit-Reset", epoch(30)}, "", 17 * time.Second, true},
		{"retry-after as a date", 503, []string{"Retry-After", at(42).Format(http.TimeFormat)}, "", 42 * time.Second, true},
		{"retry-after on a success", 200, []string{"Retry-After", "17"}, "", 0, false},
		{"secondary", 403, nil, `{"message":"You have exceeded a secondary rate limit."}`, time.Minute, true},
		{"secondary with a time", 403, []string{"Retry-After", "5"}, `{"message":"You have exceeded a secondary rate limit."}`, 5 * time.Second, true},
		{"nothing said", 429, nil, "", time.Minute, true},
		{"nonsense", 429, []string{"Retry-After", "soon"}, "", time.Minute, true},
		{"below 0", 429, []string{"Retry-After", "-9"}, "", time.Second, true},
		{"far too long", 429, []string{"Retry-After", "99999999999999"}, "", time.Hour, true},
		{"beyond all numbers", 429, []string{"Retry-After", "9999999999999999999999999"}, "", time.Minute, true},
		{"reset in the past", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1"}, "", time.Second, true},
		{"reset far off", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "9223372036854775807"}, "", time.Hour, true},
		{"reset of words", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "never"}, "", time.Minute, true},
		{"reset by the forge's clock", 403, []string{"Date", at(-500).Format(http.TimeFormat), "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", epoch(-490)}, "", 10 * time.Second, true},
		{"unavailable", 503, nil, "", 0, false},
	} {
		h := http.Header{}
		for i := 0; i+1 < len(c.header); i += 2 {
			h.Set(c.header[i], c.header[i+1])
		}
		wait, refused, why := rest(c.status, h, []byte(c.body), time.Hour, now)
		if wait != c.wait || refused != c.refused || (wait > 0) != (why != "") {
			t.Errorf("%s: %v, refused %v, %q", c.name, wait, refused, why)
		}
	}
}

func TestLater_NothingIsSentBefore(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			w.open(1, sha("aa"))
			w.before = func(rw http.ResponseWriter, _ string) bool {
				rw.Header().Set("Retry-After", "90")
				http.Error(rw, "{}", http.StatusTooManyRequests)
				return true
			}
		})
		c := w.client()
		for range 5 {
			for _, act := range acts {
				_, err := act.act(t, c)
				l, ok := errors.AsType[*Later](err)
				if err != nil && (!ok || !l.NotBefore.Equal(at(90))) {
					t.Errorf("%s: %v", act.name, err)
				}
			}
		}
		if n := w.count(""); n != 1 {
			t.Errorf("%d requests, expected 1", n)
		}
		w.set(func() { w.before, w.now = nil, at(90) })
		if l, err := c.Pulls(t.Context(), nil); err != nil || len(l.Open) != 1 {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestLater_TheLastRequestIsAnswered(t *testing.T) {
	w := newWorld(t, GitHub)
	w.set(func() {
		w.open(1, sha("aa"))
		w.header = func(h http.Header, _ string) {
			h.Set("X-RateLimit-Remaining", "0")
			h.Set("X-RateLimit-Reset", strconv.FormatInt(at(300).Unix(), 10))
		}
	})
	c := w.client()
	if l, err := c.Pulls(t.Context(), nil); err != nil || len(l.Open) != 1 {
		t.Errorf("first: %v", err)
	}
	_, err := c.Pulls(t.Context(), nil)
	if l, ok := errors.AsType[*Later](err); !ok || !l.NotBefore.Equal(at(300)) || w.count("") != 1 {
		t.Errorf("second: %v", err)
	}
}

func TestHasNext(t *testing.T) {
	for _, c := range []struct {
		link string
		next bool
		bad  bool
	}{
		{"", false, false},
		{`<https://x/?page=2>; rel="next"`, true, false},
		{`<https://x/?page=2>; rel=next`, true, false},
		{`<https://x/?page=2>;rel="prev next"`, true, false},
		{`<https://x/?page=1>; rel="prev", <https://x/?page=3>; rel="next"`, true, false},
		{`<https://x/?page=1>; rel="prev",<https://x/?page=9>; rel="last"`, false, false},
		{`<https://x/?q=a,b;c>; title="a, b; rel=next"; rel="last"`, false, false},
		{`<https://x/>; REL="NEXT"`, true, false},
		{`<https://x/>; rel="nextish"`, false, false},
		{`<https://x/>; hreflang; rel=next`, true, false},
		{`<https://x/>`, false, false},
		{`,,, <https://x/>;rel=next`, true, false},
		{`https://x/; rel="next"`, false, true},
		{`<https://x/; rel="next"`, false, true},
		{`<https://x/>; rel="next`, false, true},
		{`<https://x/> rel="next"`, false, true},
		{strings.Repeat(`<https://x/>; rel="last", `, 1000), false, true},
	} {
		if next, err := hasNext(c.link); next != c.next || (err != nil) != c.bad {
			t.Errorf("%.60q: %v, %v", c.link, next, err)
		}
	}
}

func TestPulls_LinkOfNonsense(t *testing.T) {
	w := newWorld(t, GitHub)
	w.set(func() {
		w.before = func(rw http.ResponseWriter, _ string) bool {
			rw.Header().Set("Link", "next please")
			_, _ = io.WriteString(rw, "[]")
			return true
		}
	})
	if _, err := w.client().Pulls(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "Link header") {
		t.Errorf("got %v", err)
	}
}

// TestPulls_AListWithoutEnd is a server that has always another page, and one that sends the same for each.
func TestPulls_AListWithoutEnd(t *testing.T) {
	w := newWorld(t, GitHub)
	w.set(func() {
		w.before = func(rw http.ResponseWriter, _ string) bool {
			rw.Header().Set("Link", `<https://x/>; rel="next"`)
			_, _ = io.WriteString(rw, "[]")
			return true
		}
	})
	l, err := w.client().Pulls(t.Context(), nil)
	if err != nil || l.Complete || w.count("") != 50 {
		t.Errorf("complete %v after %d requests, %v", l.Complete, w.count(""), err)
	}
}
