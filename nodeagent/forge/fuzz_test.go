package forge

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// forges are all that read what strangers send.
var forges = []forge{github{"/repos/a/b"}, newGitlab("a/b"), gitea{"/repos/a/b"}}

func FuzzPulls(f *testing.F) {
	for _, s := range []string{
		`[]`, `null`, `[null]`, `{}`, `[{"number":1,"state":"open","head":{"ref":"t","sha":"` + sha("aa") + `","repo":{"id":2}},"base":{"ref":"m","repo":{"id":1}},"updated_at":"2026-03-01T11:00:00Z"}]`,
		`[{"iid":1,"state":"opened","source_branch":"t","sha":"` + sha("aa") + `","source_project_id":2,"target_project_id":1,"target_branch":"m","updated_at":"2026-03-01T11:00:00.1Z"}]`,
		`[{"number":1,"state":"open","head":{"label":"t","ref":"t","sha":"","repo_id":2},"base":{"ref":"m","repo_id":1},"labels":[{"name":"x"}],"updated_at":"2026-03-01T11:00:00+01:00"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, forge := range forges {
			pulls, err := forge.readPulls(body)
			if err != nil {
				if pulls != nil || err.Error() == "" {
					t.Errorf("an error and %d pull requests", len(pulls))
				}
				continue
			}
			for _, p := range pulls {
				if p.Number < 1 || p.Number > 1<<31-1 || p.Head != "" && !isCommit(p.Head) || p.BaseRef == "" || p.HeadRef == "" || p.Updated.IsZero() ||
					strings.ContainsAny(p.HeadRef+p.BaseRef+p.Author+strings.Join(p.Labels, ""), "\x00\n\x1b") || !strings.HasPrefix(p.HeadName, "refs/") {
					t.Errorf("%+v", p)
				}
			}
		}
	})
}

func FuzzHistory(f *testing.F) {
	for _, s := range []string{
		`[{"id":1,"event":"labeled","label":{"name":"preview"},"actor":{"id":2,"login":"m","type":"User"},"created_at":"2026-03-01T12:00:20Z"}]`,
		`[{"id":1,"event":"head_ref_force_pushed","created_at":"2026-03-01T12:00:20Z"}]`,
		`[{"id":1,"action":"add","label":{"name":"preview"},"user":{"id":2,"username":"m"},"created_at":"2026-03-01T12:00:20.5Z"}]`,
		`[{"id":1,"head_commit_sha":"` + sha("aa") + `","created_at":"2026-03-01T12:00:20.5Z"}]`,
		`[{"id":1,"type":"label","body":"1","label":{"name":"preview"},"user":{"id":2,"login":"m"},"created_at":"2026-03-01T12:00:20Z"}]`,
		`[{"id":1,"type":"pull_push","body":"{\"commit_ids\":[\"` + sha("aa") + `\"]}","created_at":"2026-03-01T12:00:20Z"}]`,
	} {
		f.Add([]byte(s), int64(0))
	}
	readers := []func([]byte, string) ([]mark, error){ghMarks, glLabels, func(b []byte, _ string) ([]mark, error) { return glVersions(b) }, gtMarks}
	f.Fuzz(func(t *testing.T, body []byte, seen int64) {
		for _, read := range readers {
			marks, err := read(body, "preview")
			if err != nil {
				continue
			}
			seenAt := start.Add(time.Duration(seen%1000) * time.Second)
			sets, why := judge(marks, sha("aa"), seenAt)
			if (len(sets) == 0) != (why != "") {
				t.Errorf("%d settings and %q", len(sets), why)
			}
			told := slices.ContainsFunc(marks, func(m mark) bool { return m.what == moved && m.head == sha("aa") })
			for _, s := range sets {
				if s.what != labelled || s.at.IsZero() || !told && !s.at.After(seenAt) {
					t.Errorf("%+v counts for a head seen at %v", s, seenAt)
				}
			}
			slices.Reverse(marks)
			if again, _ := judge(marks, sha("aa"), seenAt); len(again) != len(sets) && distinct(marks) {
				t.Errorf("the order decides: %d or %d", len(sets), len(again))
			}
		}
	})
}

// distinct says whether marks have an order of their own.
func distinct(marks []mark) bool {
	type key struct {
		at  int64
		row int
		id  int64
	}
	had := map[key]bool{}
	for _, m := range marks {
		k := key{m.at.UnixNano(), m.row, m.id}
		if m.what != 0 && had[k] {
			return false
		}
		had[k] = m.what != 0 || had[k]
	}
	return true
}

func FuzzNotes(f *testing.F) {
	f.Add([]byte(`[{"id":1,"body":"<!-- shoal x -->\nhello","user":{"id":1,"login":"ring"},"author":{"id":1,"username":"ring"},"system":true}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, read := range []func([]byte) ([]note, error){readNotes, glNotes} {
			notes, err := read(body)
			for _, n := range notes {
				if err != nil || n.id < 1 {
					t.Errorf("%+v, %v", n, err)
				}
			}
		}
	})
}

func FuzzLink(f *testing.F) {
	for _, s := range []string{`<https://x/?page=2>; rel="next", <https://x/?page=9>; rel="last"`, `<>;;;rel`, `<a>;rel="prev next";x=y`, `<a`, `a;rel=next`, `<a>;b="c`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, link string) {
		next, err := hasNext(link)
		if next && (err != nil || !strings.Contains(strings.ToLower(link), "next") || !strings.Contains(link, "<")) {
			t.Errorf("%q: %v, %v", link, next, err)
		}
	})
}

func FuzzRest(f *testing.F) {
	f.Add(429, "17", "0", "1772366400", "Sun, 01 Mar 2026 12:00:00 GMT", "")
	f.Add(403, "", "0", "-1", "", "secondary rate limit")
	f.Fuzz(func(t *testing.T, status int, again, left, reset, date, body string) {
		h := http.Header{"Retry-After": {again}, "X-Ratelimit-Remaining": {left}, "X-Ratelimit-Reset": {reset}, "Date": {date}}
		wait, refused, why := rest(status, h, []byte(body), time.Hour, start)
		if wait < 0 || wait > time.Hour || wait > 0 && wait < time.Second || refused && wait == 0 || (wait > 0) != (why != "") {
			t.Errorf("%v, %v, %q", wait, refused, why)
		}
	})
}

func FuzzLocate(f *testing.F) {
	for _, s := range []string{
		"https://github.com/a/b.git", "git@gitlab.com:a/b/c.git", "ssh://git@h:22/a/b", "http://[::1]:3000/a/b", "git@[::1]:a/b", "h:a/b",
		"https://u:p@h/a/b", "https://x.ghe.com/a/b", "https://h/../a/b", "://", "a:b:c/d", "@:/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, remote string) {
		p, err := Locate(remote)
		if err != nil {
			return
		}
		if clean, err := cleanPath(p.Path); err != nil || clean != p.Path && !strings.HasSuffix(p.Path, ".git") {
			t.Errorf("%q: path %q", remote, p.Path)
		}
		scheme := "https://"
		if p.Plain {
			scheme = "http://"
		}
		u, err := url.Parse(scheme + p.Host + "/" + p.Path)
		if err != nil || u.Host != p.Host || u.User != nil || u.Path != "/"+p.Path || u.RawQuery != "" {
			t.Errorf("%q: %+v is no address: %v", remote, p, err)
		}
		if p.Kind != "" {
			if err := p.Options("").WithDefaults().Check(); err != nil {
				t.Errorf("%q: %+v: %v", remote, p, err)
			}
		}
	})
}
