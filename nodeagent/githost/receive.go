package githost

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// commands is the head of a push.
type commands struct {
	updates  []source.RefUpdate
	sideband bool
	report   bool
}

// readCommands reads the head of a push: one "<old> <new> <ref>" a line, capabilities behind a NUL on the first.
func readCommands(p *pktReader, max int) (c commands, err error) {
	for first := true; ; {
		line, flush, err := p.next()
		if err != nil {
			return c, err
		}
		if flush {
			return c, nil
		}
		if bytes.HasPrefix(line, []byte("shallow ")) {
			continue // whether all parents are there is seen by the check of the pack
		}
		if bytes.HasPrefix(line, []byte("push-cert")) {
			return c, fmt.Errorf("%w: signed pushes are not offered", errProtocol)
		}
		if first {
			var caps []byte
			line, caps, _ = bytes.Cut(line, []byte{0})
			words := strings.Fields(string(caps))
			c.sideband = slices.Contains(words, "side-band-64k")
			c.report = slices.Contains(words, "report-status")
			if slices.Contains(words, "object-format=sha256") {
				return c, fmt.Errorf("%w: object format sha256 is not offered", errProtocol)
			}
		}
		first = false
		if len(c.updates) >= max {
			return c, fmt.Errorf("a push of more than %d refs", max)
		}
		parts := strings.SplitN(string(line), " ", 3)
		if len(parts) != 3 || !source.ID(parts[0]).Valid() || !source.ID(parts[1]).Valid() {
			return c, fmt.Errorf("%w: expected \"<old> <new> <ref>\", found %.100q", errProtocol, line)
		}
		c.updates = append(c.updates, source.RefUpdate{Name: parts[2], Old: orNone(parts[0]), New: orNone(parts[1])})
	}
}

const none = "0000000000000000000000000000000000000000"

func orNone(id string) source.ID {
	if id == none {
		return ""
	}
	return source.ID(id)
}

// receivePack answers a push.
func (s *Server) receivePack(q *request) {
	body := bufio.NewReaderSize(q.body, 16<<10)
	c, err := readCommands(&pktReader{r: body}, s.opt.Limits.Commands)
	if err != nil {
		http.Error(q.w, "push: "+err.Error(), http.StatusBadRequest)
		return
	}
	if len(c.updates) == 0 {
		return // a probe: the client sees whether it may push before it sends a big pack
	}
	begun := time.Now()
	err = s.take(q, c, body)
	ctx := q.r.Context()
	// What is left of the body is read in any case: a client that is still sending would not read the answer, and
	// the server notices that a client went away only once its request was read to the end. From then on nothing is
	// expected of the client, however long Pushed takes.
	if _, e := io.Copy(io.Discard, body); e == nil {
		_ = q.control.SetReadDeadline(time.Time{})
	}
	if err != nil {
		s.opt.Log.InfoContext(ctx, "push refused", "from", q.r.RemoteAddr, "refs", len(c.updates), "err", err)
	} else {
		s.opt.Log.InfoContext(ctx, "push received", "from", q.r.RemoteAddr, "refs", len(c.updates), "begun", begun, "took", time.Since(begun).Round(time.Millisecond).String())
	}
	pkt := &pktWriter{w: q.out}
	if c.report {
		var report bytes.Buffer
		writeReport(&pktWriter{w: &report}, c.updates, err)
		if c.sideband {
			_, _ = band{pkt, bandData}.Write(report.Bytes())
		} else {
			_, _ = q.out.Write(report.Bytes())
		}
		_ = q.control.Flush()
	}
	if err == nil && s.opt.Pushed != nil {
		progress := io.Discard
		if c.sideband {
			progress = &progressWriter{band: band{pkt, bandProgress}, flush: q.control.Flush}
		}
		q.free()
		s.opt.Pushed(ctx, c.updates, progress)
	}
	if c.sideband {
		pkt.flush()
	}
}

// take does the push.
func (s *Server) take(q *request, c commands, body io.Reader) error {
	needsPack := false
	for _, u := range c.updates {
		switch {
		case source.CheckRefName(u.Name) != nil:
			return source.CheckRefName(u.Name)
		case !strings.HasPrefix(u.Name, "refs/heads/") && !strings.HasPrefix(u.Name, "refs/tags/"):
			return fmt.Errorf("%s: only branches and tags can be pushed", u.Name)
		case u.New == "" && s.opt.KeepRefs:
			return fmt.Errorf("%s: refs are not deleted here", u.Name)
		case u.New == "" && u.Name == s.opt.Repo.DefaultRef():
			return fmt.Errorf("%s: the default branch is not deleted", u.Name)
		}
		needsPack = needsPack || u.New != ""
	}
	var pack io.Reader
	if needsPack {
		pack = body
	}
	accept := func(ctx context.Context) error {
		if s.opt.Accept == nil {
			return nil
		}
		user, _, _ := q.r.BasicAuth()
		return s.opt.Accept(ctx, Push{Updates: c.updates, User: user, Address: q.r.RemoteAddr})
	}
	return s.opt.Repo.Receive(q.r.Context(), c.updates, pack, accept)
}

// writeReport says for each ref what became of it. A push is atomic, so one error is the error of all.
func writeReport(out *pktWriter, updates []source.RefUpdate, err error) {
	out.line([]byte("unpack ok\n"))
	for _, u := range updates {
		if err == nil {
			out.linef("ok %s\n", u.Name)
		} else {
			out.linef("ng %s %s\n", u.Name, oneLine(err))
		}
	}
	out.flush()
}

// oneLine is an error as a status line takes it.
func oneLine(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, err.Error())
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		text = "the pack is too big"
	}
	if len(text) > 900 {
		text = text[:900] + "..."
	}
	return text
}

// progressWriter sends whole writes to the client's terminal at once.
type progressWriter struct {
	band  band
	flush func() error
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.band.Write(b)
	if err == nil {
		err = p.flush()
	}
	return n, err
}
