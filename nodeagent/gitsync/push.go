package gitsync

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// A push of one ref to a commit without files, as a client of git-receive-pack.

// RefusedError says that a host does not let us write, or not this.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return "refused: " + e.Why }

// Refused tells this error from one that may be over in a moment.
func (e *RefusedError) Refused() bool { return true }

// answerError is an answer that a host gives to everybody who asks so.
type answerError struct{ error }

func (e *answerError) Unwrap() error { return e.error }

// asRefusal makes a *RefusedError of what a host says, or the file system does, to who may not write.
func asRefusal(err error) error {
	if err == nil {
		return nil
	}
	status, isStatus := errors.AsType[*statusError](err)
	_, isAnswer := errors.AsType[*answerError](err)
	switch {
	case isAnswer, errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
	case isStatus && status.code >= 400 && status.code < 500 && status.code != http.StatusRequestTimeout && status.code != http.StatusTooManyRequests:
	default:
		return err
	}
	return &RefusedError{err.Error()}
}

// encodePush is a push of one ref to a commit with the empty tree: the head as pkt-lines, and the pack.
func encodePush(u bare.Move, commit []byte, caps map[string]bool) ([]byte, error) {
	use := []string{"report-status"}
	if caps["side-band-64k"] {
		use = append(use, "side-band-64k")
	}
	line := fmt.Sprintf("%s %s %s\x00%s agent=shoal", u.Old, u.New, u.Name, strings.Join(use, " "))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%04x%s0000", len(line)+4, line)
	w, err := bare.NewPackWriter(&b, 2)
	if err != nil {
		return nil, err
	}
	err = errors.Join(w.Add(bare.Tree, nil), w.Add(bare.Commit, commit), w.Close())
	return b.Bytes(), err
}

// maxReport bounds the bytes of the answer to a push.
const maxReport = 64 << 10

// readReport reads what became of a push of one ref.
func readReport(r io.Reader, name string, caps map[string]bool) error {
	r = io.LimitReader(r, maxReport)
	words := &tail{} // what hooks say: mostly why
	if caps["side-band-64k"] {
		d := sideband.NewDemuxer(sideband.Sideband64k, r)
		d.Progress = words
		r = d
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("push %s: read answer: %w%s", name, err, said(words))
	}
	report := packp.NewReportStatus()
	if err := report.Decode(bytes.NewReader(raw)); err != nil {
		return fmt.Errorf("push %s: read answer: %w%s", name, err, said(words))
	}
	if report.UnpackStatus != "ok" {
		return &RefusedError{fmt.Sprintf("%.200q%s", report.UnpackStatus, said(words))}
	}
	for _, c := range report.CommandStatuses {
		if c.ReferenceName.String() != name {
			continue
		}
		if c.Status == "ok" {
			return nil
		}
		return &RefusedError{fmt.Sprintf("%.200q%s", c.Status, said(words))}
	}
	return fmt.Errorf("push %s: the host does not say what became of it%s", name, said(words))
}

// said is what a host wrote for people, as the end of an error.
func said(words *tail) string {
	if text := strings.TrimSpace(words.String()); text != "" {
		return fmt.Sprintf("; the host says: %.300q", text)
	}
	return ""
}

// tail keeps the first KiB of what is written.
type tail struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 1024 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
