package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// greet answers with who asked.
func greet(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%q", "hello "+From(r)) }

func (m *machine) greets() *machine {
	m.Handle("POST /greet", http.HandlerFunc(greet))
	return m
}

// talk makes each node call each, itself too.
func talk(t *testing.T, nodes ...*machine) {
	t.Helper()
	for _, a := range nodes {
		for _, b := range nodes {
			var got string
			if err := a.Call(context.Background(), b.id(), "/greet", nil, &got); err != nil || got != "hello "+string(a.id()) {
				t.Fatalf("%s asks %s: %q, %v", a.id(), b.id(), got, err)
			}
		}
	}
}

func TestThreeNodesTalk(t *testing.T) {
	noLeaks(t)
	a := begin(t).greets()
	b := a.join("b").greets()
	c := b.join("c").greets() // b holds no key: a signs for it
	talk(t, a, b, c)
	if c.HoldsKey() || !a.HoldsKey() {
		t.Error("only the node that began the ring holds its key")
	}
}

func TestCallErrors(t *testing.T) {
	a := begin(t)
	b := a.join("b")
	b.Handle("POST /refuse", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "not today", http.StatusConflict)
	}))
	b.Handle("POST /slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	b.Handle("POST /noise", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "{") }))
	b.Handle("POST /count", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		fmt.Fprint(w, n)
	}))
	ctx := context.Background()
	var answered *CallError
	if err := a.Call(ctx, b.id(), "/refuse", 1, nil); !errors.As(err, &answered) || answered.Status != http.StatusConflict || answered.Text != "not today" || IsUnreachable(err) {
		t.Errorf("refused: %v", err)
	}
	if err := a.Call(ctx, b.id(), "/none", 1, nil); !errors.As(err, &answered) || answered.Status != http.StatusNotFound {
		t.Errorf("no such path: %v", err)
	}
	var v any
	if err := a.Call(ctx, b.id(), "/noise", nil, &v); err == nil {
		t.Error("half an answer was taken")
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := a.Call(short, b.id(), "/slow", nil, nil); !errors.Is(err, context.DeadlineExceeded) || !IsUnreachable(err) {
		t.Errorf("slow: %v", err)
	}
	var unknown *UnknownError
	if err := a.Call(ctx, "ffffffffffffffff", "/refuse", nil, nil); !errors.As(err, &unknown) {
		t.Errorf("unknown node: %v", err)
	}
	var n int64
	if err := a.Call(ctx, b.id(), "/count", strings.Repeat("x", 1<<20), &n); err != nil || n != 1<<20+2 {
		t.Errorf("1 MiB: %d, %v", n, err)
	}
}
