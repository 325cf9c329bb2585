package logs_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/logs"
)

const sample = `2026-11-22T10:00:00.000000001Z stdout F one
2026-11-22T10:00:01.000000001Z stderr F two
2026-11-22T10:00:02.000000001Z stdout P thr
2026-11-22T10:00:02.000000002Z stdout F ee
2026-11-22T10:00:03.000000001Z stdout F four
`

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name     string
		o        logs.Options
		out, err string
	}{
		{"all", logs.Options{Tail: -1}, "one\nthree\nfour\n", "two\n"},
		{"tail", logs.Options{Tail: 2}, "three\nfour\n", ""},
		{"none", logs.Options{Tail: 0}, "", ""},
		{"since", logs.Options{Tail: -1, Since: time.Date(2026, 11, 22, 10, 0, 3, 0, time.UTC)}, "four\n", ""},
		{"times", logs.Options{Tail: 2, Timestamps: true}, "2026-11-22T10:00:02.000000001Z three\n2026-11-22T10:00:03.000000001Z four\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "0.log.20261122-100001"), sample[:88])
			write(t, filepath.Join(dir, "0.log"), sample[88:])
			var out, errs bytes.Buffer
			if err := logs.Read(t.Context(), dir, 0, tt.o, nil, &out, &errs); err != nil {
				t.Fatal(err)
			}
			if out.String() != tt.out || errs.String() != tt.err {
				t.Errorf("got %q and %q, want %q and %q", out.String(), errs.String(), tt.out, tt.err)
			}
		})
	}
}

// A follower sees what is written before and after a rotation, and ends with the container.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "3.log")
	var ended atomic.Bool
	var out bytes.Buffer
	done := make(chan error)
	go func() {
		done <- logs.Read(context.Background(), dir, 3, logs.Options{Follow: true, Tail: -1}, ended.Load, &out, &out)
	}()
	time.Sleep(30 * time.Millisecond)
	write(t, name, sample[:44])
	time.Sleep(60 * time.Millisecond)
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(sample[44:])
	f.Close()
	if err := os.Rename(name, name+".20261122-100003"); err != nil {
		t.Fatal(err)
	}
	write(t, name, "2026-11-22T10:00:04Z stdout F five\n")
	ended.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := "one\ntwo\nthree\nfour\nfive\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
