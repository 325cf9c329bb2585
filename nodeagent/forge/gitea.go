package forge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// gitea speaks the API of Gitea and Forgejo, version 1. Much of it is GitHub's.
type gitea struct{ repo string } // "/repos/owner/name"

const (
	// gtPage is the largest page Gitea gives unless its administrator raised it.
	gtPage = 50
	// gtVoid empty pages end a timeline: it has no header that tells the end, and reviews are left out of its pages,
	// so that one may be empty in the midst.
	gtVoid = 2
)

type gtBranch struct {
	Label  string `json:"label"` // the branch; "" of a head that was pushed to refs/for
	Ref    string `json:"ref"`   // the branch, or refs/pull/12/head if there is none
	SHA    string `json:"sha"`
	RepoID int64  `json:"repo_id"`
	Repo   *struct {
		ID int64 `json:"id"`
	} `json:"repo"`
}

type gtPull struct {
	Number  int       `json:"number"`
	State   string    `json:"state"`
	Draft   bool      `json:"draft"`
	User    *ghUser   `json:"user"`
	Labels  []ghLabel `json:"labels"`
	Head    gtBranch  `json:"head"`
	Base    gtBranch  `json:"base"`
	Updated stamp     `json:"updated_at"`
}

func (gitea) authorize(h http.Header, token string) {
	if token != "" {
		h.Set("Authorization", "token "+token)
	}
}

func (g gitea) pulls() list {
	return list{
		path: g.repo + "/pulls", size: "limit", count: gtPage, keep: true,
		query: url.Values{"state": {"open"}, "sort": {"oldest"}},
	}
}

func (gitea) readPulls(body []byte) ([]Pull, error) { return openPulls[gtPull](body) }

func (r gtPull) pull() (Pull, bool, error) {
	var n need
	n.number("number", r.Number)
	n.oneOf("state", r.State, "open", "closed")
	if r.Head.SHA != "" { // Gitea lists those too whose ref it cannot read
		n.commit("head.sha", r.Head.SHA)
	}
	n.ref("head.ref", r.Head.Ref)
	n.ref("base.ref", r.Base.Ref)
	n.id("base.repo_id", r.Base.RepoID)
	n.time("updated_at", r.Updated)
	author := r.User.account().Login
	n.name("user.login", author)
	labels := n.labels("labels", r.Labels)
	if n.err != nil {
		return Pull{}, false, n.err
	}
	return Pull{
		Number: r.Number, Head: r.Head.SHA, HeadRef: r.Head.Ref, BaseRef: r.Base.Ref,
		Fork: r.stranger(), Author: author, Draft: r.Draft, Labels: labels,
		HeadName: "refs/pull/" + strconv.Itoa(r.Number) + "/head", Updated: r.Updated.Time,
	}, r.State == "open", nil
}

// stranger says whether the head may come from somebody who cannot push to the repository: from a fork, or by a push to
// refs/for, which takes only the right to read and is shown as if it came from the repository itself.
func (r gtPull) stranger() bool {
	return r.Head.Repo == nil || r.Head.RepoID != r.Base.RepoID || r.Head.Label == "" || strings.HasPrefix(r.Head.Ref, "refs/")
}

func (g gitea) pull(ctx context.Context, c *Client, number int) (Pull, bool, time.Time, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: g.repo + "/pulls/" + strconv.Itoa(number)})
	if err != nil {
		return Pull{}, false, time.Time{}, err
	}
	raw, err := object[gtPull](a.body)
	if err != nil {
		return Pull{}, false, time.Time{}, err
	}
	p, open, err := raw.pull()
	if err == nil && p.Number != number {
		err = fmt.Errorf("number: expected %d, got %d", number, p.Number)
	}
	return p, open, a.date, err
}

type gtEvent struct {
	ID      int64    `json:"id"`
	Type    string   `json:"type"`
	User    *ghUser  `json:"user"`
	Body    string   `json:"body"`
	Label   *ghLabel `json:"label"` // null once it was deleted
	Created stamp    `json:"created_at"`
}

func (g gitea) history(ctx context.Context, c *Client, number int, label string) ([]mark, bool, error) {
	l := list{
		path: g.repo + "/issues/" + strconv.Itoa(number) + "/timeline", size: "limit", count: gtPage, empty: gtVoid, null: true,
	}
	marks, whole, _, err := pages(ctx, c, l, func(body []byte) ([]mark, error) { return gtMarks(body, label) })
	return marks, whole, err
}

// gtMarks reads a page of a timeline. Labels and pushes are in one series of ids.
func gtMarks(body []byte, label string) ([]mark, error) {
	raw, err := objects[gtEvent](body)
	if err != nil {
		return nil, err
	}
	out := make([]mark, len(raw))
	for i, e := range raw {
		var n need
		if n.id("id", e.ID); n.err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
		m := mark{at: e.Created.Time, id: e.ID}
		switch {
		case e.Type == "label" && e.Label != nil && e.Label.Name == label:
			m.what, m.who = unlabelled, e.User.gtAccount()
			if e.Body == "1" {
				m.what = labelled
			}
		case e.Type == "pull_push":
			m.what = moved
			if m.head, err = gtPushed(e.Body); err != nil {
				return nil, fmt.Errorf("entry %d: %w", i+1, err)
			}
		default:
			continue
		}
		if n.time("created_at", e.Created); n.err != nil {
			return nil, fmt.Errorf("entry %d: %s: %w", i+1, e.Type, n.err)
		}
		out[i] = m
	}
	return out, nil
}

// gtPushed is the head after a push: the last of its commits, or of the old and the new one if it was forced.
func gtPushed(body string) (string, error) {
	var pushed struct {
		Commits []string `json:"commit_ids"`
	}
	if err := json.Unmarshal([]byte(body), &pushed); err != nil {
		return "", fmt.Errorf("body: %w", explain(err))
	}
	if len(pushed.Commits) == 0 {
		return "", nil
	}
	head := pushed.Commits[len(pushed.Commits)-1]
	var n need
	n.commit("commit_ids", head)
	return head, n.err
}

// gtAccount of a user: Gitea has no type, but its ghost and its own actors have ids below 1, and bots are named so.
func (u *ghUser) gtAccount() account {
	if u == nil {
		return account{}
	}
	return account{ID: u.ID, Login: u.Login, Person: u.ID > 0 && u.Login != "" && !strings.HasSuffix(u.Login, "[bot]")}
}

func (g gitea) mayWrite(ctx context.Context, c *Client, who account) (bool, string, error) {
	return permission(ctx, c, g.repo, who, "owner", "admin", "write")
}

func (gitea) me(ctx context.Context, c *Client) (account, error) { return userMe(ctx, c) }

func (gitea) fitStatus(s Status) Status {
	s.Description = cut(oneLine(s.Description), glMost)
	return s
}

func (g gitea) readStatus(ctx context.Context, c *Client, commit, name string) (Status, bool, error) {
	return newestStatus(ctx, c, call{
		method: http.MethodGet, path: g.repo + "/statuses/" + commit,
		query: url.Values{"sort": {"highestindex"}, "limit": {strconv.Itoa(gtPage)}},
	}, name)
}

func (g gitea) postStatus(ctx context.Context, c *Client, commit string, s Status) error {
	return postStatus(ctx, c, g.repo+"/statuses/"+commit, s)
}

// notes come all at once: this list of Gitea has no pages.
func (g gitea) notes(ctx context.Context, c *Client, number int) ([]note, bool, error) {
	all, whole, _, err := pages(ctx, c, list{path: issueNotes(g.repo, number)}, readNotes)
	return all, whole, err
}

func (g gitea) postNote(ctx context.Context, c *Client, number int, body string) (int64, error) {
	return github(g).postNote(ctx, c, number, body)
}

func (g gitea) editNote(ctx context.Context, c *Client, number int, id int64, body string) error {
	return github(g).editNote(ctx, c, number, id, body)
}

func (g gitea) dropNote(ctx context.Context, c *Client, number int, id int64) error {
	return github(g).dropNote(ctx, c, number, id)
}

// Gitea has no deployments: the status and the comment carry the address.
func (gitea) deploy(context.Context, *Client, Deployment) error { return nil }

func (gitea) retire(context.Context, *Client, string) error { return nil }
