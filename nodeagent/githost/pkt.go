package githost

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxPkt is the most bytes a pkt-line carries, its length of four digits not counted.
const maxPkt = 65516

// errProtocol is wrapped by errors about what a client sent.
var errProtocol = errors.New("not the Git protocol")

// pktReader reads pkt-lines and leaves what follows them in r.
type pktReader struct {
	r   *bufio.Reader
	buf []byte
}

// next returns the payload of a pkt-line, which holds until the next call, without a line end; or flush.
func (p *pktReader) next() (line []byte, flush bool, err error) {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return nil, false, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	switch {
	case err != nil || head[0] == '+':
		return nil, false, fmt.Errorf("%w: %q is no pkt-line length", errProtocol, head)
	case n == 0:
		return nil, true, nil
	case n < 4 || n > maxPkt+4:
		return nil, false, fmt.Errorf("%w: a pkt-line of length %d", errProtocol, n)
	}
	if cap(p.buf) < int(n-4) {
		p.buf = make([]byte, n-4)
	}
	b := p.buf[:n-4]
	if _, err := io.ReadFull(p.r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, err
	}
	if len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b, false, nil
}

// pktWriter writes pkt-lines; the first error sticks.
type pktWriter struct {
	w   io.Writer
	err error
}

func (p *pktWriter) linef(format string, a ...any) { p.line([]byte(fmt.Sprintf(format, a...))) }

func (p *pktWriter) line(b []byte) {
	if p.err == nil {
		_, p.err = p.w.Write(append([]byte(fmt.Sprintf("%04x", len(b)+4)), b...))
	}
}

func (p *pktWriter) flush() {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, "0000")
	}
}

// The channels of side-band-64k.
const (
	bandData     = 1
	bandProgress = 2
	bandFatal    = 3
)

// band writes to one channel of a side band, in pieces of at most maxPkt bytes.
type band struct {
	pkt     *pktWriter
	channel byte
}

func (b band) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxPkt-1)
		b.pkt.line(append([]byte{b.channel}, rest[:n]...))
		rest = rest[n:]
	}
	if b.pkt.err != nil {
		return 0, b.pkt.err
	}
	return len(p), nil
}
