package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

type glEnvironment struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	State string `json:"state"`
	URL   string `json:"external_url"`
}

// glDeploys are GitLab's words for the states of a deployment.
var glDeploys = map[State]string{Pending: "running", Success: "success", Failure: "failed", Fault: "failed"}

func (g gitlab) deploy(ctx context.Context, c *Client, d Deployment) error {
	stopped, err := g.environment(ctx, c, d)
	if err != nil {
		return err
	}
	path := g.project + "/deployments"
	a, err := c.do(ctx, call{method: http.MethodGet, path: path, query: url.Values{
		"environment": {d.Environment}, "order_by": {"id"}, "sort": {"desc"}, "per_page": {"1"},
	}})
	if err != nil {
		return err
	}
	last, err := objects[struct {
		ID     int64  `json:"id"`
		SHA    string `json:"sha"`
		Status string `json:"status"`
	}](a.body)
	if err != nil {
		return err
	}
	want := glDeploys[d.State]
	if len(last) > 0 {
		var n need
		n.id("id", last[0].ID)
		if n.commit("sha", last[0].SHA); n.err != nil {
			return n.err
		}
	}
	if len(last) > 0 && last[0].SHA == d.Commit && !stopped {
		switch last[0].Status {
		case want:
			return nil
		case "created", "running": // others are final: what comes after them is a deployment of its own
			_, err := c.do(ctx, call{
				method: http.MethodPut, path: path + "/" + strconv.FormatInt(last[0].ID, 10), body: map[string]any{"status": want},
			})
			return err
		}
	}
	_, err = c.do(ctx, call{
		method: http.MethodPost, path: path, ok: []int{http.StatusCreated},
		body: map[string]any{"environment": d.Environment, "sha": d.Commit, "ref": d.Ref, "tag": false, "status": want},
	})
	return err
}

// environment makes it, or gives it its address. One that was stopped is started by the next deployment alone.
func (g gitlab) environment(ctx context.Context, c *Client, d Deployment) (stopped bool, err error) {
	now, ok, err := g.find(ctx, c, d.Environment)
	stopped = now.State == "stopped" || now.State == "stopping"
	if err != nil || ok && (now.URL == d.URL || d.URL == "") {
		return stopped, err
	}
	body := map[string]any{}
	if d.URL != "" {
		body["external_url"] = d.URL
	}
	if ok {
		_, err := c.do(ctx, call{method: http.MethodPut, path: g.environmentPath(now.ID), body: body})
		return stopped, err
	}
	body["name"], body["tier"] = d.Environment, "development"
	_, err = c.do(ctx, call{
		method: http.MethodPost, path: g.project + "/environments", body: body, ok: []int{http.StatusCreated},
	})
	return false, err
}

func (g gitlab) environmentPath(id int64) string {
	return g.project + "/environments/" + strconv.FormatInt(id, 10)
}

// find looks an environment up by its name.
func (g gitlab) find(ctx context.Context, c *Client, name string) (glEnvironment, bool, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: g.project + "/environments", query: url.Values{"name": {name}}})
	if err != nil {
		return glEnvironment{}, false, err
	}
	all, err := objects[glEnvironment](a.body)
	if err != nil {
		return glEnvironment{}, false, err
	}
	for i, e := range all {
		var n need
		if n.id("id", e.ID); n.err != nil {
			return glEnvironment{}, false, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
		if e.Name == name {
			return e, true, nil
		}
	}
	return glEnvironment{}, false, nil
}

func (g gitlab) retire(ctx context.Context, c *Client, environment string) error {
	now, ok, err := g.find(ctx, c, environment)
	if err != nil || !ok || now.State == "stopped" || now.State == "stopping" {
		return err
	}
	_, err = c.do(ctx, call{
		method: http.MethodPost, path: g.environmentPath(now.ID) + "/stop", body: map[string]any{"force": true},
		ok: []int{http.StatusOK, http.StatusCreated},
	})
	return err
}
