package forge

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// list is a list that a forge gives page by page.
type list struct {
	path  string
	query url.Values // without page and size
	size  string     // name of the parameter for entries of a page: per_page or limit; "" if the list comes whole
	count int        // entries of a page to ask for
	empty int        // > 0: no header tells the end, which comes after so many empty pages
	null  bool       // null is an empty page
	keep  bool       // remember the answers that have an ETag
}

// keptPage is one page that may be asked for again at no cost.
type keptPage struct {
	tag   string
	items any
	next  bool
}

// page is one page read.
type page[T any] struct {
	items []T
	next  bool // there is another
	date  time.Time
}

// pages reads a list to its end, or to the limit of pages, in which case whole is false. date is when the last page
// was sent, by the forge's clock.
func pages[T any](ctx context.Context, c *Client, l list, read func(body []byte) ([]T, error)) (all []T, whole bool, date time.Time, err error) {
	void := 0
	for n := 1; n <= c.opt.Limits.Pages; n++ {
		p, err := onePage(ctx, c, l, n, len(all), read)
		if err != nil {
			return nil, false, time.Time{}, fmt.Errorf("page %d: %w", n, err)
		}
		all = append(all, p.items...)
		if p.date.After(date) {
			date = p.date
		}
		if len(p.items) > 0 {
			void = 0
		} else {
			void++
		}
		if l.size == "" || l.empty == 0 && !p.next || l.empty > 0 && void >= l.empty {
			return all, true, date, nil
		}
	}
	return all, false, date, nil
}

func onePage[T any](ctx context.Context, c *Client, l list, n, before int, read func(body []byte) ([]T, error)) (page[T], error) {
	q := call{method: http.MethodGet, path: l.path, query: url.Values{}}
	maps.Copy(q.query, l.query)
	if l.size != "" {
		q.query.Set(l.size, strconv.Itoa(l.count))
		q.query.Set("page", strconv.Itoa(n))
	}
	key := q.path + "?" + q.query.Encode()
	var had keptPage
	if l.keep {
		c.mu.Lock()
		had = c.kept[key]
		c.mu.Unlock()
		q.tag = had.tag
	}
	a, err := c.do(ctx, q)
	if err != nil {
		return page[T]{}, err
	}
	if a.status == http.StatusNotModified {
		items, _ := had.items.([]T)
		return page[T]{items: items, next: had.next, date: a.date}, nil
	}
	p := page[T]{date: a.date}
	if !l.null || strings.TrimSpace(string(a.body)) != "null" {
		if p.items, err = read(a.body); err != nil {
			return page[T]{}, err
		}
	}
	if p.next, err = more(a.header, l, len(p.items), before); err != nil {
		return page[T]{}, err
	}
	if tag := a.header.Get("ETag"); l.keep && tag != "" && len(tag) <= maxName {
		c.mu.Lock()
		if len(c.kept) > c.opt.Limits.Pages {
			clear(c.kept)
		}
		c.kept[key] = keptPage{tag: tag, items: p.items, next: p.next}
		c.mu.Unlock()
	}
	return p, nil
}

// more says whether there is another page after one of got entries, with before entries on those before. Link tells;
// without it (a proxy may drop it, and Gitea sends none for a single page) the total does; without both, a full page.
func more(h http.Header, l list, got, before int) (bool, error) {
	if links := h.Values("Link"); len(links) > 0 {
		for _, link := range links {
			if next, err := hasNext(link); next || err != nil {
				return next, err
			}
		}
		return false, nil
	}
	if total, err := strconv.Atoi(first(h.Get("X-Total-Count"), h.Get("X-Total"))); err == nil {
		return got > 0 && before+got < total, nil
	}
	return got >= l.count, nil
}
