package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ErrUnreachable is wrapped where no agent answers.
var ErrUnreachable = errors.New("the agent does not answer")

// Client asks an agent.
type Client struct {
	dial func(ctx context.Context) (net.Conn, error)
	http *http.Client
}

// NewClient makes a client of the agent at socket.
func NewClient(socket string) *Client {
	return NewClientOver(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
	})
}

// NewClientOver makes a client of the agent that dial reaches.
func NewClientOver(dial func(ctx context.Context) (net.Conn, error)) *Client {
	reach := func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return conn, nil
	}
	return &Client{dial: reach, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return reach(ctx) },
	}}}
}

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks how it is going.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, "status", nil, &s)
}

// Why asks for an explanation.
func (c *Client) Why(ctx context.Context, kind, namespace, name string) (w Why, err error) {
	return w, c.get(ctx, "why", url.Values{"kind": {kind}, "namespace": {namespace}, "name": {name}}, &w)
}

// Events asks for the events of an object, or all for "".
func (c *Client) Events(ctx context.Context, object string) (lines []string, err error) {
	return lines, c.get(ctx, "events", url.Values{"object": {object}}, &lines)
}

// Manifest asks for what is active in an environment.
func (c *Client) Manifest(ctx context.Context, environment string) (b []byte, err error) {
	return b, c.get(ctx, "environments/"+url.PathEscape(environment)+"/manifest", nil, &b)
}

// Blob asks for the bytes of a digest.
func (c *Client) Blob(ctx context.Context, digest string) (b []byte, err error) {
	return b, c.get(ctx, "blobs/"+url.PathEscape(digest), nil, &b)
}

func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/"+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	return c.do(r, into)
}

func (c *Client) do(r *http.Request, into any) error {
	resp, err := c.http.Do(r)
	if err != nil {
		return plainError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, resp.Body)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("answer of the agent: %w", err)
	}
	return nil
}

// plainError takes the method and the made-up address of the socket out of net/http's error.
func plainError(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func refusal(code int, body io.Reader) error {
	var e Error
	text, _ := io.ReadAll(io.LimitReader(body, 64<<10))
	if json.Unmarshal(text, &e) != nil || e.Message == "" {
		e.Message = cmp.Or(string(bytes.TrimSpace(text)), http.StatusText(code))
	}
	if code == http.StatusNotFound {
		return notFound(e.Message)
	}
	return errors.New(e.Message)
}

// notFound is ErrNotFound in the agent's words.
type notFound string

func (e notFound) Error() string        { return string(e) }
func (e notFound) Is(target error) bool { return target == ErrNotFound }

// Logs copies a container's log until it ends, or ctx does.
func (c *Client) Logs(ctx context.Context, namespace, pod string, o LogOptions, stdout, stderr io.Writer) error {
	q := url.Values{"container": {o.Container}}
	for name, on := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if on {
			q.Set(name, "1")
		}
	}
	if o.Tail >= 0 {
		q.Set("tail", strconv.Itoa(o.Tail))
	}
	if !o.Since.IsZero() {
		q.Set("since", o.Since.Format(time.RFC3339Nano))
	}
	path := "http://agent/v1/pods/" + url.PathEscape(namespace) + "/" + url.PathEscape(pod) + "/logs?" + q.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return plainError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, resp.Body)
	}
	if _, err = demux(resp.Body, stdout, stderr); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// demux copies frames to where they belong until one ends the stream. A stream that just stops is io.EOF.
func demux(r io.Reader, stdout, stderr io.Writer) (exit int, err error) {
	in := bufio.NewReader(r)
	for {
		channel, data, err := readFrame(in)
		if err != nil {
			return 0, err
		}
		switch channel {
		case chanStdout:
			_, err = stdout.Write(data)
		case chanStderr:
			_, err = stderr.Write(data)
		case chanError:
			return 0, errors.New(string(data))
		case chanExit:
			return strconv.Atoi(string(data))
		}
		if err != nil {
			return 0, err
		}
	}
}

// Exec runs a command in a container and returns its exit code.
func (c *Client) Exec(ctx context.Context, namespace, pod string, req ExecRequest, s Streams) (exit int, err error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	req.Stdin = s.Stdin != nil
	body, err := json.Marshal(req)
	if err != nil {
		return 0, err
	}
	path := "http://agent/v1/pods/" + url.PathEscape(namespace) + "/" + url.PathEscape(pod) + "/exec"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if err := r.Write(conn); err != nil {
		return 0, err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, r)
	if err != nil {
		return 0, fmt.Errorf("answer of the agent: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return 0, refusal(resp.StatusCode, resp.Body)
	}
	out := &frameWriter{w: conn}
	if s.Stdin != nil {
		go func() {
			_, _ = io.Copy(out.channel(chanStdin), s.Stdin)
			_, _ = out.channel(chanEOF).Write(nil)
		}()
	}
	over := make(chan struct{})
	defer close(over)
	if s.Resize != nil {
		go func() {
			for {
				select {
				case size := <-s.Resize:
					data, _ := json.Marshal(size)
					_, _ = out.channel(chanResize).Write(data)
				case <-over:
					return
				}
			}
		}()
	}
	exit, err = demux(in, s.Stdout, s.Stderr)
	if errors.Is(err, io.EOF) {
		return 0, errors.New("the agent went away before the command ended; its exit status is not known")
	}
	return exit, err
}
