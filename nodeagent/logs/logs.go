// Package logs reads containers' logs in the CRI format that the shim writes:
//
//	2026-11-22T00:00:00.000000000Z stdout F a whole line
//	2026-11-22T00:00:00.000000000Z stderr P a part of a longer line
//
// A log is <dir>/<namespace>_<pod>_<uid>/<container>/<attempt>.log; a full one is renamed to
// <attempt>.log.<time> and a new one begun.
package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options choose what of a log is read.
type Options struct {
	Follow     bool
	Tail       int       // the last lines only; negative: all
	Since      time.Time // lines at or after; zero: all
	Timestamps bool      // put each line's time before it
}

const (
	maxLine  = 1 << 20                // a longer line is cut into pieces of this size
	pollSlow = 200 * time.Millisecond // between looks at a log that is quiet
	pollFast = 20 * time.Millisecond  // just after something was written
)

// Dir is where the logs of one container lie.
func Dir(root, namespace, pod, uid, container string) string {
	return filepath.Join(root, namespace+"_"+pod+"_"+uid, container)
}

// Read copies one attempt's log to stdout and stderr. With Follow it goes on until ended says that the
// instance has exited and all was read, or ctx ends. An instance that has no log yet is waited for only
// with Follow; otherwise it is an fs.ErrNotExist.
func Read(ctx context.Context, dir string, attempt int, o Options, ended func() bool, stdout, stderr io.Writer) error {
	current := filepath.Join(dir, strconv.Itoa(attempt)+".log")
	r := &reader{o: o, stdout: stdout, stderr: stderr}
	rotated, err := filepath.Glob(current + ".*")
	if err != nil {
		return err
	}
	slices.Sort(rotated) // their names end in the time of rotation
	if o.Tail >= 0 {
		if err := r.skipTo(append(rotated, current), o.Tail); err != nil {
			return err
		}
	}
	for _, name := range rotated {
		if strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".tmp") {
			continue
		}
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		_, err = r.copy(f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return r.follow(ctx, current, ended)
}

type reader struct {
	o              Options
	stdout, stderr io.Writer
	skip           int // lines still to be passed over, for Tail
	part           []byte
	partial        bool // the line that is being written began before
}

// follow reads the newest file, and its successors as it is rotated.
func (r *reader) follow(ctx context.Context, current string, ended func() bool) error {
	var f *os.File
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	wait := pollFast
	for {
		over := !r.o.Follow || ended() // asked before the read: what was written before the end is still read
		if f == nil {
			var err error
			if f, err = os.Open(current); err != nil {
				f = nil
				if !errors.Is(err, fs.ErrNotExist) || over && !r.o.Follow {
					return fmt.Errorf("open log: %w", err)
				}
			}
		}
		var n int64
		if f != nil {
			var err error
			if n, err = r.copy(f); err != nil {
				return err
			}
			wait = min(wait*2, pollSlow)
			if n > 0 {
				wait = pollFast
			} else if replaced(f, current) {
				f.Close()
				f = nil
				r.part = nil
				continue
			}
		}
		switch {
		case over && (n == 0 || !r.o.Follow):
			return nil
		case over:
			continue // it was still written to: there may be a successor
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// replaced reports whether the name now stands for another file.
func replaced(f *os.File, name string) bool {
	mine, err := f.Stat()
	if err != nil {
		return true
	}
	now, err := os.Stat(name)
	return err == nil && !os.SameFile(mine, now)
}

// copy writes the whole lines there are from where f stands.
func (r *reader) copy(f io.Reader) (n int64, err error) {
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		chunk, err := in.ReadSlice('\n')
		n += int64(len(chunk))
		r.part = append(r.part, chunk...)
		if err == nil || len(r.part) >= maxLine {
			if werr := r.line(r.part); werr != nil {
				return n, werr
			}
			r.part = r.part[:0]
		}
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return n, fmt.Errorf("read log: %w", err)
		}
	}
}

// line writes one line of the CRI format; one that is not in the format goes out as it is.
func (r *reader) line(raw []byte) error {
	stamp, rest, ok1 := bytes.Cut(raw, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 {
		return nil // torn by a crash
	}
	begins, whole := !r.partial, !bytes.HasPrefix(tag, []byte("P"))
	r.partial = !whole
	if r.skip > 0 {
		if whole {
			r.skip--
		}
		return nil
	}
	if !r.o.Since.IsZero() {
		if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil && at.Before(r.o.Since) {
			return nil
		}
	}
	out := r.stdout
	if string(stream) == "stderr" {
		out = r.stderr
	}
	if r.o.Timestamps && begins {
		if _, err := fmt.Fprintf(out, "%s ", stamp); err != nil {
			return err
		}
	}
	if !whole {
		text = bytes.TrimSuffix(text, []byte("\n"))
	}
	_, err := out.Write(text)
	return err
}

// skipTo counts the whole lines and sets how many are passed over to leave the last ones.
func (r *reader) skipTo(names []string, tail int) error {
	total := 0
	for _, name := range names {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		in := bufio.NewScanner(f)
		in.Buffer(make([]byte, 64<<10), maxLine)
		for in.Scan() {
			if _, rest, ok := bytes.Cut(in.Bytes(), []byte(" ")); ok {
				if _, tag, ok := bytes.Cut(rest, []byte(" ")); ok && !bytes.HasPrefix(tag, []byte("P ")) {
					total++
				}
			}
		}
		f.Close()
	}
	r.skip = max(0, total-tail)
	return nil
}
