package forge

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFeature_V4_ApprovalByLabelPerCommit tells stories; times are seconds after start. seen is when the head was
// first in a list, -1 if it never was.
func TestFeature_V4_ApprovalByLabelPerCommit(t *testing.T) {
	a, b, parent := sha("aa"), sha("bb"), sha("cc")
	step := func(w *world, s int, f func()) { w.set(func() { w.now = at(s); f() }) }
	stories := []struct {
		name  string
		head  string
		seen  int
		tell  func(w *world, p *wPull)
		want  map[Kind]string // "yes", or a part of the reason; "" is for those not named
		setBy string
	}{
		{"no label", a, 5, func(*world, *wPull) {}, map[Kind]string{"": "was not set"}, ""},
		{"set by who may write", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
		}, map[Kind]string{"": "yes"}, "maria"},
		{"set by an administrator", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "olga", "preview") })
		}, map[Kind]string{"": "yes"}, "olga"},
		{"set by who may read", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "tom", "preview") })
		}, map[Kind]string{"": "may not write"}, ""},
		{"set by a stranger", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "eve", "preview") })
		}, map[Kind]string{GitLab: "no member", "": "may not write"}, ""},
		{"set by a bot", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "labeler[bot]", "preview") })
		}, map[Kind]string{GitLab: "yes", "": "no person"}, "labeler[bot]"},
		{"set by somebody who is gone", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "nemo", "preview") })
		}, map[Kind]string{"": "no person"}, ""},
		{"another label", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview-not") })
		}, map[Kind]string{"": "was not set"}, ""},
		{"never seen", a, -1, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
		}, map[Kind]string{GitLab: "yes", "": "must be seen first"}, "maria"},
		{"set before it was seen", a, 30, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
		}, map[Kind]string{GitLab: "yes", "": "before this head"}, "maria"},
		{"set in the second it was seen", a, 20, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
		}, map[Kind]string{GitLab: "yes", "": "before this head"}, "maria"},
		{"new push", b, 40, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
			step(w, 30, func() { w.push(p, b, false) })
		}, map[Kind]string{"": "before this head"}, ""},
		{"new push by force", b, 40, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
			step(w, 30, func() { w.push(p, b, true) })
		}, map[Kind]string{"": "before this head"}, ""},
		{"new push, set again", b, 40, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
			step(w, 30, func() { w.push(p, b, false) })
			step(w, 50, func() { w.unlabel(p, "maria", "preview"); w.label(p, "olga", "preview") })
		}, map[Kind]string{"": "yes"}, "olga"},
		{"set after the push, before it was seen", b, 60, func(w *world, p *wPull) {
			step(w, 30, func() { w.push(p, b, false) })
			step(w, 50, func() { w.label(p, "maria", "preview") })
		}, map[Kind]string{GitHub: "before this head", "": "yes"}, "maria"},
		{"set and pushed in one second", b, 60, func(w *world, p *wPull) {
			step(w, 30, func() { w.label(p, "maria", "preview"); w.push(p, b, false) })
		}, map[Kind]string{"": "before this head"}, ""},
		{"taken off", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
			step(w, 30, func() { w.unlabel(p, "tom", "preview") })
		}, map[Kind]string{"": "was not set"}, ""},
		{"taken off, put on by who may read", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
			step(w, 30, func() { w.unlabel(p, "tom", "preview") })
			step(w, 40, func() { w.label(p, "tom", "preview") })
		}, map[Kind]string{"": "may not write"}, ""},
		{"the head that was asked for is not it any more", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview") })
			w.set(func() { p.head = b }) // no event yet
		}, map[Kind]string{"": "another commit"}, ""},
		{"left for its parent and come back", a, 5, func(w *world, p *wPull) {
			step(w, 10, func() { w.push(p, parent, true) })
			step(w, 20, func() { w.label(p, "maria", "preview") }) // she saw the parent
			step(w, 30, func() { w.push(p, a, false) })
		}, map[Kind]string{GitHub: "seen again", "": "before this head"}, ""},
		{"left for its child and come back", a, 5, func(w *world, p *wPull) {
			step(w, 10, func() { w.push(p, b, false) })
			step(w, 20, func() { w.label(p, "maria", "preview") })
			step(w, 30, func() { w.push(p, a, true) })
		}, map[Kind]string{GitHub: "seen again", "": "before this head"}, ""},
		{"forced, seen after that, then set", b, 40, func(w *world, p *wPull) {
			step(w, 30, func() { w.push(p, b, true) })
			step(w, 50, func() { w.label(p, "maria", "preview") })
		}, map[Kind]string{"": "yes"}, "maria"},
		{"a comment that looks like an event", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() {
				p.labels = append(p.labels, "preview")
				p.events = append(p.events, wEvent{id: w.next(), what: "comment", at: w.now, by: "eve", body: "1", label: "preview"})
			})
		}, map[Kind]string{"": "was not set"}, ""},
		{"closed", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview"); p.state = "closed" })
		}, map[Kind]string{"": "not open"}, ""},
		{"gone", a, 5, func(w *world, p *wPull) {
			step(w, 20, func() { w.label(p, "maria", "preview"); p.gone = true })
		}, map[Kind]string{"": "cannot be read"}, ""},
	}
	for _, s := range stories {
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			eachKind(t, func(t *testing.T, w *world) {
				var p *wPull
				w.set(func() { p = w.open(4, a) })
				s.tell(w, p)
				seen := time.Time{}
				if s.seen >= 0 {
					seen = at(s.seen)
				}
				got, err := w.client().Approved(t.Context(), 4, "preview", s.head, seen)
				if err != nil {
					t.Fatal(err)
				}
				want, ok := s.want[w.kind]
				if !ok {
					want = s.want[""]
				}
				if want == "yes" {
					if !got.Approved || got.By != s.setBy || got.Why != "" {
						t.Errorf("got %+v, expected approval by %s", got, s.setBy)
					}
				} else if got.Approved || !strings.Contains(got.Why, want) {
					t.Errorf("got %+v, expected %q", got, want)
				}
			})
		})
	}
}

func TestFault_P1_APermissionThatIsNotTold(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			p := w.open(4, sha("aa"))
			w.now = at(20)
			w.label(p, "maria", "preview")
			w.before = func(rw http.ResponseWriter, op string) bool {
				if strings.Contains(op, "permission") || strings.Contains(op, "members") {
					http.Error(rw, `{"message":"Only admins can query all permissions"}`, http.StatusForbidden)
					return true
				}
				return false
			}
		})
		got, err := w.client().Approved(t.Context(), 4, "preview", sha("aa"), at(5))
		if err != nil || got.Approved || !strings.Contains(got.Why, "this token may not ask for") {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestFault_P1_ANameThatChangedHands(t *testing.T) {
	for _, kind := range []Kind{GitHub, Gitea} {
		w := newWorld(t, kind)
		w.set(func() {
			p := w.open(4, sha("aa"))
			w.now = at(20)
			w.label(p, "maria", "preview")
			w.before = func(_ http.ResponseWriter, op string) bool {
				if strings.Contains(op, "permission") {
					w.users["maria"].id = 77
				}
				return false
			}
		})
		got, err := w.client().Approved(t.Context(), 4, "preview", sha("aa"), at(5))
		if err != nil || got.Approved || !strings.Contains(got.Why, "another owner") {
			t.Errorf("%s: got %+v, %v", kind, got, err)
		}
	}
}

func TestFault_P1_AHistoryTooLong(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world) {
		w.set(func() {
			p := w.open(4, sha("aa"))
			w.now = at(20)
			w.label(p, "maria", "preview")
			for range 120 { // noise that is not cut away unseen
				w.label(p, "maria", "noise")
			}
		})
		got, err := w.client(func(o *Options) { o.Limits.Pages = 1 }).Approved(t.Context(), 4, "preview", sha("aa"), at(5))
		if err != nil || got.Approved || !strings.Contains(got.Why, "too long") {
			t.Errorf("short: got %+v, %v", got, err)
		}
		got, err = w.client().Approved(t.Context(), 4, "preview", sha("aa"), at(5))
		if err != nil || !got.Approved {
			t.Errorf("long: got %+v, %v", got, err)
		}
	})
}

func TestApproved_Arguments(t *testing.T) {
	w := newWorld(t, GitHub)
	c := w.client()
	for _, bad := range []struct {
		number      int
		label, head string
	}{{0, "l", sha("aa")}, {1, "", sha("aa")}, {1, "l", "main"}, {1, "l", ""}, {1, "l\n", sha("aa")}} {
		if a, err := c.Approved(t.Context(), bad.number, bad.label, bad.head, at(0)); err == nil || a.Approved {
			t.Errorf("%+v was taken", bad)
		}
	}
	if n := w.count(""); n > 0 {
		t.Errorf("%d requests", n)
	}
}

func TestGitlabBots(t *testing.T) {
	for name, want := range map[string]bool{
		"project_12_bot": true, "project_12_bot_3fa8": true, "group_4_bot_x": true, "maria": false,
		"project_12_botany": false, "project_bot": false, "projector": false, "group_x_bot": false, "": false,
	} {
		if glBot(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
