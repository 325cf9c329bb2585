package renderer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
)

// compiledHeader stands before the bytes of the objects.
type compiledHeader struct {
	App   desired.App `json:"app"`
	Sizes []int       `json:"sizes"` // of the blobs
}

// CompileDesired is the Compile of an agent: Kubernetes' defaulting and validation, and canonical bytes. App.Desired
// reads what it returns.
func CompileDesired(env render.Environment, app render.App) ([]byte, render.Problems) {
	out, blobs := desired.Compile(env, app)
	if len(out.Problems) > 0 {
		return nil, out.Problems
	}
	h := compiledHeader{App: out}
	size := 0
	for _, b := range blobs {
		h.Sizes = append(h.Sizes, len(b.Bytes))
		size += len(b.Bytes)
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, render.Problems{{File: render.AppDir(app.Name), Text: "cannot be encoded: " + err.Error()}}
	}
	body := make([]byte, 4, 4+len(head)+size)
	binary.BigEndian.PutUint32(body, uint32(len(head)))
	body = append(body, head...)
	for _, b := range blobs {
		body = append(body, b.Bytes...)
	}
	return body, nil
}

// Desired returns what CompileDesired made of an app, or its problems. The child is not trusted: a blob's digest is
// made here, of the bytes that came, and an object that names none of them is an error.
func (a App) Desired() (desired.App, []desired.Blob, error) {
	if len(a.Problems) > 0 {
		return desired.App{Name: a.Name, Problems: a.Problems}, nil, nil
	}
	body := a.Compiled
	if len(body) < 4 || int64(binary.BigEndian.Uint32(body)) > int64(len(body)-4) {
		return desired.App{}, nil, fmt.Errorf("app %s: compiled form is cut off", a.Name)
	}
	n := binary.BigEndian.Uint32(body)
	var h compiledHeader
	if err := json.Unmarshal(body[4:4+n], &h); err != nil {
		return desired.App{}, nil, fmt.Errorf("app %s: decode compiled form: %w", a.Name, err)
	}
	if h.App.Name != a.Name {
		return desired.App{}, nil, fmt.Errorf("app %s: compiled form is of %q", a.Name, h.App.Name)
	}
	body = body[4+n:]
	var blobs []desired.Blob
	known := map[desired.Digest]bool{}
	for _, size := range h.Sizes {
		if size < 0 || size > len(body) {
			return desired.App{}, nil, fmt.Errorf("app %s: an object is cut off", a.Name)
		}
		b := desired.Blob{Digest: desired.DigestOf(body[:size]), Bytes: body[:size:size]}
		known[b.Digest] = true
		blobs, body = append(blobs, b), body[size:]
	}
	for _, i := range h.App.Items {
		if !known[i.Digest] {
			return desired.App{}, nil, errors.New("app " + a.Name + ": " + i.Key.String() + " has no bytes")
		}
	}
	return h.App, blobs, nil
}
