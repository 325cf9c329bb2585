package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

func (g gitlab) notes(ctx context.Context, c *Client, number int) ([]note, bool, error) {
	l := list{
		path: g.one(number) + "/notes", size: "per_page", count: perPage,
		query: url.Values{"order_by": {"created_at"}, "sort": {"asc"}},
	}
	all, whole, _, err := pages(ctx, c, l, glNotes)
	return all, whole, err
}

// glNotes reads a page. What GitLab itself noted loses its author, so that it is nobody's.
func glNotes(body []byte) ([]note, error) {
	raw, err := objects[struct {
		ID     int64   `json:"id"`
		Body   string  `json:"body"`
		Author *glUser `json:"author"`
		System bool    `json:"system"`
	}](body)
	if err != nil {
		return nil, err
	}
	out := make([]note, len(raw))
	for i, r := range raw {
		var n need
		if n.id("id", r.ID); n.err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, n.err)
		}
		out[i] = note{id: r.ID, body: r.Body}
		if !r.System {
			out[i].by = r.Author.account()
		}
	}
	return out, nil
}

func (g gitlab) note(number int, id int64) string {
	return g.one(number) + "/notes/" + strconv.FormatInt(id, 10)
}

func (g gitlab) postNote(ctx context.Context, c *Client, number int, body string) (int64, error) {
	return sendNote(ctx, c, call{
		method: http.MethodPost, path: g.one(number) + "/notes", body: map[string]string{"body": body},
		ok: []int{http.StatusCreated},
	})
}

func (g gitlab) editNote(ctx context.Context, c *Client, number int, id int64, body string) error {
	_, err := sendNote(ctx, c, call{method: http.MethodPut, path: g.note(number, id), body: map[string]string{"body": body}})
	return err
}

func (g gitlab) dropNote(ctx context.Context, c *Client, number int, id int64) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: g.note(number, id), ok: []int{http.StatusNoContent}})
	return err
}
