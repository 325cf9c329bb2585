package forge

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxMarker = 100
	maxBody   = 60_000 // characters: GitHub takes 65,536, GitLab a million
	maxTwins  = 10     // superfluous comments removed at once
)

// note is a comment as a forge lists it.
type note struct {
	id   int64
	by   account
	body string
}

// Comment keeps one comment on a pull request up to date: the one of the token's own user that begins with marker,
// hidden in an HTML comment. marker is 1 to 100 of letters, digits and ".:/_-". What somebody removed is made again
// only when the text changes (a Client that is new does not know that it was there). Should there be several, the
// first is kept and the others are removed. A body is cut to 60,000 characters.
func (c *Client) Comment(ctx context.Context, number int, marker, body string) error {
	var n need
	n.number("number", number)
	if !isMarker(marker) {
		n.fail("marker", "1 to %d of letters, digits and .:/_-, without two hyphens in a row", maxMarker)
	}
	if n.err != nil {
		return fmt.Errorf("comment: %w", n.err)
	}
	ctx, cancel := c.whole(ctx)
	defer cancel()
	done, err := c.write(ctx)
	if err != nil {
		return fmt.Errorf("comment on pull request %d: %w", number, err)
	}
	defer done()
	hidden := "<!-- shoal " + marker + " -->"
	text := cut(hidden+"\n"+strings.TrimRight(strings.ToValidUTF8(body, "\uFFFD"), " \t\r\n"), maxBody)
	if err := c.comment(ctx, number, hidden, text); err != nil {
		return fmt.Errorf("comment on pull request %d: %w", number, err)
	}
	return nil
}

func (c *Client) comment(ctx context.Context, number int, hidden, text string) error {
	key := "comment " + strconv.Itoa(number) + " " + hidden
	want := digest(text)
	had, _ := c.said.get(key)
	if had.text == want {
		return nil
	}
	if had.id > 0 {
		err := c.forge.editNote(ctx, c, number, had.id, text)
		if err == nil {
			c.said.set(key, line{text: want, id: had.id})
			return nil
		}
		if !missing(err) {
			c.said.set(key, line{id: had.id})
			return err
		}
	}
	return c.findOrMake(ctx, number, hidden, text, key, had)
}

// findOrMake looks for the comment, and makes it if it is certain that there is none.
func (c *Client) findOrMake(ctx context.Context, number int, hidden, text, key string, had line) error {
	self, err := c.whoami(ctx)
	if err != nil {
		return err
	}
	all, whole, err := c.forge.notes(ctx, c, number)
	if err != nil {
		return fmt.Errorf("list comments: %w", err)
	}
	mine := slices.DeleteFunc(all, func(n note) bool { return !self.is(n.by) || !begun(n.body, hidden) })
	slices.SortFunc(mine, func(a, b note) int { return cmp.Compare(a.id, b.id) })
	if len(mine) > 0 {
		return c.keepFirst(ctx, number, mine, text, key)
	}
	if !whole {
		return fmt.Errorf("list comments: there are more than %d pages, and ours is not on them", c.opt.Limits.Pages)
	}
	if until := time.Unix(0, had.lost).Add(c.opt.Limits.Settle); had.lost != 0 && c.opt.Now().Before(until) {
		return &Later{NotBefore: until, Why: "the answer to a comment was lost, and it may still appear"}
	}
	id, err := c.forge.postNote(ctx, c, number, text)
	if err != nil {
		if maybeDone(err) {
			c.said.set(key, line{lost: c.opt.Now().UnixNano()})
		}
		return err
	}
	c.said.set(key, line{text: digest(text), id: id})
	return nil
}

// maybeDone says whether a write that failed may have been done all the same: the answer was lost, or is nonsense.
func maybeDone(err error) bool {
	if _, ok := errors.AsType[*Later](err); ok {
		return false
	}
	s := statusOf(err)
	return s < 400 || s >= 500
}

// keepFirst brings the oldest of our comments up to date and removes the others.
func (c *Client) keepFirst(ctx context.Context, number int, mine []note, text, key string) error {
	keep := mine[0]
	for _, twin := range mine[1:min(len(mine), 1+maxTwins)] {
		if err := c.forge.dropNote(ctx, c, number, twin.id); err != nil && !missing(err) {
			return fmt.Errorf("remove a second comment: %w", err)
		}
	}
	if normal(keep.body) != normal(text) {
		if err := c.forge.editNote(ctx, c, number, keep.id, text); err != nil {
			c.said.set(key, line{id: keep.id})
			return err
		}
	}
	c.said.set(key, line{text: digest(text), id: keep.id})
	return nil
}

// is says whether two accounts are one. Ids decide where both are known.
func (a account) is(b account) bool {
	if a.ID != 0 && b.ID != 0 {
		return a.ID == b.ID
	}
	return a.Login != "" && strings.EqualFold(a.Login, b.Login)
}

func isMarker(s string) bool {
	if s == "" || len(s) > maxMarker || strings.Contains(s, "--") {
		return false
	}
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:/_-") == ""
}

// begun says whether a comment's first line is the marker.
func begun(body, hidden string) bool {
	first, _, _ := strings.Cut(body, "\n")
	return strings.TrimRight(first, " \t\r") == hidden
}

// normal is a body without what forges change.
func normal(body string) string {
	return strings.TrimRight(strings.ReplaceAll(body, "\r\n", "\n"), " \t\n")
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
