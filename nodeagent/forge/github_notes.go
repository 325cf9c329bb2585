package forge

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
)

type ghNote struct {
	ID   int64   `json:"id"`
	Body string  `json:"body"`
	User *ghUser `json:"user"`
}

// readNotes reads comments of GitHub, or of Gitea, which has taken them over.
func readNotes(body []byte) ([]note, error) {
	raw, err := objects[ghNote](body)
	if err != nil {
		return nil, err
	}
	out := make([]note, 0, len(raw))
	for i, r := range raw {
		var n need
		if n.id("id", r.ID); n.err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
		out = append(out, note{id: r.ID, by: r.User.account(), body: r.Body})
	}
	return out, nil
}

func (g github) notes(ctx context.Context, c *Client, number int) ([]note, bool, error) {
	l := list{path: issueNotes(g.repo, number), size: "per_page", count: perPage}
	all, whole, _, err := pages(ctx, c, l, readNotes)
	return all, whole, err
}

func (g github) postNote(ctx context.Context, c *Client, number int, body string) (int64, error) {
	return sendNote(ctx, c, call{
		method: http.MethodPost, path: issueNotes(g.repo, number), body: map[string]string{"body": body},
		ok: []int{http.StatusCreated},
	})
}

func (g github) editNote(ctx context.Context, c *Client, _ int, id int64, body string) error {
	_, err := sendNote(ctx, c, call{
		method: http.MethodPatch, path: oneNote(g.repo, id), body: map[string]string{"body": body}, ok: []int{http.StatusOK},
	})
	return err
}

func (g github) dropNote(ctx context.Context, c *Client, _ int, id int64) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: oneNote(g.repo, id), ok: []int{http.StatusNoContent}})
	return err
}

func issueNotes(repo string, number int) string {
	return repo + "/issues/" + strconv.Itoa(number) + "/comments"
}

func oneNote(repo string, id int64) string {
	return repo + "/issues/comments/" + strconv.FormatInt(id, 10)
}

// sendNote makes or edits a comment and returns its id.
func sendNote(ctx context.Context, c *Client, q call) (int64, error) {
	a, err := c.do(ctx, q)
	if err != nil {
		return 0, err
	}
	return idOf(a.body)
}

// idOf is the id of what was made.
func idOf(body []byte) (int64, error) {
	made, err := object[struct {
		ID int64 `json:"id"`
	}](body)
	if err != nil {
		return 0, err
	}
	var n need
	n.id("id", made.ID)
	return made.ID, n.err
}
