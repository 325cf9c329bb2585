package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// maxSaid bounds what an error repeats of a forge's answer, in characters.
const maxSaid = 300

// Error is a request that a forge did not answer as it should.
type Error struct {
	Request string // method and path
	Status  int    // of HTTP; 0 if there was no answer
	Text    string
	cause   error // of context alone: others may repeat what was sent
}

func (e *Error) Error() string {
	if e.Status == 0 {
		return e.Request + ": " + e.Text
	}
	return fmt.Sprintf("%s: status %d: %s", e.Request, e.Status, e.Text)
}

// Unwrap gives context.Canceled or context.DeadlineExceeded if one of them was the cause.
func (e *Error) Unwrap() error { return e.cause }

// Later says that the forge asks to be left alone until NotBefore, by this machine's clock.
type Later struct {
	NotBefore time.Time
	Why       string
}

func (l *Later) Error() string {
	return fmt.Sprintf("not before %s: %s", l.NotBefore.UTC().Format(time.RFC3339), l.Why)
}

// statusOf is the HTTP status of an error, 0 if it has none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// missing says whether the forge answered that there is no such thing, or none that this token may see.
func missing(err error) bool {
	s := statusOf(err)
	return s == http.StatusNotFound || s == http.StatusGone
}

// fault makes an error of a request, without the token.
func (c *Client) fault(q call, status int, text string, err error) *Error {
	e := &Error{Request: c.clean(q.method + " " + q.path), Status: status, Text: c.clean(text)}
	switch {
	case errors.Is(err, context.Canceled):
		e.cause = context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		e.cause = context.DeadlineExceeded
	}
	return e
}

// clean makes text fit for an error: short, printable, without the token.
func (c *Client) clean(text string) string {
	if c.opt.Token != "" {
		text = strings.ReplaceAll(text, c.opt.Token, "[token]")
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return cut(strings.Join(strings.Fields(text), " "), maxSaid)
}

// cut shortens s to n characters, the last being an ellipsis if something is gone.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}
