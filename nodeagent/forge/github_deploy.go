package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// enoughInactive ends Retire: a success makes those before it inactive, so that further back all are.
const enoughInactive = 3

type ghDeployment struct {
	ID  int64  `json:"id"`
	SHA string `json:"sha"`
}

type ghDeployStatus struct {
	ID    int64  `json:"id"`
	State string `json:"state"`
	URL   string `json:"environment_url"`
}

// ghStates are GitHub's words for the states of a deployment.
var ghStates = map[State]string{Pending: "in_progress", Success: "success", Failure: "failure", Fault: "error"}

func (g github) deploy(ctx context.Context, c *Client, d Deployment) error {
	newest, err := g.deployments(ctx, c, url.Values{"environment": {d.Environment}, "per_page": {"1"}})
	if err != nil {
		return err
	}
	if len(newest) > 0 && newest[0].SHA == d.Commit {
		now, ok, err := g.deployStatus(ctx, c, newest[0].ID)
		switch {
		case err != nil:
			return err
		case ok && now.State == ghStates[d.State] && now.URL == d.URL:
			return nil
		case !ok || now.State != "inactive": // one that was retired is not taken up again
			return g.setDeployStatus(ctx, c, newest[0].ID, d)
		}
	}
	a, err := c.do(ctx, call{
		method: http.MethodPost, path: g.repo + "/deployments", ok: []int{http.StatusCreated},
		body: map[string]any{
			"ref": d.Commit, "environment": d.Environment, "description": d.Description,
			// Checks that are not green yet are no reason not to show what runs, and nothing is to be merged.
			"auto_merge": false, "required_contexts": []string{}, "production_environment": false,
		},
	})
	if err != nil {
		return err
	}
	id, err := idOf(a.body)
	if err != nil {
		return err
	}
	return g.setDeployStatus(ctx, c, id, d)
}

func (g github) setDeployStatus(ctx context.Context, c *Client, id int64, d Deployment) error {
	body := map[string]any{"state": ghStates[d.State], "description": d.Description, "auto_inactive": true}
	if d.URL != "" {
		body["environment_url"] = d.URL
	}
	_, err := c.do(ctx, call{method: http.MethodPost, path: g.statusesOf(id), body: body, ok: []int{http.StatusCreated}})
	return err
}

// deployments lists the newest of an environment, newest first.
func (g github) deployments(ctx context.Context, c *Client, q url.Values) ([]ghDeployment, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: g.repo + "/deployments", query: q})
	if err != nil {
		return nil, err
	}
	all, err := objects[ghDeployment](a.body)
	if err != nil {
		return nil, err
	}
	for i, d := range all {
		var n need
		n.id("id", d.ID)
		if n.commit("sha", d.SHA); n.err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
	}
	return all, nil
}

func (g github) statusesOf(id int64) string {
	return g.repo + "/deployments/" + strconv.FormatInt(id, 10) + "/statuses"
}

// deployStatus is the newest status of a deployment.
func (g github) deployStatus(ctx context.Context, c *Client, id int64) (ghDeployStatus, bool, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: g.statusesOf(id), query: url.Values{"per_page": {"1"}}})
	if err != nil {
		return ghDeployStatus{}, false, err
	}
	all, err := objects[ghDeployStatus](a.body)
	if err != nil || len(all) == 0 {
		return ghDeployStatus{}, false, err
	}
	var n need
	n.id("id", all[0].ID)
	return all[0], true, n.err
}

func (g github) retire(ctx context.Context, c *Client, environment string) error {
	all, err := g.deployments(ctx, c, url.Values{"environment": {environment}, "per_page": {"100"}})
	if err != nil {
		return err
	}
	inactive := 0
	for _, d := range all {
		now, ok, err := g.deployStatus(ctx, c, d.ID)
		if err != nil {
			return err
		}
		if ok && now.State == "inactive" {
			if inactive++; inactive == enoughInactive {
				return nil
			}
			continue
		}
		inactive = 0
		body := map[string]any{"state": "inactive"}
		if _, err := c.do(ctx, call{method: http.MethodPost, path: g.statusesOf(d.ID), body: body, ok: []int{http.StatusCreated}}); err != nil {
			return err
		}
	}
	return nil
}
