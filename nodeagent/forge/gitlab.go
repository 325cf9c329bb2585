package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// gitlab speaks GitLab's REST API, version 4.
type gitlab struct{ project string } // "/projects/group%2Fname"

func newGitlab(path string) gitlab { return gitlab{project: "/projects/" + url.PathEscape(path)} }

// glWriter is the least access level that may push: Developer.
const glWriter = 30

// Series of ids in a merge request's history.
const (
	rowLabels = iota
	rowVersions
)

type glUser struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
}

func (u *glUser) account() account {
	if u == nil {
		return account{}
	}
	return account{ID: u.ID, Login: u.Username, Person: u.ID > 0 && !glBot(u.Username)}
}

// glBot knows the users that GitLab makes for access tokens: project_12_bot_3fa8, group_4_bot.
func glBot(name string) bool {
	rest, project := strings.CutPrefix(name, "project_")
	if !project {
		var group bool
		if rest, group = strings.CutPrefix(name, "group_"); !group {
			return false
		}
	}
	number, after, _ := strings.Cut(rest, "_")
	_, err := strconv.ParseUint(number, 10, 64)
	return err == nil && (after == "bot" || strings.HasPrefix(after, "bot_"))
}

type glPull struct {
	IID     int      `json:"iid"`
	State   string   `json:"state"` // opened, closed, merged; locked while it is being merged
	SHA     *string  `json:"sha"`   // null until the branch was read
	Source  string   `json:"source_branch"`
	Target  string   `json:"target_branch"`
	From    *int64   `json:"source_project_id"` // null if the fork is gone
	To      int64    `json:"target_project_id"`
	Author  *glUser  `json:"author"`
	Draft   bool     `json:"draft"`
	Labels  []string `json:"labels"`
	Updated stamp    `json:"updated_at"`
}

func (gitlab) authorize(h http.Header, token string) {
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
}

func (g gitlab) pulls() list {
	return list{
		path: g.project + "/merge_requests", size: "per_page", count: perPage, keep: true,
		query: url.Values{"state": {"opened"}, "order_by": {"created_at"}, "sort": {"asc"}},
	}
}

func (gitlab) readPulls(body []byte) ([]Pull, error) { return openPulls[glPull](body) }

func (r glPull) pull() (Pull, bool, error) {
	var n need
	n.number("iid", r.IID)
	n.oneOf("state", r.State, "opened", "closed", "merged", "locked")
	var head string
	if r.SHA != nil {
		head = *r.SHA
		n.commit("sha", head)
	}
	n.ref("source_branch", r.Source)
	n.ref("target_branch", r.Target)
	n.id("target_project_id", r.To)
	n.time("updated_at", r.Updated)
	author := r.Author.account().Login
	n.name("author.username", author)
	if len(r.Labels) > maxLabels {
		n.fail("labels", "at most %d, got %d", maxLabels, len(r.Labels))
	}
	for _, l := range r.Labels {
		n.name("labels", l)
	}
	if n.err != nil {
		return Pull{}, false, n.err
	}
	num := strconv.Itoa(r.IID)
	return Pull{
		Number: r.IID, Head: head, HeadRef: r.Source, BaseRef: r.Target, Fork: r.From == nil || *r.From != r.To,
		Author: author, Draft: r.Draft, Labels: r.Labels,
		HeadName: "refs/merge-requests/" + num + "/head", MergeName: "refs/merge-requests/" + num + "/merge",
		Updated: r.Updated.Time,
	}, r.State == "opened" || r.State == "locked", nil
}

func (g gitlab) one(number int) string { return g.project + "/merge_requests/" + strconv.Itoa(number) }

func (g gitlab) pull(ctx context.Context, c *Client, number int) (Pull, bool, time.Time, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: g.one(number)})
	if err != nil {
		return Pull{}, false, time.Time{}, err
	}
	raw, err := object[glPull](a.body)
	if err != nil {
		return Pull{}, false, time.Time{}, err
	}
	p, open, err := raw.pull()
	if err == nil && p.Number != number {
		err = fmt.Errorf("iid: expected %d, got %d", number, p.Number)
	}
	return p, open, a.date, err
}

// history is the label's events and the versions: GitLab makes a version of each push, when it has read it.
func (g gitlab) history(ctx context.Context, c *Client, number int, label string) ([]mark, bool, error) {
	l := list{path: g.one(number) + "/resource_label_events", size: "per_page", count: perPage}
	marks, whole, _, err := pages(ctx, c, l, func(body []byte) ([]mark, error) { return glLabels(body, label) })
	if err != nil || !whole {
		return nil, false, err
	}
	l.path = g.one(number) + "/versions"
	versions, whole, _, err := pages(ctx, c, l, glVersions)
	return append(marks, versions...), whole, err
}

func glLabels(body []byte, label string) ([]mark, error) {
	raw, err := objects[struct {
		ID      int64    `json:"id"`
		Action  string   `json:"action"`
		User    *glUser  `json:"user"`
		Label   *ghLabel `json:"label"` // null once it was deleted
		Created stamp    `json:"created_at"`
	}](body)
	if err != nil {
		return nil, err
	}
	out := make([]mark, len(raw))
	for i, e := range raw {
		if e.Label == nil || e.Label.Name != label {
			continue
		}
		var n need
		n.id("id", e.ID)
		n.time("created_at", e.Created)
		n.oneOf("action", e.Action, "add", "remove")
		if n.err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
		out[i] = mark{what: labelled, at: e.Created.Time, id: e.ID, row: rowLabels, who: e.User.account()}
		if e.Action == "remove" {
			out[i].what = unlabelled
		}
	}
	return out, nil
}

func glVersions(body []byte) ([]mark, error) {
	raw, err := objects[struct {
		ID      int64   `json:"id"`
		Head    *string `json:"head_commit_sha"` // null for one without commits
		Created stamp   `json:"created_at"`
	}](body)
	if err != nil {
		return nil, err
	}
	out := make([]mark, len(raw))
	for i, v := range raw {
		var n need
		n.id("id", v.ID)
		n.time("created_at", v.Created)
		out[i] = mark{what: moved, at: v.Created.Time, id: v.ID, row: rowVersions}
		if v.Head != nil {
			n.commit("head_commit_sha", *v.Head)
			out[i].head = *v.Head
		}
		if n.err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
	}
	return out, nil
}

func (g gitlab) mayWrite(ctx context.Context, c *Client, who account) (bool, string, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: g.project + "/members/all/" + strconv.FormatInt(who.ID, 10)})
	switch s := statusOf(err); {
	case s == http.StatusForbidden || s == http.StatusUnauthorized:
		return false, "whose role this token may not ask for", nil
	case s == http.StatusNotFound:
		return false, "who is no member of the project", nil
	case err != nil:
		return false, "", err
	}
	m, err := object[struct {
		ID    int64  `json:"id"`
		State string `json:"state"`
		Level int    `json:"access_level"`
	}](a.body)
	switch {
	case err != nil:
		return false, "", err
	case m.ID != who.ID:
		return false, "", fmt.Errorf("id: expected %d, got %d", who.ID, m.ID)
	case m.State != "active":
		return false, "whose account is not active", nil
	case m.Level < glWriter:
		return false, "who may not write to the project", nil
	}
	return true, "", nil
}

func (gitlab) me(ctx context.Context, c *Client) (account, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: "/user"})
	if err != nil {
		return account{}, err
	}
	u, err := object[glUser](a.body)
	if err != nil {
		return account{}, err
	}
	var n need
	n.id("id", u.ID)
	n.name("username", u.Username)
	return account{ID: u.ID, Login: u.Username}, n.err
}

// glMost is what GitLab keeps of a status's name, description and address, in characters.
const glMost = 255

func (gitlab) fitStatus(s Status) Status {
	s.Context, s.Description = cut(s.Context, glMost), cut(oneLine(s.Description), glMost)
	if len(s.URL) > glMost {
		s.URL = ""
	}
	if s.State == Fault {
		s.State = Failure
	}
	return s
}

// glStates are GitLab's words; it has one for failures of both kinds.
var glStates = map[State]string{Pending: "pending", Success: "success", Failure: "failed", Fault: "failed"}

func (g gitlab) readStatus(ctx context.Context, c *Client, commit, name string) (Status, bool, error) {
	a, err := c.do(ctx, call{
		method: http.MethodGet, path: g.project + "/repository/commits/" + commit + "/statuses",
		query: url.Values{"name": {name}, "per_page": {"100"}},
	})
	if err != nil {
		return Status{}, false, err
	}
	all, err := objects[struct {
		ID          int64  `json:"id"`
		Status      string `json:"status"`
		Name        string `json:"name"`
		Description string `json:"description"`
		TargetURL   string `json:"target_url"`
	}](a.body)
	if err != nil {
		return Status{}, false, err
	}
	var out Status
	var newest int64
	for i, s := range all {
		var n need
		if n.id("id", s.ID); n.err != nil {
			return Status{}, false, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
		if s.Name != name || s.ID <= newest {
			continue
		}
		newest = s.ID
		out = Status{State: State(s.Status), Context: s.Name, Description: s.Description, URL: s.TargetURL}
		if s.Status == "failed" {
			out.State = Failure
		}
	}
	return out, newest > 0, nil
}

func (g gitlab) postStatus(ctx context.Context, c *Client, commit string, s Status) error {
	body := map[string]string{"state": glStates[s.State], "name": s.Context, "description": s.Description}
	if s.URL != "" {
		body["target_url"] = s.URL
	}
	if s.Ref != "" {
		body["ref"] = s.Ref
	}
	_, err := c.do(ctx, call{
		method: http.MethodPost, path: g.project + "/statuses/" + commit, body: body, ok: []int{http.StatusCreated},
	})
	// A status that is pending cannot become pending with another description; the state is right all the same.
	if statusOf(err) == http.StatusBadRequest && strings.Contains(err.Error(), "Cannot transition status") {
		return nil
	}
	return err
}
