package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// github speaks the REST API of GitHub and GitHub Enterprise Server, of version 2022-11-28.
type github struct{ repo string } // "/repos/owner/name"

const perPage = 100

type ghUser struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
	Type  string `json:"type"` // User, Bot, Organization, Mannequin
}

// account of a user that may be gone.
func (u *ghUser) account() account {
	if u == nil {
		return account{}
	}
	return account{ID: u.ID, Login: u.Login, Person: u.Type == "User" && u.ID > 0 && u.Login != ""}
}

type ghLabel struct {
	Name string `json:"name"`
}

type ghBranch struct {
	Ref  string `json:"ref"`
	SHA  string `json:"sha"`
	Repo *struct {
		ID int64 `json:"id"`
	} `json:"repo"`
}

type ghPull struct {
	Number  int       `json:"number"`
	State   string    `json:"state"`
	Draft   bool      `json:"draft"`
	User    *ghUser   `json:"user"`
	Labels  []ghLabel `json:"labels"`
	Head    ghBranch  `json:"head"`
	Base    ghBranch  `json:"base"`
	Updated stamp     `json:"updated_at"`
}

func (github) authorize(h http.Header, token string) {
	h.Set("Accept", "application/vnd.github+json")
	h.Set("X-GitHub-Api-Version", "2022-11-28")
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
}

func (g github) pulls() list {
	return list{
		path: g.repo + "/pulls", size: "per_page", count: perPage, keep: true,
		query: url.Values{"state": {"open"}, "sort": {"created"}, "direction": {"asc"}},
	}
}

func (github) readPulls(body []byte) ([]Pull, error) { return openPulls[ghPull](body) }

// pull checks one and says whether it is open.
func (r ghPull) pull() (Pull, bool, error) {
	var n need
	n.number("number", r.Number)
	n.oneOf("state", r.State, "open", "closed")
	n.commit("head.sha", r.Head.SHA)
	n.ref("head.ref", r.Head.Ref)
	n.ref("base.ref", r.Base.Ref)
	n.time("updated_at", r.Updated)
	if r.Base.Repo == nil {
		n.fail("base.repo", "a repository, got none")
	} else {
		n.id("base.repo.id", r.Base.Repo.ID)
	}
	author := r.User.account().Login
	n.name("user.login", author)
	labels := n.labels("labels", r.Labels)
	if n.err != nil {
		return Pull{}, false, n.err
	}
	num := strconv.Itoa(r.Number)
	return Pull{
		Number: r.Number, Head: r.Head.SHA, HeadRef: r.Head.Ref, BaseRef: r.Base.Ref,
		Fork:   r.Head.Repo == nil || r.Head.Repo.ID != r.Base.Repo.ID,
		Author: author, Draft: r.Draft, Labels: labels,
		HeadName: "refs/pull/" + num + "/head", MergeName: "refs/pull/" + num + "/merge", Updated: r.Updated.Time,
	}, r.State == "open", nil
}

// labels checks labels that are objects with a name.
func (n *need) labels(field string, all []ghLabel) []string {
	if len(all) > maxLabels {
		n.fail(field, "at most %d, got %d", maxLabels, len(all))
		return nil
	}
	var out []string
	for _, l := range all {
		n.name(field, l.Name)
		out = append(out, l.Name)
	}
	return out
}

func (g github) pull(ctx context.Context, c *Client, number int) (Pull, bool, time.Time, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: g.repo + "/pulls/" + strconv.Itoa(number)})
	if err != nil {
		return Pull{}, false, time.Time{}, err
	}
	raw, err := object[ghPull](a.body)
	if err != nil {
		return Pull{}, false, time.Time{}, err
	}
	p, open, err := raw.pull()
	if err == nil && p.Number != number {
		err = fmt.Errorf("number: expected %d, got %d", number, p.Number)
	}
	return p, open, a.date, err
}

type ghEvent struct {
	ID      int64   `json:"id"`
	Event   string  `json:"event"`
	Actor   *ghUser `json:"actor"`
	Created stamp   `json:"created_at"`
	Label   ghLabel `json:"label"`
}

func (g github) history(ctx context.Context, c *Client, number int, label string) ([]mark, bool, error) {
	l := list{path: g.repo + "/issues/" + strconv.Itoa(number) + "/timeline", size: "per_page", count: perPage}
	marks, whole, _, err := pages(ctx, c, l, func(body []byte) ([]mark, error) { return ghMarks(body, label) })
	return marks, whole, err
}

// ghMarks reads a page of a timeline. Entries that do not matter become empty marks, so that a full page stays full.
func ghMarks(body []byte, label string) ([]mark, error) {
	raw, err := objects[ghEvent](body)
	if err != nil {
		return nil, err
	}
	out := make([]mark, len(raw))
	for i, e := range raw {
		m := mark{at: e.Created.Time, id: e.ID, who: e.Actor.account()}
		switch e.Event {
		case "labeled":
			m.what = labelled
		case "unlabeled":
			m.what = unlabelled
		case "head_ref_force_pushed", "head_ref_deleted", "head_ref_restored":
			m.what = moved
		}
		if m.what == 0 || m.what != moved && e.Label.Name != label {
			continue
		}
		var n need
		n.id("id", e.ID)
		n.time("created_at", e.Created)
		if n.err != nil {
			return nil, fmt.Errorf("entry %d: %s: %w", i+1, e.Event, n.err)
		}
		out[i] = m
	}
	return out, nil
}

// mayWrite asks for a collaborator's permission; "maintain" is told as write, "triage" as read.
func (g github) mayWrite(ctx context.Context, c *Client, who account) (bool, string, error) {
	return permission(ctx, c, g.repo, who, "admin", "write")
}

// permission is GitHub's question, which Gitea has taken over.
func permission(ctx context.Context, c *Client, repo string, who account, enough ...string) (bool, string, error) {
	a, err := c.do(ctx, call{
		method: http.MethodGet, path: repo + "/collaborators/" + url.PathEscape(who.Login) + "/permission",
	})
	switch s := statusOf(err); {
	case s == http.StatusForbidden:
		return false, "whose permission this token may not ask for", nil
	case s == http.StatusNotFound:
		return false, "who is no collaborator", nil
	case err != nil:
		return false, "", err
	}
	said, err := object[struct {
		Permission string  `json:"permission"`
		User       *ghUser `json:"user"`
	}](a.body)
	if err != nil {
		return false, "", err
	}
	if said.User == nil || said.User.ID != who.ID {
		return false, "whose name has another owner now", nil
	}
	if slices.Contains(enough, said.Permission) {
		return true, "", nil
	}
	return false, "who may not write to the repository", nil
}

func (github) me(ctx context.Context, c *Client) (account, error) { return userMe(ctx, c) }

// userMe is GitHub's question, which Gitea has taken over.
func userMe(ctx context.Context, c *Client) (account, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: "/user"})
	if err != nil {
		return account{}, err
	}
	u, err := object[ghUser](a.body)
	if err != nil {
		return account{}, err
	}
	var n need
	n.id("id", u.ID)
	n.name("login", u.Login)
	if u.Login == "" {
		n.fail("login", "a name")
	}
	return account{ID: u.ID, Login: u.Login}, n.err
}

func (github) fitStatus(s Status) Status {
	s.Description = cut(oneLine(s.Description), 140)
	return s
}

// oneLine joins lines: descriptions have none.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// ghStatus is a status as it is listed; Gitea calls the state "status" there.
type ghStatus struct {
	ID          int64  `json:"id"`
	State       string `json:"state"`
	Status      string `json:"status"`
	Context     string `json:"context"`
	Description string `json:"description"`
	TargetURL   string `json:"target_url"`
}

func (g github) readStatus(ctx context.Context, c *Client, commit, name string) (Status, bool, error) {
	return newestStatus(ctx, c, call{
		method: http.MethodGet, path: g.repo + "/commits/" + commit + "/statuses", query: url.Values{"per_page": {"100"}},
	}, name)
}

// newestStatus finds the newest status of a context on the first page; further back, it is sent again.
func newestStatus(ctx context.Context, c *Client, q call, name string) (Status, bool, error) {
	a, err := c.do(ctx, q)
	if err != nil {
		return Status{}, false, err
	}
	all, err := objects[ghStatus](a.body)
	if err != nil {
		return Status{}, false, err
	}
	var newest ghStatus
	for i, s := range all {
		var n need
		if n.id("id", s.ID); n.err != nil {
			return Status{}, false, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
		if s.Context == name && s.ID > newest.ID {
			newest = s
		}
	}
	return Status{
		State: State(first(newest.State, newest.Status)), Context: newest.Context,
		Description: newest.Description, URL: newest.TargetURL,
	}, newest.ID > 0, nil
}

func (g github) postStatus(ctx context.Context, c *Client, commit string, s Status) error {
	return postStatus(ctx, c, g.repo+"/statuses/"+commit, s)
}

func postStatus(ctx context.Context, c *Client, path string, s Status) error {
	body := map[string]string{"state": string(s.State), "context": s.Context, "description": s.Description}
	if s.URL != "" {
		body["target_url"] = s.URL
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: path, body: body, ok: []int{http.StatusCreated}})
	return err
}
