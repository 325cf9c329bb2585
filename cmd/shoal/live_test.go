package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// seen names the control sequences in what a terminal gets.
func seen(s string) string {
	return strings.NewReplacer(eraseLine, "<erase>", "\x1b[1m", "<bold>", "\x1b[31m", "<red>", "\x1b[32m", "<green>", "\x1b[33m", "<yellow>", "\x1b[0m", "<off>").Replace(s)
}

func TestLive(t *testing.T) {
	var b strings.Builder
	l := &live{w: &b, paint: true, width: func() int { return 24 }}
	l.set("dev/web 1/3 ready")
	l.set("dev/web 1/3 ready")
	fmt.Fprint(l, "dev: activated after 5 ms\ndev: dev/web-x waits: ErrImagePull: no\n")
	l.set("dev/web 2/3 ready  pulling nginx:v1")
	fmt.Fprintln(l, "dev: dev/web-x ready after 9 ms")
	l.set("")
	fmt.Fprintln(l, "apps/web/web.cue:3: what is this")
	want := `<erase><bold>dev/web 1/3 ready<off><erase>dev: activated after 5 ms
<yellow>dev: dev/web-x waits: ErrImagePull: no<off>
<bold>dev/web 1/3 ready<off><erase><bold>dev/web 2/3 ready  pull<off><erase><green>dev: dev/web-x ready after 9 ms<off>
<bold>dev/web 2/3 ready  pull<off><erase><red>apps/web/web.cue:3: what is this<off>
`
	if got := seen(b.String()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if newLive(&b) != nil {
		t.Error("what is no terminal has no foot")
	}
}

func TestPulls(t *testing.T) {
	var p pulls
	tell, end := p.begin("nginx:v1")
	_, endOther := p.begin("nginx:v1") // of another pod
	p.begin("redis:v1")
	tell(1_500_000, 4_000_000)
	rollouts := []api.Rollout{{Namespace: "dev", Name: "web", Ready: 2, Want: 3, State: "Progressing"}, {Namespace: "dev", Name: "db", Ready: 1, Want: 1, State: "Complete"}}
	if got, want := progressText(rollouts, p.list()), "dev/web 2/3 ready  pulling nginx:v1 1.5 of 4.0 MB  pulling redis:v1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	end()
	endOther()
	if got := progressText(nil, p.list()); got != "pulling redis:v1" {
		t.Errorf("got %s", got)
	}
}

// The columns of a painted status are those of a plain one.
func TestStatusIsPainted(t *testing.T) {
	s := api.Status{Node: "n1", Pods: []api.Pod{
		{Namespace: "dev", Name: "web-1", Ready: 1, Containers: 1, Status: "Running"},
		{Namespace: "dev", Name: "web-2-that-has-a-long-name", Containers: 1, Status: "Running"},
		{Namespace: "dev", Name: "db", Containers: 1, Status: "CrashLoopBackOff"},
		{Namespace: "dev", Name: "job", Containers: 1, Status: "Completed"},
	}, Rollouts: []api.Rollout{{Namespace: "dev", Name: "web", Ready: 1, Want: 2, State: "Progressing"}}}
	var plain, painted strings.Builder
	printStatus(&plain, s, false)
	printStatus(&painted, s, true)
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(plain.String(), "under way: dev/web 1/2 ready\n") {
		t.Errorf("plain:\n%s", plain.String())
	}
	got := seen(painted.String())
	for _, want := range []string{"<yellow>dev         web-2-", "<red>dev         db ", "\ndev         web-1 ", "\ndev         job "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, code := range []string{"<bold>", "<red>", "<yellow>", "<off>"} {
		got = strings.ReplaceAll(got, code, "")
	}
	if got != plain.String() {
		t.Errorf("painted:\n%s\nplain:\n%s", got, plain.String())
	}
}

// What is watched through a pipe is printed when it changes.
func TestWatchedStatus(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	states := []string{"a", "a", "b"}
	turn := 0
	var out strings.Builder
	err := again(ctx, &out, func(w io.Writer) (string, error) {
		if turn == len(states) {
			cancel()
			return "", errors.New("canceled")
		}
		fmt.Fprintf(w, "%s%d\n", states[turn], turn)
		turn++
		return states[turn-1], nil
	})
	if err != nil || out.String() != "a0\nb2\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}
