package forge

import (
	"context"
	"encoding/json"
	"fmt"
)

// State is what is said of a commit or an environment.
type State string

// The states. Failure is the commit's fault, Error is ours; GitLab shows both as failed.
const (
	Pending State = "pending"
	Success State = "success"
	Failure State = "failure"
	Fault   State = "error"
)

// Status is what a commit is marked with; there is one for each Context.
type Status struct {
	State       State
	Context     string // "shoal/preview": names the status; required
	Description string // one line, cut to what the forge keeps: 140 characters on GitHub, 255 elsewhere
	URL         string // http or https; left out where it is longer than the forge keeps (255 on GitLab)
	Ref         string // the pull request's branch; GitLab refuses statuses of commits on no branch of its own without it
}

// SetStatus marks a commit. What is there already is not sent again. An error leaves it unknown; the next call looks
// first.
func (c *Client) SetStatus(ctx context.Context, commit string, s Status) error {
	var n need
	n.commit("commit", commit)
	n.oneOf("State", string(s.State), string(Pending), string(Success), string(Failure), string(Fault))
	n.name("Context", s.Context)
	if s.Context == "" {
		n.fail("Context", "a name")
	}
	if s.URL != "" && !isLink(s.URL) {
		n.fail("URL", "an http or https address")
	}
	if n.err != nil {
		return fmt.Errorf("set status: %w", n.err)
	}
	ctx, cancel := c.whole(ctx)
	defer cancel()
	done, err := c.write(ctx)
	if err != nil {
		return fmt.Errorf("set status: %w", err)
	}
	defer done()
	if err := c.setStatus(ctx, commit, c.forge.fitStatus(s)); err != nil {
		return fmt.Errorf("set status of %.12s: %w", commit, err)
	}
	return nil
}

func (c *Client) setStatus(ctx context.Context, commit string, s Status) error {
	key := "status " + commit + " " + s.Context
	want := fingerprint(s)
	had, _ := c.said.get(key)
	if had.text == want {
		return nil
	}
	if had.text == "" {
		now, ok, err := c.forge.readStatus(ctx, c, commit, s.Context)
		if err != nil {
			return err
		}
		if now.Ref = s.Ref; ok && now == s {
			c.said.set(key, line{text: want})
			return nil
		}
	}
	if err := c.forge.postStatus(ctx, c, commit, s); err != nil {
		c.said.forget(key)
		return err
	}
	c.said.set(key, line{text: want})
	return nil
}

// fingerprint is a value as text, for comparison.
func fingerprint(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // plain structs of strings always marshal
		return ""
	}
	return string(b)
}
