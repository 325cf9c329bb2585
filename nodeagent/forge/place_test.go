package forge

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLocate(t *testing.T) {
	for _, c := range []struct {
		remote string
		want   Place
	}{
		{"https://github.com/shop/cluster.git", Place{GitHub, "github.com", "shop/cluster", "https://api.github.com", false}},
		{"https://maria:pass@GitHub.com/shop/cluster/", Place{GitHub, "github.com", "shop/cluster", "https://api.github.com", false}},
		{"http://github.com/shop/cluster", Place{GitHub, "github.com", "shop/cluster", "https://api.github.com", false}},
		{"git@github.com:shop/cluster.git", Place{GitHub, "github.com", "shop/cluster", "https://api.github.com", false}},
		{"ssh://git@ssh.github.com:443/shop/cluster.git", Place{GitHub, "github.com", "shop/cluster", "https://api.github.com", false}},
		{"https://octo.ghe.com/shop/cluster", Place{GitHub, "octo.ghe.com", "shop/cluster", "https://api.octo.ghe.com", false}},
		{"https://gitlab.com/group/sub/deep/cluster.git", Place{GitLab, "gitlab.com", "group/sub/deep/cluster", "https://gitlab.com/api/v4", false}},
		{"git@gitlab.com:group/sub/cluster.git", Place{GitLab, "gitlab.com", "group/sub/cluster", "https://gitlab.com/api/v4", false}},
		{"ssh://git@altssh.gitlab.com:443/group/cluster", Place{GitLab, "gitlab.com", "group/cluster", "https://gitlab.com/api/v4", false}},
		{"https://codeberg.org/shop/cluster", Place{Forgejo, "codeberg.org", "shop/cluster", "https://codeberg.org/api/v1", false}},
		{"https://gitea.com/shop/cluster", Place{Gitea, "gitea.com", "shop/cluster", "https://gitea.com/api/v1", false}},
		{"https://git.example.com:8443/shop/cluster.git", Place{"", "git.example.com:8443", "shop/cluster", "", false}},
		{"https://git.example.com:443/shop/cluster.git", Place{"", "git.example.com", "shop/cluster", "", false}},
		{"http://127.0.0.1:3000/shop/cluster.git", Place{"", "127.0.0.1:3000", "shop/cluster", "", true}},
		{"http://[::1]:3000/shop/cluster.git", Place{"", "[::1]:3000", "shop/cluster", "", true}},
		{"ssh://git@git.example.com:2222/shop/cluster.git", Place{"", "git.example.com", "shop/cluster", "", false}},
		{"git@[2001:db8::1]:shop/cluster.git", Place{"", "[2001:db8::1]", "shop/cluster", "", false}},
		{"git.example.com:shop/cluster", Place{"", "git.example.com", "shop/cluster", "", false}},
		{"git@git.example.com:/srv/shop/cluster.git", Place{"", "git.example.com", "srv/shop/cluster", "", false}},
		{"https://git.example.com./shop/cluster", Place{"", "git.example.com", "shop/cluster", "", false}},
	} {
		got, err := Locate(c.remote)
		if err != nil || got != c.want {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", c.remote, got, err, c.want)
		}
	}
}

func TestLocate_Refuses(t *testing.T) {
	for _, remote := range []string{
		"", " ", "/srv/git/cluster.git", "../cluster", "file:///srv/cluster", "cluster", "git://github.com/shop/cluster",
		"https://github.com/shop", "https://github.com/", "https://github.com/a/b/c", "https://github.com/shop/../cluster",
		"https://github.com//cluster", "https://github.com/shop/cluster?x=1", "https://github.com/shop/cluster#x",
		"https://github.com/shop/clu%20ster", "https://github.com/shop/clu%2Fster%00", "https:///shop/cluster",
		"https://git.example.com:99999/shop/cluster", "https://git_ex%41mple!.com/shop/cluster", "javascript:alert(1)//x/y",
		"git@:shop/cluster", "C:\\git\\cluster", "https://git.example.com/shop/clu ster", "git@[::1/shop/cluster",
		"https://a..b/shop/cluster", "https://canary:hunter2@/x", "https://canary:hunter2@h/x", "https://[fe80::1%25eth0]/a/b",
		"https://x/" + strings.Repeat("a/", 30) + "b", "https://x/a/" + strings.Repeat("b", 300), strings.Repeat("x", 3000),
		"ext::sh -c id", "ssh://-oProxyCommand=id/a/b", "--upload-pack=id:a/b",
	} {
		p, err := Locate(remote)
		if remote == "ssh://-oProxyCommand=id/a/b" && err == nil { // nothing here is given to a shell
			continue
		}
		if err == nil {
			t.Errorf("%q was taken as %+v", remote, p)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: the error repeats it: %v", remote, err)
		}
	}
}

// answers is a server that answers the given paths, and others as a web application would.
func answers(t *testing.T, paths map[string]func(w http.ResponseWriter)) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Method != http.MethodGet {
			t.Errorf("%s %s with %q", r.Method, r.URL, r.Header.Get("Authorization"))
		}
		if answer := paths[r.URL.Path]; answer != nil {
			answer(w)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html>one page for all addresses</html>"))
	}))
	t.Cleanup(srv.Close)
	return srv
}

func say(status int, body string, header ...string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestProbe(t *testing.T) {
	refused := `{"message":"Only signed in user is allowed to call APIs.","url":"https://git.example.com/api/swagger"}`
	for _, c := range []struct {
		name, path string
		paths      map[string]func(w http.ResponseWriter)
		kind       Kind
		base, repo string
	}{
		{"gitea", "shop/cluster", map[string]func(http.ResponseWriter){"/api/v1/version": say(200, `{"version":"1.25.1"}`)}, Gitea, "/api/v1", "shop/cluster"},
		{"forgejo", "shop/cluster", map[string]func(http.ResponseWriter){"/api/v1/version": say(200, `{"version":"13.0.2+gitea-1.22.0"}`)}, Forgejo, "/api/v1", "shop/cluster"},
		{"gitea that shows strangers nothing", "shop/cluster", map[string]func(http.ResponseWriter){"/api/v1/version": say(403, refused)}, Gitea, "/api/v1", "shop/cluster"},
		{"gitlab", "group/sub/cluster", map[string]func(http.ResponseWriter){"/api/v4/version": say(401, `{"message":"401 Unauthorized"}`)}, GitLab, "/api/v4", "group/sub/cluster"},
		{"gitlab that tells", "shop/cluster", map[string]func(http.ResponseWriter){"/api/v4/version": say(200, `{"version":"18.1.0","revision":"x"}`, "X-Gitlab-Meta", "{}")}, GitLab, "/api/v4", "shop/cluster"},
		{"enterprise", "shop/cluster", map[string]func(http.ResponseWriter){"/api/v3/meta": say(200, `{"installed_version":"3.19.0"}`, "X-GitHub-Request-Id", "1")}, GitHub, "/api/v3", "shop/cluster"},
		{"enterprise in private", "shop/cluster", map[string]func(http.ResponseWriter){"/api/v3/meta": say(401, `{"message":"Must authenticate"}`, "X-GitHub-Enterprise-Version", "3.19")}, GitHub, "/api/v3", "shop/cluster"},
		{"below a path", "git/shop/cluster", map[string]func(http.ResponseWriter){"/git/api/v1/version": say(200, `{"version":"1.25.1"}`)}, Gitea, "/git/api/v1", "shop/cluster"},
		{"nothing of the kind", "shop/cluster", nil, "", "", ""},
		{"nonsense", "shop/cluster", map[string]func(http.ResponseWriter){"/api/v1/version": say(200, `{"version":7}`), "/api/v4/version": say(200, `null`), "/api/v3/meta": say(200, `[]`)}, "", "", ""},
	} {
		srv := answers(t, c.paths)
		p, err := Locate(srv.URL + "/" + c.path + ".git")
		if err != nil {
			t.Fatal(err)
		}
		got, err := Probe(t.Context(), p, nil)
		if c.kind == "" {
			if err == nil || !strings.Contains(err.Error(), "/api/v4/version") {
				t.Errorf("%s: got %+v, %v", c.name, got, err)
			}
			continue
		}
		want := Place{Kind: c.kind, Host: p.Host, Path: c.repo, Base: srv.URL + c.base, Plain: true}
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, want)
		}
		if again, err := Probe(t.Context(), got, nil); err != nil || again != got {
			t.Errorf("%s: again %+v, %v", c.name, again, err)
		}
		if _, err := New(got.Options(secret)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOptions(t *testing.T) {
	good := Options{Kind: GitHub, Base: "https://api.github.com", Path: "shop/cluster", Token: secret}
	for _, c := range []struct {
		name string
		edit func(*Options)
		want string // "" if it is fine
	}{
		{"good", func(*Options) {}, ""},
		{"no kind", func(o *Options) { o.Kind = "" }, "Kind"},
		{"http", func(o *Options) { o.Base = "http://git.example.com" }, "Base: expected https"},
		{"http that was given", func(o *Options) { o.Base, o.Plain = "http://git.example.com", true }, ""},
		{"http on loopback", func(o *Options) { o.Base = "http://127.0.0.1:3000/api/v1" }, ""},
		{"http on localhost", func(o *Options) { o.Base = "http://localhost:3000/api/v1" }, ""},
		{"http on what looks like loopback", func(o *Options) { o.Base = "http://127.0.0.1.example.com" }, "Base"},
		{"user in the address", func(o *Options) { o.Base = "https://u:" + secret + "@api.github.com" }, "Base"},
		{"file", func(o *Options) { o.Base = "file:///etc" }, "Base"},
		{"slash", func(o *Options) { o.Base += "/" }, "Base"},
		{"path", func(o *Options) { o.Path = "shop/../x" }, "Path"},
		{"deep path", func(o *Options) { o.Path = "a/b/c" }, "Path"},
		{"deep path on gitlab", func(o *Options) { o.Path, o.Kind = "a/b/c", GitLab }, ""},
		{"token with a line", func(o *Options) { o.Token = secret + "\r\nX: y" }, "Token"},
		{"limits", func(o *Options) { o.Limits.Pages = -1 }, "Limits"},
	} {
		o := good
		c.edit(&o)
		_, err := New(o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error has the token: %v", c.name, err)
		}
	}
}
