package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// The channels of a stream.
const (
	chanStdin byte = iota
	chanStdout
	chanStderr
	chanError  // the text of an error; the stream is over
	chanResize // JSON of Size
	chanExit   // the exit code in decimal; the stream is over
	chanEOF    // standard input has ended
)

const (
	maxFrame    = 256 << 10 // bytes
	inputFrames = 16        // of standard input that wait for a command: so far a client's leaving is seen although it does not read
)

// ExecRequest is one command to be run in a container.
type ExecRequest struct {
	Container string   `json:"container,omitempty"` // default: the first
	Args      []string `json:"args"`
	TTY       bool     `json:"tty,omitempty"`
	Stdin     bool     `json:"stdin,omitempty"`
	Size      Size     `json:"size,omitzero"`
}

// Size is a terminal's, in characters.
type Size struct {
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// Streams are a command's.
type Streams struct {
	Stdin          io.Reader // nil for none
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

type frameWriter struct {
	mu    sync.Mutex
	w     io.Writer
	flush func() error
	any   bool
}

func (f *frameWriter) begun() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.any }

func (f *frameWriter) channel(c byte) io.Writer { return channelWriter{f, c} }

type channelWriter struct {
	f *frameWriter
	c byte
}

func (c channelWriter) Write(p []byte) (int, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.any = true
	for rest := p; ; {
		n := min(len(rest), maxFrame)
		head := [5]byte{c.c}
		binary.BigEndian.PutUint32(head[1:], uint32(n))
		if _, err := c.f.w.Write(append(head[:], rest[:n]...)); err != nil {
			return 0, err
		}
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
	}
	if c.f.flush != nil {
		return len(p), c.f.flush()
	}
	return len(p), nil
}

// readFrame reads one frame. It returns io.EOF only between frames.
func readFrame(r io.Reader) (channel byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes, at most %d are allowed", n, maxFrame)
	}
	data = make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return head[0], data, nil
}

// exec takes the connection over and runs a command over it. A client that vanishes ends the command.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	var req ExecRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		refuse(w, fmt.Errorf("request: %w", err))
		return
	}
	if len(req.Args) == 0 {
		refuse(w, errors.New("no command given"))
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, err)
		return
	}
	defer conn.Close()
	if _, err := buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shoal-exec\r\n\r\n"); err != nil {
		return
	}
	if err := buf.Flush(); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := &frameWriter{w: conn}
	streams := Streams{Stdout: out.channel(chanStdout), Stderr: out.channel(chanStderr)}
	stdin, feed := io.Pipe()
	defer stdin.Close()
	if req.Stdin {
		streams.Stdin = stdin
	} else {
		stdin.Close()
	}
	resize := make(chan Size, 1)
	streams.Resize = resize
	if req.Size != (Size{}) {
		resize <- req.Size
	}
	input := make(chan []byte, inputFrames)
	go func() {
		defer cancel()
		readInput(buf.Reader, input, resize)
	}()
	go func() {
		defer feed.Close()
		for data := range input {
			_, _ = feed.Write(data) // fails once the command takes no more; the rest goes nowhere
		}
	}()
	code, err := s.pods.Exec(ctx, r.PathValue("namespace"), r.PathValue("name"), req, streams)
	if err != nil {
		_, _ = out.channel(chanError).Write([]byte(err.Error()))
		return
	}
	_, _ = out.channel(chanExit).Write([]byte(strconv.Itoa(code)))
}

// readInput reads a command's standard input and its terminal's size until the client is gone. It closes input at the
// end of what there is.
func readInput(r *bufio.Reader, input chan<- []byte, resize chan Size) {
	ended := false
	end := func() {
		if !ended {
			close(input)
		}
		ended = true
	}
	defer end()
	for {
		channel, data, err := readFrame(r)
		if err != nil {
			return
		}
		switch channel {
		case chanStdin:
			if !ended {
				input <- data
			}
		case chanEOF:
			end()
		case chanResize:
			var size Size
			if json.Unmarshal(data, &size) == nil {
				select { // the newest size is the one that counts
				case <-resize:
				default:
				}
				select {
				case resize <- size:
				default:
				}
			}
		}
	}
}
