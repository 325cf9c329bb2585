package forge

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// Pull is an open pull request, or merge request. Branches are named as people name them, without refs/heads/, and
// may be anything Git allows: strangers choose them.
type Pull struct {
	Number    int
	Head      string // commit id; "" while GitLab or Gitea has not read the branch
	HeadRef   string // branch it comes from, in the repository or the fork
	BaseRef   string // branch it goes to
	Fork      bool   // whoever made it may not be allowed to push: from another repository, from one that is gone, or by refs/for
	Author    string // login; "" if the account is gone
	Draft     bool
	Labels    []string
	HeadName  string    // full name of the ref that holds Head in the repository itself
	MergeName string    // full name of the ref with the forge's merge with the base, which may lag or be absent; "" on Gitea
	Updated   time.Time // when the forge says it changed last
}

// List is what a forge says of its pull requests.
type List struct {
	Open []Pull // by number
	// Closed are the numbers, of those the caller knew as open, that the forge says are closed or merged. Nothing
	// else is proof of that.
	Closed []int
	// Gone are known numbers that the forge neither lists nor finds: deleted, or hidden from the token since. It is
	// no proof; a time to live may end them.
	Gone []int
	// Complete says that Open has every open pull request and that each known number is in one of the three. Why
	// says why not.
	Complete bool
	Why      string
	// At is when the answer was sent, by the forge's clock, to the second, zero if it did not say: each head in Open was there by
	// then. It is what Approved wants as seenAt.
	At time.Time
}

// Pulls lists the open pull requests. known are the numbers the caller holds as open; those that are not in the list
// are asked for one by one. On an error nothing is known, and nothing has closed.
func (c *Client) Pulls(ctx context.Context, known []int) (List, error) {
	ctx, cancel := c.whole(ctx)
	defer cancel()
	for _, n := range known {
		if n < 1 || n > math.MaxInt32 {
			return List{}, fmt.Errorf("list pull requests: known: expected numbers of 1 to %d, got %d", math.MaxInt32, n)
		}
	}
	open, whole, at, err := pages(ctx, c, c.forge.pulls(), c.forge.readPulls)
	if err != nil {
		return List{}, fmt.Errorf("list pull requests: %w", err)
	}
	listed := make(map[int]bool, len(open))
	for _, p := range open {
		if listed[p.Number] {
			return List{}, fmt.Errorf("list pull requests: expected each number once, got %d twice", p.Number)
		}
		listed[p.Number] = true
	}
	l := List{Open: open, Complete: whole, At: at}
	if !whole {
		l.Why = fmt.Sprintf("the forge has more than %d pages of open pull requests", c.opt.Limits.Pages)
	}
	if err := c.lookUp(ctx, &l, listed, known); err != nil {
		return List{}, fmt.Errorf("list pull requests: %w", err)
	}
	slices.SortFunc(l.Open, func(a, b Pull) int { return cmp.Compare(a.Number, b.Number) })
	return l, nil
}

// lookUp asks for each known pull request that is not in the list. A fault leaves the rest unknown.
func (c *Client) lookUp(ctx context.Context, l *List, listed map[int]bool, known []int) error {
	known = slices.Clone(known)
	slices.Sort(known)
	asked := 0
	for _, n := range slices.Compact(known) {
		if listed[n] {
			continue
		}
		if asked++; asked > c.opt.Limits.Lookups {
			l.Complete, l.Why = false, fmt.Sprintf("more than %d known pull requests are not in the list", c.opt.Limits.Lookups)
			return nil
		}
		p, open, at, err := c.forge.pull(ctx, c, n)
		switch {
		case err == nil && open:
			l.Open = append(l.Open, p)
		case err == nil:
			l.Closed = append(l.Closed, n)
		case missing(err):
			l.Gone = append(l.Gone, n)
		case ctx.Err() != nil:
			return fmt.Errorf("pull request %d: %w", n, err)
		default:
			l.Complete, l.Why = false, fmt.Sprintf("pull request %d: %s", n, err)
			return nil
		}
		if at.After(l.At) {
			l.At = at
		}
	}
	return nil
}
