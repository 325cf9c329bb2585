package githost

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// Repo is what the server needs of a repository. Its methods are safe for concurrent use.
type Repo interface {
	// Refs lists what clients may see, by name, and DefaultRef what HEAD stands for.
	Refs() []source.Ref
	DefaultRef() string
	// Shallow lists commits where the repository's own history ends.
	Shallow() []source.ID
	Has(id source.ID) bool
	// Receive takes a push whole or not at all; see gitsync.Mirror.
	Receive(ctx context.Context, updates []source.RefUpdate, pack io.Reader, accept func(context.Context) error) error
	// Prepare finds what a client lacks: where its history ends and goes on from now on, and what writes the pack.
	Prepare(ctx context.Context, want, have, shallow []source.ID, depth int) (ends, goesOn []source.ID, send func(io.Writer) error, err error)
}

// Options says how to serve. Zero fields mean their defaults.
type Options struct {
	Repo Repo // required
	// Accept is asked once a push's objects are safely on disk and before its refs move; an error refuses the push and is shown to the client.
	Accept func(ctx context.Context, p Push) error
	// Pushed is told of refs that moved. What it writes is shown on the client's terminal at once; the client
	// waits until it returns. Writes fail when the client went away, and ctx ends then; the push stands all the
	// same.
	Pushed func(ctx context.Context, updates []source.RefUpdate, progress io.Writer)
	// Token every request must carry; "" serves loopback alone.
	Token string
	// Inside says that whoever asks has been let in already, by what this server is mounted in. Pushes are refused.
	Inside bool
	// KeepRefs refuses to delete branches; tags are refused too.
	KeepRefs bool
	Limits   Limits
	Log      *slog.Logger // default: discard
}

// Push is what Accept judges.
type Push struct {
	Updates []source.RefUpdate
	User    string // as the client calls itself, not proven; "" if it gave none
	Address string // the client's, host:port
}

// Limits bounds what clients may cost. The bounds on packs are the repository's own.
type Limits struct {
	Body     int64         // bytes of a request, inflated; default 1 GiB
	Commands int           // refs in a push; default 1000
	Haves    int           // ids a fetch names; default 100,000
	Pushes   int           // pushes read at once, others wait; default 4
	Fetches  int           // fetches answered at once, others wait; default 8
	Idle     time.Duration // a client that sends or takes nothing for so long is given up; default 30s
	Whole    time.Duration // one request, Pushed apart; default 10m
	MinRate  int64         // least bytes a second of a pack, measured over Idle; default 1024
}

// WithDefaults returns a copy with zero fields filled in.
func (o Options) WithDefaults() Options {
	l := &o.Limits
	if l.Body == 0 {
		l.Body = 1 << 30
	}
	if l.Commands == 0 {
		l.Commands = 1000
	}
	if l.Haves == 0 {
		l.Haves = 100_000
	}
	if l.Pushes == 0 {
		l.Pushes = 4
	}
	if l.Fetches == 0 {
		l.Fetches = 8
	}
	if l.Idle == 0 {
		l.Idle = 30 * time.Second
	}
	if l.Whole == 0 {
		l.Whole = 10 * time.Minute
	}
	if l.MinRate == 0 {
		l.MinRate = 1024
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Check joins every fault of o into one error.
func (o Options) Check() error {
	var errs []error
	if o.Repo == nil {
		errs = append(errs, errors.New("githost: Repo is required"))
	}
	if o.Token != "" && len(o.Token) < 16 {
		errs = append(errs, errors.New("githost: Token is shorter than 16 characters"))
	}
	return errors.Join(errs...)
}
