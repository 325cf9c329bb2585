package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	maxRedirects = 5
	maxHeader    = 64 << 10 // bytes of an answer's header
	agent        = "shoal"  // GitHub wants a name
)

// call is one request.
type call struct {
	method string
	path   string // below the API's address, escaped
	query  url.Values
	body   any    // sent as JSON; nil for none
	tag    string // of the answer that is here already
	ok     []int  // statuses that are an answer; default 200
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	date   time.Time // when, by the forge's clock, to the second; zero if it did not say
}

// careful returns a copy of h that follows no redirect off its scheme and host, turns no write into a read, and keeps
// no cookies.
func careful(h *http.Client) *http.Client {
	out := http.Client{}
	if h != nil {
		out = *h
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		t.MaxResponseHeaderBytes = maxHeader
		out.Transport = t
	}
	out.Jar = nil
	out.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		from := via[0]
		switch {
		case len(via) > maxRedirects:
			return fmt.Errorf("more than %d redirects", maxRedirects)
		case req.URL.Scheme != from.URL.Scheme || req.URL.Host != from.URL.Host:
			return errors.New("a redirect to another host or scheme: not followed")
		case req.Method != from.Method:
			return errors.New("a redirect that turns a write into a read: not followed")
		}
		return nil
	}
	return &out
}

// do sends a request and returns an answer of a wanted status. While the forge is to be left alone it sends nothing.
func (c *Client) do(ctx context.Context, q call) (answer, error) {
	if err := c.wait(); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.Limits.Request)
	defer cancel()
	req, err := c.request(ctx, q)
	if err != nil {
		return answer{}, c.fault(q, 0, err.Error(), nil)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok { // its text repeats the address
			return answer{}, c.fault(q, 0, u.Err.Error(), err)
		}
		return answer{}, c.fault(q, 0, err.Error(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.opt.Limits.Body+1))
	if err != nil {
		return answer{}, c.fault(q, 0, "read the answer: "+err.Error(), err)
	}
	if int64(len(body)) > c.opt.Limits.Body {
		return answer{}, c.fault(q, resp.StatusCode, fmt.Sprintf("expected an answer of at most %d bytes", c.opt.Limits.Body), nil)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: body}
	if t, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.date = t.UTC()
	}
	if err := c.heed(a); err != nil {
		return answer{}, err
	}
	switch {
	case a.status == http.StatusNotModified && q.tag != "",
		len(q.ok) == 0 && a.status == http.StatusOK,
		slices.Contains(q.ok, a.status):
		return a, nil
	}
	return answer{}, c.fault(q, a.status, message(a), nil)
}

// request makes one, with the token.
func (c *Client) request(ctx context.Context, q call) (*http.Request, error) {
	var body io.Reader
	if q.body != nil {
		b, err := json.Marshal(q.body)
		if err != nil {
			return nil, fmt.Errorf("write the body: %w", err)
		}
		body = bytes.NewReader(b)
	}
	address := c.opt.Base + q.path
	if len(q.query) > 0 {
		address += "?" + q.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, q.method, address, body)
	if err != nil {
		return nil, errors.New("the address is not one")
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "application/json")
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.tag != "" {
		req.Header.Set("If-None-Match", q.tag)
	}
	c.forge.authorize(req.Header, c.opt.Token)
	return req, nil
}

// wait says whether the forge is to be left alone now.
func (c *Client) wait() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.later == nil {
		return nil
	}
	if !c.opt.Now().Before(c.later.NotBefore) {
		c.later = nil
		return nil
	}
	return c.later
}

// heed takes up what an answer says of when to ask again, and returns it if this request was refused for it.
func (c *Client) heed(a answer) error {
	now := c.opt.Now()
	wait, refused, why := rest(a.status, a.header, a.body, c.opt.Limits.Wait, now)
	if wait == 0 {
		return nil
	}
	later := &Later{NotBefore: now.Add(wait), Why: why}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.later == nil || c.later.NotBefore.Before(later.NotBefore) {
		c.later = later
	}
	if refused {
		return later
	}
	return nil
}

// message is what a refusal says: all forges send {"message": "..."}, GitLab's may be any JSON.
func message(a answer) string {
	var said struct {
		Message json.RawMessage `json:"message"`
		Error   string          `json:"error"`
	}
	if begins(a.body, '{', "") != nil || json.Unmarshal(a.body, &said) != nil {
		return http.StatusText(a.status)
	}
	var text string
	switch {
	case json.Unmarshal(said.Message, &text) == nil && text != "":
		return text
	case len(said.Message) > 0:
		return string(said.Message)
	}
	return first(said.Error, http.StatusText(a.status))
}
