package forge

import (
	"context"
	"fmt"
	"strings"
)

// maxEnvironment is what GitHub and GitLab keep of an environment's name, in bytes.
const maxEnvironment = 255

// Deployment is what an environment runs, as the pull request shows it.
type Deployment struct {
	Environment string // "preview/pr-12": 1 to 255 of letters, digits, spaces and "-_/.", not a slash at an end
	Commit      string // the pull request's head
	Ref         string // its branch; GitLab wants it
	URL         string // where it answers; http or https
	State       State
	Description string // cut to 140 characters; GitHub alone keeps it
}

// Deploy shows a deployment on the pull requests whose head is its commit. On Gitea and Forgejo, which have nothing of
// the kind, it does nothing. What is there already is not sent again.
func (c *Client) Deploy(ctx context.Context, d Deployment) error {
	var n need
	n.environment("Environment", d.Environment)
	n.commit("Commit", d.Commit)
	n.oneOf("State", string(d.State), string(Pending), string(Success), string(Failure), string(Fault))
	if d.URL != "" && !isLink(d.URL) {
		n.fail("URL", "an http or https address")
	}
	if c.opt.Kind == GitLab {
		n.ref("Ref", d.Ref)
	}
	if n.err != nil {
		return fmt.Errorf("deploy: %w", n.err)
	}
	d.Description = cut(d.Description, 140)
	return c.once(ctx, "environment "+d.Environment, fingerprint(d), "deploy "+d.Environment,
		func(ctx context.Context) error { return c.forge.deploy(ctx, c, d) })
}

// Retire says that an environment is no more. One that the forge does not know is retired. The environment's name
// stays in the forge's list: to delete it takes an administrator's token.
func (c *Client) Retire(ctx context.Context, environment string) error {
	var n need
	if n.environment("environment", environment); n.err != nil {
		return fmt.Errorf("retire: %w", n.err)
	}
	return c.once(ctx, "environment "+environment, "retired", "retire "+environment,
		func(ctx context.Context) error { return c.forge.retire(ctx, c, environment) })
}

// once does what was not the last thing done under key.
func (c *Client) once(ctx context.Context, key, want, what string, do func(context.Context) error) error {
	ctx, cancel := c.whole(ctx)
	defer cancel()
	done, err := c.write(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer done()
	if had, _ := c.said.get(key); had.text == want {
		return nil
	}
	if err := do(ctx); err != nil {
		c.said.forget(key)
		return fmt.Errorf("%s: %w", what, err)
	}
	c.said.set(key, line{text: want})
	return nil
}

// environment checks a name that both forges take.
func (n *need) environment(field, v string) {
	const fine = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_/. "
	if v == "" || len(v) > maxEnvironment || strings.Trim(v, "/ ") != v || strings.Trim(v, fine) != "" {
		n.fail(field, "1 to %d of letters, digits, spaces and -_/.", maxEnvironment)
	}
}
