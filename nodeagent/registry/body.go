package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
)

// fault is what was wrong with a request's body. It is noted in the request's context, since the library reports
// some errors of reading and writing as text alone.
type fault struct{ err error }

// note keeps the first fault of a request.
func note(ctx context.Context, err error) {
	if of, ok := ctx.Value(fault{}).(*fault); ok && of.err == nil {
		of.err = err
	}
}

// body is a request's body whose sender may pause, but not for long.
type body struct {
	io.ReadCloser
	rc    *http.ResponseController
	stall time.Duration
	of    *fault
}

func (b *body) Read(p []byte) (int, error) {
	// A connection without deadlines (a test's recorder) is read as it is.
	_ = b.rc.SetReadDeadline(time.Now().Add(b.stall))
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	_ = b.rc.SetReadDeadline(time.Time{})
	if errors.Is(err, io.EOF) || b.of.err != nil {
		return n, err
	}
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		b.of.err = fmt.Errorf("%w: more than %d bytes", ociregistry.ErrSizeInvalid, tooBig.Limit)
	} else {
		b.of.err = fmt.Errorf("%w: read the request: %w", ociregistry.ErrBlobUploadInvalid, err)
	}
	return n, err
}
