package renderer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/shoal-dev/shoal/engine/render"
)

// frameType is the first byte of a frame.
type frameType byte

const (
	frameHello  frameType = 'H'
	frameReady  frameType = 'R'
	frameRender frameType = 'Q'
	frameLookup frameType = 'l'
	frameList   frameType = 'd'
	frameRead   frameType = 'f'
	frameReply  frameType = 'r'
	frameBegin  frameType = 'B'
	frameLoaded frameType = 'L'
	frameApp    frameType = 'A'
	frameDone   frameType = 'Z'
)

// hello is the parent's first frame.
type hello struct {
	Limits     Limits `json:"limits"`
	Namespaces bool   `json:"namespaces"` // the child was started in namespaces of its own, as root
}

// ready says how the child is locked up.
type ready struct {
	Sandbox Sandbox `json:"sandbox"`
	Error   string  `json:"error,omitempty"`
}

// Sandbox says what holds a child.
type Sandbox struct {
	Namespaces bool `json:"namespaces"` // and an empty root, and another user
	Seccomp    bool `json:"seccomp"`
	Landlock   bool `json:"landlock"`
}

// renderRequest asks for apps of an environment, or, without apps, for the environments.
type renderRequest struct {
	Environment  render.Environment `json:"environment"`
	Apps         []string           `json:"apps,omitempty"`
	Environments bool               `json:"environments,omitempty"`
	Raw          bool               `json:"raw,omitempty"` // objects as written, without Compile
}

// appHeader stands before an app's body: objects, each its length and bytes, or what Compile made.
type appHeader struct {
	Name     string          `json:"name"`
	Problems render.Problems `json:"problems,omitempty"`
	Deps     render.Deps     `json:"deps"`
	Compiled bool            `json:"compiled,omitempty"`
	Objects  []objectHeader  `json:"objects,omitempty"`
}

type objectHeader struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Size int    `json:"size"`
}

// environmentsAnswer is a done frame's payload.
type environmentsAnswer struct {
	Environments []render.Environment `json:"environments,omitempty"`
	Problems     render.Problems      `json:"problems,omitempty"`
}

// reply answers a tree call. A file's bytes follow the header.
type reply struct {
	Entries  []entry `json:"entries,omitempty"`
	Error    string  `json:"error,omitempty"`
	NotExist bool    `json:"notExist,omitempty"`
}

type entry struct {
	Name string `json:"n"`
	ID   string `json:"i"`
	Mode uint32 `json:"m"`
}

// writeFrame writes a frame of a header, as JSON, and a body. The header's length stands before it.
func writeFrame(w *bufio.Writer, t frameType, header any, body ...[]byte) error {
	var h []byte
	if header != nil {
		var err error
		if h, err = json.Marshal(header); err != nil {
			return fmt.Errorf("encode frame %c: %w", t, err)
		}
	}
	size := 4 + len(h)
	for _, b := range body {
		size += len(b)
	}
	var head [9]byte
	head[0] = byte(t)
	binary.BigEndian.PutUint32(head[1:], uint32(size))
	binary.BigEndian.PutUint32(head[5:], uint32(len(h)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	if _, err := w.Write(h); err != nil {
		return err
	}
	for _, b := range body {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Flush()
}

// frame is a received frame.
type frame struct {
	Type   frameType
	header []byte
	body   []byte
}

func (f frame) decode(v any) error {
	if err := json.Unmarshal(f.header, v); err != nil {
		return fmt.Errorf("decode frame %c: %w", f.Type, err)
	}
	return nil
}

// errTooBig is the error of a frame over the limit.
type errTooBig struct{ size, limit int }

func (e errTooBig) Error() string {
	return fmt.Sprintf("a frame of %d bytes; at most %d are read", e.size, e.limit)
}

// readFrame reads a frame of at most limit bytes. It takes memory as the bytes come, not as they are announced.
func readFrame(r io.Reader, limit int) (frame, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	size := int(binary.BigEndian.Uint32(head[1:]))
	if size > limit {
		return frame{}, errTooBig{size, limit}
	}
	if size < 4 {
		return frame{}, fmt.Errorf("frame %q has %d bytes", head[0], size)
	}
	payload, err := readAll(r, size)
	if err != nil {
		return frame{}, err
	}
	n := int(binary.BigEndian.Uint32(payload))
	if n > size-4 {
		return frame{}, fmt.Errorf("frame %q has a header of %d bytes in %d", head[0], n, size)
	}
	return frame{Type: frameType(head[0]), header: payload[4 : 4+n], body: payload[4+n:]}, nil
}

func readAll(r io.Reader, size int) ([]byte, error) {
	const step = 1 << 20
	buf := make([]byte, 0, min(size, step))
	for len(buf) < size {
		n := min(size-len(buf), step)
		at := len(buf)
		buf = append(buf, make([]byte, n)...)
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return nil, err
		}
	}
	return buf, nil
}
