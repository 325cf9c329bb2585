package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxSetters bounds how many people's permission one Approved asks for.
const maxSetters = 5

// Approval says whether a head may run, and why not.
type Approval struct {
	Approved bool
	By       string    // login of who set the label
	At       time.Time // when, by the forge's clock
	Why      string    // if not: one clause for people
}

// what is a kind of mark.
type what int

const (
	labelled   what = iota + 1 // the label was put on
	unlabelled                 // it was taken off
	moved                      // the head changed
)

// mark is one event in the history of a pull request.
type mark struct {
	what what
	at   time.Time
	id   int64   // grows with time among marks of one series
	row  int     // the series its id belongs to
	who  account // of labels
	head string  // of moves: the head after it; "" if the forge does not tell
}

// Approved says whether somebody who may write to the repository put label on pull request number after head was
// pushed to it; see the package's comment for what each forge can tell. seenAt is List.At of a list in which the pull
// request had this head, zero if there is none; a later one is as good, and is wanted after a force push. What cannot
// be known is not approved. On an error nothing is.
func (c *Client) Approved(ctx context.Context, number int, label, head string, seenAt time.Time) (Approval, error) {
	ctx, cancel := c.whole(ctx)
	defer cancel()
	a, err := c.approved(ctx, number, label, head, seenAt)
	if err != nil {
		return Approval{}, fmt.Errorf("approval of pull request %d: %w", number, err)
	}
	return a, nil
}

func (c *Client) approved(ctx context.Context, number int, label, head string, seenAt time.Time) (Approval, error) {
	var n need
	n.number("number", number)
	n.commit("head", head)
	n.name("label", label)
	if label == "" {
		n.fail("label", "a name")
	}
	if n.err != nil {
		return Approval{}, n.err
	}
	marks, whole, err := c.forge.history(ctx, c, number, label)
	switch {
	case missing(err):
		return Approval{Why: "its history cannot be read: there is none, or the token may not see it"}, nil
	case err != nil:
		return Approval{}, err
	case !whole:
		return Approval{Why: "its history is too long to be read"}, nil
	}
	sets, why := judge(marks, head, seenAt)
	if len(sets) == 0 {
		return Approval{Why: why}, nil
	}
	by, why, err := c.firstWriter(ctx, sets)
	if err != nil {
		return Approval{}, err
	}
	if why != "" {
		return Approval{Why: why}, nil
	}
	// Last, so that what was read before is of this head or an earlier one.
	p, open, _, err := c.forge.pull(ctx, c, number)
	switch {
	case err != nil:
		return Approval{}, err
	case !open:
		return Approval{Why: "it is not open"}, nil
	case p.Head != head:
		return Approval{Why: "its head is another commit now"}, nil
	case !slices.Contains(p.Labels, label):
		return Approval{Why: "it does not have the label"}, nil
	}
	return Approval{Approved: true, By: by.who.Login, At: by.at}, nil
}

// firstWriter is the latest of sets whose setter may write.
func (c *Client) firstWriter(ctx context.Context, sets []mark) (mark, string, error) {
	var why string
	asked := map[int64]bool{}
	for _, set := range slices.Backward(sets) {
		if !set.who.Person {
			why = first(why, "the label was set by "+c.clean(first(set.who.Login, "nobody who is left"))+", which is no person")
			continue
		}
		if asked[set.who.ID] {
			continue
		}
		if asked[set.who.ID] = true; len(asked) > maxSetters {
			return mark{}, "too many people set the label", nil
		}
		ok, no, err := c.forge.mayWrite(ctx, c, set.who)
		if err != nil {
			return mark{}, "", fmt.Errorf("permission of %s: %w", c.clean(set.who.Login), err)
		}
		if ok {
			return set, "", nil
		}
		why = first(why, "the label was set by "+c.clean(set.who.Login)+", "+no)
	}
	return mark{}, why, nil
}

// judge finds the settings of the label that came after head, or says why there are none. It depends on its arguments
// alone.
//
// A push that is told with its head decides when that came. Otherwise seenAt does: the head was there by then. To
// come back to a head that was left takes a move that is no fast-forward, one way or the other, and those are told by
// every forge; so without one since seenAt the head has not been left.
func judge(marks []mark, head string, seenAt time.Time) ([]mark, string) {
	marks = slices.Clone(marks)
	slices.SortStableFunc(marks, func(a, b mark) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.row, b.row), cmp.Compare(a.id, b.id))
	})
	var sets []mark
	var last *mark // of the moves
	for i, m := range marks {
		switch m.what {
		case labelled:
			sets = append(sets, m)
		case unlabelled:
			sets = nil
		case moved:
			last = &marks[i]
		}
	}
	if len(sets) == 0 {
		return nil, "the label was not set"
	}
	isAfter, err := bound(last, head, seenAt)
	if err != nil {
		return nil, err.Error()
	}
	sets = slices.DeleteFunc(sets, func(m mark) bool { return !isAfter(m) })
	if len(sets) == 0 {
		return nil, "the label was set before this head was pushed or seen: set it again"
	}
	return sets, ""
}

// bound makes the test of what came after head.
func bound(last *mark, head string, seenAt time.Time) (func(mark) bool, error) {
	if last != nil && last.head == head {
		return func(m mark) bool {
			return m.at.After(last.at) || m.row == last.row && m.at.Equal(last.at) && m.id > last.id
		}, nil
	}
	if seenAt.IsZero() {
		return nil, errors.New("the forge does not tell when this head was pushed: it must be seen first")
	}
	seenAt = seenAt.Truncate(time.Second)
	if last != nil && !last.at.Before(seenAt) {
		return nil, errors.New("the branch was moved when this head had been seen already: it must be seen again, and the label set after that")
	}
	next := seenAt.Add(time.Second) // seenAt has no fraction, so the head may be up to a second younger
	return func(m mark) bool { return !m.at.Before(next) }, nil
}
