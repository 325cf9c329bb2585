package forge

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Client speaks of one repository with its forge. Safe for concurrent use; writes wait for each other.
type Client struct {
	opt   Options
	http  *http.Client
	forge forge
	turn  chan struct{} // holds one value while somebody writes
	said  *memory       // what was written, by what it is about; whoever has the turn uses it

	mu    sync.Mutex // guards the rest
	later *Later     // set while the forge is to be left alone
	kept  map[string]keptPage
	self  account // whom the token acts as, once known
}

// forge is what the kinds do differently. Methods make requests and check answers; nothing is remembered in them.
type forge interface {
	// authorize puts the token into a request.
	authorize(h http.Header, token string)
	// pulls is the list of open pull requests, oldest first, and readPulls one page of it.
	pulls() list
	readPulls(body []byte) ([]Pull, error)
	// pull asks for one pull request, open or not.
	pull(ctx context.Context, c *Client, number int) (Pull, bool, time.Time, error)
	// history is what happened to a pull request that bears on approval, in any order; false if there is more.
	history(ctx context.Context, c *Client, number int, label string) ([]mark, bool, error)
	// mayWrite says whether somebody may push to the repository, and if not, why not or why that is not known.
	mayWrite(ctx context.Context, c *Client, who account) (bool, string, error)
	// me is whom the token acts as.
	me(ctx context.Context, c *Client) (account, error)

	// fitStatus cuts a status to what the forge keeps, readStatus is the newest of a context, postStatus sets one.
	fitStatus(s Status) Status
	readStatus(ctx context.Context, c *Client, commit, name string) (Status, bool, error)
	postStatus(ctx context.Context, c *Client, commit string, s Status) error

	notes(ctx context.Context, c *Client, number int) ([]note, bool, error)
	postNote(ctx context.Context, c *Client, number int, body string) (int64, error)
	editNote(ctx context.Context, c *Client, number int, id int64, body string) error
	dropNote(ctx context.Context, c *Client, number int, id int64) error

	deploy(ctx context.Context, c *Client, d Deployment) error
	retire(ctx context.Context, c *Client, environment string) error
}

// account is a user of the forge. The id is what counts: names change hands.
type account struct {
	ID     int64
	Login  string
	Person bool // no bot, app or ghost, as far as the forge tells
}

// New makes a Client. It opens no connection.
func New(opt Options) (*Client, error) {
	opt = opt.WithDefaults()
	if err := opt.Check(); err != nil {
		return nil, err
	}
	c := &Client{
		opt: opt, http: careful(opt.HTTP), turn: make(chan struct{}, 1),
		said: newMemory(opt.Limits.Memory), kept: map[string]keptPage{},
	}
	switch opt.Kind {
	case GitHub:
		c.forge = github{repo: "/repos/" + opt.Path}
	case GitLab:
		c.forge = newGitlab(opt.Path)
	default:
		c.forge = gitea{repo: "/repos/" + opt.Path}
	}
	return c, nil
}

// whole bounds one call with all its requests.
func (c *Client) whole(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.opt.Limits.Whole)
}

// write takes the turn to write; the caller gives it back.
func (c *Client) write(ctx context.Context) (done func(), err error) {
	select {
	case c.turn <- struct{}{}:
		return func() { <-c.turn }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another write: %w", context.Cause(ctx))
	}
}

// whoami is whom the token acts as; the forge is asked once.
func (c *Client) whoami(ctx context.Context) (account, error) {
	c.mu.Lock()
	self := c.self
	c.mu.Unlock()
	switch {
	case self != account{}:
		return self, nil
	case c.opt.User != "":
		return account{Login: c.opt.User}, nil
	}
	self, err := c.forge.me(ctx, c)
	if err != nil {
		return account{}, fmt.Errorf("ask whom the token acts as (or set User): %w", err)
	}
	c.mu.Lock()
	c.self = self
	c.mu.Unlock()
	return self, nil
}
