// Package resp speaks as much of Redis' protocol as the guestbook needs: a command is an array of strings, an
// answer is a string, a number, nothing, or a list of these.
package resp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// maxBulk bounds one string of an answer, in bytes.
const maxBulk = 1 << 20

// Error is an answer by which Redis refuses a command.
type Error string

func (e Error) Error() string { return "redis: " + string(e) }

// Client keeps at most Idle connections to one server. Safe for concurrent use.
type Client struct {
	Addr    string        // host:port
	Timeout time.Duration // of one command, connecting included; default 2s
	Idle    int           // connections kept; default 8

	mu   sync.Mutex
	free []*conn
}

type conn struct {
	net.Conn
	r *bufio.Reader
}

// Do sends one command and returns its answer: string, int64, nil or []any. A connection that the server had
// closed while it was idle is replaced once.
func (c *Client) Do(ctx context.Context, args ...string) (any, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 2 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if k := c.pop(); k != nil {
		answer, err := k.do(ctx, args)
		if refused := Error(""); err == nil || errors.As(err, &refused) {
			c.push(k)
			return answer, err
		}
		k.Close()
		if !errors.Is(err, io.EOF) { // it may have been carried out: do not repeat it
			return nil, err
		}
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, err
	}
	k := &conn{Conn: raw, r: bufio.NewReader(raw)}
	answer, err := k.do(ctx, args)
	if refused := Error(""); err != nil && !errors.As(err, &refused) {
		k.Close()
		return nil, err
	}
	c.push(k)
	return answer, err
}

// Int is Do for commands that answer with a number.
func (c *Client) Int(ctx context.Context, args ...string) (int64, error) {
	answer, err := c.Do(ctx, args...)
	if err != nil {
		return 0, err
	}
	switch v := answer.(type) {
	case nil:
		return 0, nil
	case int64:
		return v, nil
	case string:
		return strconv.ParseInt(v, 10, 64)
	}
	return 0, fmt.Errorf("redis: %s: answered %T, not a number", args[0], answer)
}

// Close closes the idle connections.
func (c *Client) Close() {
	for k := c.pop(); k != nil; k = c.pop() {
		k.Close()
	}
}

func (c *Client) pop() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) == 0 {
		return nil
	}
	k := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	return k
}

func (c *Client) push(k *conn) {
	limit := c.Idle
	if limit == 0 {
		limit = 8
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) >= limit {
		k.Close()
		return
	}
	c.free = append(c.free, k)
}

func (k *conn) do(ctx context.Context, args []string) (any, error) {
	deadline, _ := ctx.Deadline()
	if err := k.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := k.Write(encode(args)); err != nil {
		return nil, err
	}
	return decode(k.r, 0)
}

func encode(args []string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

func decode(r *bufio.Reader, depth int) (any, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("redis: malformed answer %q", line)
	}
	kind, text := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+':
		return text, nil
	case '-':
		return nil, Error(text)
	case ':':
		return strconv.ParseInt(text, 10, 64)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < -1 || n > maxBulk || depth > 4 {
		return nil, fmt.Errorf("redis: malformed answer %q", line)
	}
	switch {
	case n == -1:
		return nil, nil
	case kind == '$':
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		return string(b[:n]), nil
	case kind == '*':
		var list []any
		for range n {
			v, err := decode(r, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	return nil, fmt.Errorf("redis: malformed answer %q", line)
}
