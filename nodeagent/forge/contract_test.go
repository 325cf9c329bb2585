package forge

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// operation is one operation of a forge's API, as its published description has it. A segment of path in braces is a
// variable: {int} and {sha} are checked, others are any text. Only what a client of this kind could want is listed.
type operation struct {
	method, path string
	query        []field
	body         []field
}

// field is a query parameter or a field of a body: "name type", type being int, bool, string, strings, sha, any, or
// words to choose from, parted by |; a name that ends in ! is required.
type field string

func (f field) parts() (name, kind string, required bool) {
	name, kind, _ = strings.Cut(string(f), " ")
	name, required = strings.CutSuffix(name, "!")
	return name, kind, required
}

func (f field) takes(v any) bool {
	_, kind, _ := f.parts()
	text, isText := v.(string)
	switch kind {
	case "any":
		return true
	case "string":
		return isText
	case "sha":
		return isText && isCommit(text)
	case "int":
		n, ok := v.(float64)
		return ok && n == float64(int64(n))
	case "bool":
		_, ok := v.(bool)
		return ok
	case "strings":
		all, ok := v.([]any)
		return ok && !slices.ContainsFunc(all, func(v any) bool { _, ok := v.(string); return !ok })
	}
	return isText && slices.Contains(strings.Split(kind, "|"), text)
}

// takesText is takes for a query, where all is text.
func (f field) takesText(text string) bool {
	switch _, kind, _ := f.parts(); kind {
	case "int":
		n, err := strconv.Atoi(text)
		return err == nil && n > 0
	case "bool":
		return text == "true" || text == "false"
	}
	return f.takes(text)
}

// contract is the part of an API that is checked.
type contract struct {
	base       string
	token      string // the Authorization header
	operations []operation
}

// check fails the test unless the request is in the contract, and returns which, its variables and its body.
func (c contract) check(t *testing.T, r *http.Request) (op string, vars []string, body map[string]any, ok bool) {
	t.Helper()
	at := r.Method + " " + r.URL.EscapedPath()
	path, found := strings.CutPrefix(r.URL.EscapedPath(), c.base)
	if !found {
		t.Errorf("%s: not below %s", at, c.base)
		return "", nil, nil, false
	}
	var o operation
	for _, o = range c.operations {
		if vars, ok = match(o.path, path); ok && o.method == r.Method {
			break
		}
		ok = false
	}
	if !ok {
		t.Errorf("%s: not in the contract", at)
		return "", nil, nil, false
	}
	if got := r.Header.Get("Authorization"); got != c.token {
		t.Errorf("%s: Authorization is %q, expected %q", at, got, c.token)
	}
	for name, values := range r.URL.Query() {
		i := slices.IndexFunc(o.query, func(f field) bool { n, _, _ := f.parts(); return n == name })
		if i < 0 || len(values) != 1 || !o.query[i].takesText(values[0]) {
			t.Errorf("%s: query %s=%q is not in the contract", at, name, values)
			ok = false
		}
		if (name == "per_page" || name == "limit") && len(values) == 1 {
			if n, _ := strconv.Atoi(values[0]); n > 100 {
				t.Errorf("%s: %s=%d is more than a page has", at, name, n)
			}
		}
	}
	return o.method + " " + o.path, vars, c.checkBody(t, at, o, r), ok
}

func (contract) checkBody(t *testing.T, at string, o operation, r *http.Request) map[string]any {
	t.Helper()
	raw, _ := io.ReadAll(r.Body)
	if len(o.body) == 0 {
		if len(raw) > 0 {
			t.Errorf("%s: has a body, expected none", at)
		}
		return nil
	}
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: Content-Type is %q", at, got)
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		t.Errorf("%s: body: %v", at, err)
		return nil
	}
	for _, f := range o.body {
		name, kind, required := f.parts()
		v, there := body[name]
		if required && !there {
			t.Errorf("%s: body lacks %s", at, name)
		}
		if there && !f.takes(v) {
			t.Errorf("%s: body has %s: %v, expected %s", at, name, v, kind)
		}
	}
	for name := range body {
		if !slices.ContainsFunc(o.body, func(f field) bool { n, _, _ := f.parts(); return n == name }) {
			t.Errorf("%s: body has %s, which is not in the contract", at, name)
		}
	}
	return body
}

// match compares a path with a template and returns the variables.
func match(template, path string) ([]string, bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	var vars []string
	for i, w := range want {
		if !strings.HasPrefix(w, "{") {
			if w != got[i] {
				return nil, false
			}
			continue
		}
		if n, err := strconv.Atoi(got[i]); w == "{int}" && (err != nil || n < 1) || w == "{sha}" && !isCommit(got[i]) || got[i] == "" {
			return nil, false
		}
		vars = append(vars, got[i])
	}
	return vars, true
}

var (
	paged  = []field{"per_page int", "page int"}
	paging = []field{"limit int", "page int"}
)

func with(base []field, more ...field) []field { return append(slices.Clone(base), more...) }

// githubAPI is from github/rest-api-description, api.github.com, version 2022-11-28.
var githubAPI = contract{base: "", token: "Bearer " + secret, operations: []operation{
	{"GET", "/user", nil, nil},
	{"GET", "/repos/{owner}/{repo}/pulls", with(paged, "state open|closed|all", "head string", "base string", "sort created|updated|popularity|long-running", "direction asc|desc"), nil},
	{"GET", "/repos/{owner}/{repo}/pulls/{int}", nil, nil},
	{"GET", "/repos/{owner}/{repo}/issues/{int}/timeline", paged, nil},
	{"GET", "/repos/{owner}/{repo}/collaborators/{username}/permission", nil, nil},
	{"GET", "/repos/{owner}/{repo}/commits/{sha}/statuses", paged, nil},
	{"POST", "/repos/{owner}/{repo}/statuses/{sha}", nil, []field{"state! error|failure|pending|success", "target_url string", "description string", "context string"}},
	{"GET", "/repos/{owner}/{repo}/issues/{int}/comments", with(paged, "since string"), nil},
	{"POST", "/repos/{owner}/{repo}/issues/{int}/comments", nil, []field{"body! string"}},
	{"PATCH", "/repos/{owner}/{repo}/issues/comments/{int}", nil, []field{"body! string"}},
	{"DELETE", "/repos/{owner}/{repo}/issues/comments/{int}", nil, nil},
	{"GET", "/repos/{owner}/{repo}/deployments", with(paged, "sha string", "ref string", "task string", "environment string"), nil},
	{"POST", "/repos/{owner}/{repo}/deployments", nil, []field{"ref! string", "task string", "auto_merge bool", "required_contexts strings", "payload any", "environment string", "description string", "transient_environment bool", "production_environment bool"}},
	{"GET", "/repos/{owner}/{repo}/deployments/{int}/statuses", paged, nil},
	{"POST", "/repos/{owner}/{repo}/deployments/{int}/statuses", nil, []field{"state! error|failure|inactive|in_progress|queued|pending|success", "target_url string", "log_url string", "description string", "environment string", "environment_url string", "auto_inactive bool"}},
}}

// gitlabAPI is from GitLab's documentation of its REST API and its doc/api/openapi.
var gitlabAPI = contract{base: "/api/v4", token: "Bearer " + secret, operations: []operation{
	{"GET", "/user", nil, nil},
	{"GET", "/projects/{id}/merge_requests", with(paged, "state opened|closed|locked|merged|all", "order_by created_at|updated_at|title|merged_at|label_priority|priority|milestone_due|popularity", "sort asc|desc"), nil},
	{"GET", "/projects/{id}/merge_requests/{int}", nil, nil},
	{"GET", "/projects/{id}/merge_requests/{int}/resource_label_events", paged, nil},
	{"GET", "/projects/{id}/merge_requests/{int}/versions", paged, nil},
	{"GET", "/projects/{id}/members/all/{int}", nil, nil},
	{"GET", "/projects/{id}/repository/commits/{sha}/statuses", with(paged, "ref string", "stage string", "name string", "pipeline_id int", "order_by id|pipeline_id", "sort asc|desc", "all bool"), nil},
	{"POST", "/projects/{id}/statuses/{sha}", nil, []field{"state! pending|running|success|failed|canceled|skipped", "ref string", "name string", "context string", "target_url string", "description string", "coverage any", "pipeline_id int"}},
	{"GET", "/projects/{id}/merge_requests/{int}/notes", with(paged, "order_by created_at|updated_at", "sort asc|desc", "activity_filter all_notes|only_comments|only_activity"), nil},
	{"POST", "/projects/{id}/merge_requests/{int}/notes", nil, []field{"body! string", "internal bool", "created_at string"}},
	{"PUT", "/projects/{id}/merge_requests/{int}/notes/{int}", nil, []field{"body! string"}},
	{"DELETE", "/projects/{id}/merge_requests/{int}/notes/{int}", nil, nil},
	{"GET", "/projects/{id}/environments", with(paged, "name string", "search string", "states available|stopping|stopped"), nil},
	{"POST", "/projects/{id}/environments", nil, []field{"name! string", "external_url string", "tier production|staging|testing|development|other", "description string"}},
	{"PUT", "/projects/{id}/environments/{int}", nil, []field{"external_url string", "tier production|staging|testing|development|other", "description string"}},
	{"POST", "/projects/{id}/environments/{int}/stop", nil, []field{"force bool"}},
	{"GET", "/projects/{id}/deployments", with(paged, "order_by id|iid|created_at|updated_at|finished_at|ref", "sort asc|desc", "environment string", "status created|running|success|failed|canceled|blocked"), nil},
	{"POST", "/projects/{id}/deployments", nil, []field{"environment! string", "sha! sha", "ref! string", "tag! bool", "status! running|success|failed|canceled"}},
	{"PUT", "/projects/{id}/deployments/{int}", nil, []field{"status! running|success|failed|canceled"}},
}}

// giteaAPI is from Gitea's templates/swagger/v1_json.tmpl of version 1.25.
var giteaAPI = contract{base: "/api/v1", token: "token " + secret, operations: []operation{
	{"GET", "/user", nil, nil},
	{"GET", "/repos/{owner}/{repo}/pulls", with(paging, "base_branch string", "state open|closed|all", "sort oldest|recentupdate|recentclose|leastupdate|mostcomment|leastcomment|priority", "milestone int", "poster string"), nil},
	{"GET", "/repos/{owner}/{repo}/pulls/{int}", nil, nil},
	{"GET", "/repos/{owner}/{repo}/issues/{int}/timeline", with(paging, "since string", "before string"), nil},
	{"GET", "/repos/{owner}/{repo}/collaborators/{username}/permission", nil, nil},
	{"GET", "/repos/{owner}/{repo}/statuses/{sha}", with(paging, "sort oldest|recentupdate|leastupdate|leastindex|highestindex", "state pending|success|error|failure|warning"), nil},
	{"POST", "/repos/{owner}/{repo}/statuses/{sha}", nil, []field{"state pending|success|error|failure|warning", "target_url string", "description string", "context string"}},
	{"GET", "/repos/{owner}/{repo}/issues/{int}/comments", []field{"since string", "before string"}, nil},
	{"POST", "/repos/{owner}/{repo}/issues/{int}/comments", nil, []field{"body! string", "updated_at string"}},
	{"PATCH", "/repos/{owner}/{repo}/issues/comments/{int}", nil, []field{"body! string", "updated_at string"}},
	{"DELETE", "/repos/{owner}/{repo}/issues/comments/{int}", nil, nil},
}}
