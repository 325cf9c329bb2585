package daemon

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/typeurl/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What a compressed layer may become: that many bytes whatever its size, and as many times its size beyond. Programs
// and data are packed 2 to 20 times; what gzip does at most is 1,030 times, with nothing but zeros.
const (
	inflatedBytes = 1 << 30
	inflatedTimes = 200
)

// boundLayers has layers of this process unpacked within limits: bytes is what each may become in any case.
func boundLayers(bytes int64) {
	diff.RegisterProcessor(func(ctx context.Context, mediaType string) (diff.StreamProcessorInit, bool) {
		if kind, err := images.DiffCompression(ctx, mediaType); err != nil || kind == "" {
			return nil, false // as it is, or none of a kind known here
		}
		return func(_ context.Context, stream diff.StreamProcessor, _ map[string]typeurl.Any) (diff.StreamProcessor, error) {
			return inflate(stream, bytes)
		}, true
	})
}

// inflater is the tar stream of a compressed layer.
type inflater struct {
	in    *counted
	out   io.ReadCloser
	floor int64
	n     int64 // bytes read from out
}

func inflate(stream io.Reader, floor int64) (*inflater, error) {
	in := &counted{r: stream}
	out, err := compression.DecompressStream(in)
	if err != nil {
		return nil, err
	}
	return &inflater{in: in, out: out, floor: floor}, nil
}

func (i *inflater) MediaType() string { return ocispec.MediaTypeImageLayer }

func (i *inflater) Read(p []byte) (int, error) {
	n, err := i.out.Read(p)
	i.n += int64(n)
	if in := i.in.n.Load(); i.n > i.floor+inflatedTimes*in {
		return n, fmt.Errorf("the first %d bytes of a layer unpack to more than %d: more than is allowed", in, i.floor+inflatedTimes*in)
	}
	return n, err
}

func (i *inflater) Close() error { return i.out.Close() }

// counted counts what is read through it, perhaps by a goroutine of the decompressor that is somewhat ahead.
type counted struct {
	r io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
