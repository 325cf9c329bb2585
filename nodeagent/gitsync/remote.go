package gitsync

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// service is what a host is asked for.
type service bool

const (
	reading service = false
	writing service = true
)

// program is its name in the protocol.
func (s service) program() string {
	if s == writing {
		return "git-receive-pack"
	}
	return "git-upload-pack"
}

// remote is one conversation with a host: first Advertised, then at most one Fetch or Push, then Close.
type remote interface {
	// Advertised returns the host's refs.
	Advertised(ctx context.Context) (*advert, error)
	// Fetch asks for a pack, of a host that is asked to read.
	Fetch(ctx context.Context, ask bare.Ask) (*delivery, error)
	// Push moves one ref by compare-and-swap to a commit with the empty tree, on a host that is asked to write. An error
	// that is a *RefusedError is the host's last word.
	Push(ctx context.Context, u bare.Move, commit []byte) error
	Close()
}

// delivery is the answer to an ask. Pack is read to its end by the caller.
type delivery struct {
	pack         io.Reader
	ends, goesOn []bare.Hash
	close        func()
}

// maxAdvert bounds the bytes a host may spend on its refs: enough for 100,000 of them.
const maxAdvert = 16 << 20

// advert is what a host says of its refs.
type advert struct {
	refs    map[string]bare.Hash
	head    string // what HEAD stands for, or ""
	caps    map[string]bool
	shallow []bare.Hash // where the host's own history ends
}

// readAdvert reads a ref advertisement. Names that git check-ref-format refuses are an error: a host that says
// such things is not to be believed in others.
func readAdvert(r io.Reader, smartHTTP bool) (*advert, error) {
	limited := &io.LimitedReader{R: r, N: maxAdvert}
	s := pktline.NewScanner(limited)
	a := &advert{refs: map[string]bare.Hash{}, caps: map[string]bool{}}
	first := true
	for s.Scan() {
		line := strings.TrimSuffix(string(s.Bytes()), "\n")
		switch {
		case smartHTTP && strings.HasPrefix(line, "# service="):
			continue
		case line == "" && smartHTTP && first:
			smartHTTP = false // the flush behind the service line
			continue
		case line == "":
			return a, nil
		case strings.HasPrefix(line, "ERR "):
			return nil, &answerError{fmt.Errorf("the host says: %.200q", line[4:])}
		case strings.HasPrefix(line, "version "):
			continue
		}
		if id, ok := strings.CutPrefix(line, "shallow "); ok {
			h, err := toHash(source.ID(id))
			if err != nil {
				return nil, err
			}
			a.shallow = append(a.shallow, h)
			continue
		}
		if first {
			var caps string
			line, caps, _ = strings.Cut(line, "\x00")
			for c := range strings.FieldsSeq(caps) {
				a.caps[c] = true
				if head, ok := strings.CutPrefix(c, "symref=HEAD:"); ok && source.CheckRefName(head) == nil {
					a.head = head
				}
			}
			first = false
		}
		id, name, _ := strings.Cut(line, " ")
		h, err := toHash(source.ID(id))
		switch {
		case err != nil:
			return nil, fmt.Errorf("the host advertises %.100q, expected \"<id> <name>\"", line)
		case name == "HEAD", name == "capabilities^{}", strings.HasSuffix(name, "^{}"):
			continue
		}
		if err := source.CheckRefName(name); err != nil {
			return nil, fmt.Errorf("the host advertises a %w", err)
		}
		a.refs[name] = h
		if len(a.refs) > 10*bare.MaxRefs {
			return nil, fmt.Errorf("the host advertises more than %d refs", 10*bare.MaxRefs)
		}
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("the host's list of refs is longer than %d bytes", maxAdvert)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read refs: %w", err)
	}
	return nil, errors.New("read refs: the list is cut short")
}

// encodeAsk is an ask as pkt-lines: everything in one round, then done.
func encodeAsk(ask bare.Ask, caps map[string]bool) string {
	var b strings.Builder
	line := func(format string, a ...any) {
		text := fmt.Sprintf(format, a...)
		fmt.Fprintf(&b, "%04x%s", len(text)+4, text)
	}
	var use []string
	for _, c := range []string{"side-band-64k", "ofs-delta", "no-progress"} {
		if caps[c] {
			use = append(use, c)
		}
	}
	if caps["shallow"] && (ask.Depth > 0 || len(ask.Shallow) > 0) {
		use = append(use, "shallow")
	}
	use = append(use, "agent=shoal")
	for i, h := range ask.Want {
		if i == 0 {
			line("want %s %s\n", h, strings.Join(use, " "))
		} else {
			line("want %s\n", h)
		}
	}
	for _, h := range ask.Shallow {
		line("shallow %s\n", h)
	}
	if ask.Depth > 0 {
		line("deepen %d\n", ask.Depth)
	}
	b.WriteString("0000")
	for _, h := range ask.Have {
		line("have %s\n", h)
	}
	line("done\n")
	return b.String()
}

// readDelivery reads what comes before the pack and returns the pack.
func readDelivery(r io.Reader, ask bare.Ask, caps map[string]bool) (*delivery, error) {
	d := &delivery{}
	b := bufio.NewReaderSize(r, 64<<10)
	s := pktline.NewScanner(b)
	next := func() (string, error) {
		if !s.Scan() {
			if err := s.Err(); err != nil {
				return "", fmt.Errorf("read answer: %w", err)
			}
			return "", errors.New("read answer: cut short before the pack")
		}
		line := strings.TrimSuffix(string(s.Bytes()), "\n")
		if text, ok := strings.CutPrefix(line, "ERR "); ok {
			return "", fmt.Errorf("the host says: %.200q", text)
		}
		return line, nil
	}
	if ask.Depth > 0 {
		for n := 0; ; n++ {
			line, err := next()
			if err != nil {
				return nil, err
			}
			if line == "" {
				break
			}
			word, id, _ := strings.Cut(line, " ")
			h, err := toHash(source.ID(id))
			switch {
			case err != nil || n > 100_000:
				return nil, fmt.Errorf("read answer: %.100q where shallow commits were expected", line)
			case word == "shallow":
				d.ends = append(d.ends, h)
			case word == "unshallow":
				d.goesOn = append(d.goesOn, h)
			default:
				return nil, fmt.Errorf("read answer: %.100q where shallow commits were expected", line)
			}
		}
	}
	// One NAK, or an ACK of the first common commit: what a host says to a client without multi_ack. git says it again for each
	// further commit of which it has seen by then that the client has it, being a parent of the first one.
	line, err := next()
	if err != nil {
		return nil, err
	}
	if line != "NAK" && !strings.HasPrefix(line, "ACK ") {
		return nil, fmt.Errorf("read answer: %.100q, expected NAK or ACK", line)
	}
	for range ask.Have {
		if ahead, err := b.Peek(8); err != nil || string(ahead[4:]) != "ACK " {
			break // the pack, or the end of which its reader will tell
		}
		if _, err := next(); err != nil {
			return nil, err
		}
	}
	d.pack = b
	if caps["side-band-64k"] {
		d.pack = sideband.NewDemuxer(sideband.Sideband64k, b)
	}
	return d, nil
}
