package gitsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// Limits bounds what is taken from a remote or a push; zero fields mean their defaults.
type Limits = bare.Limits

// Options says what to mirror. Zero fields mean their defaults.
type Options struct {
	Dir string // required: the bare repository, made if absent; nobody else writes there
	// URL is where to fetch from: https://, http:// (loopback only), ssh://, user@host:path, file:// or an
	// absolute path. "" means that commits come by push alone.
	URL      string
	Branches []string // branches to follow at first, short or full names; default: Branch; Follow changes them
	Branch   string   // the default branch, what HEAD stands for; default "main"
	Auth     Auth

	Depth    int           // commits of history a first fetch takes; default 50, below 0 all
	Interval time.Duration // between polls, give or take a tenth; default 30s
	// Every is asked before each wait for the next poll, where others poll for this mirror too; default: always Interval. As
	// long as it says more than Interval, branches that are newly followed wait for that poll.
	Every    func() time.Duration
	MaxWait  time.Duration // longest wait after failures; default 5m
	Stale    time.Duration // Update.Stale is set when the last good fetch is older; default 10m
	Debounce time.Duration // how long further wakes are gathered before a fetch; default 20ms
	Timeout  time.Duration // for one whole fetch; default 5m
	// MinRate is the least transfer rate of a pack in bytes a second, measured over RateWindow; default 1024. The
	// first byte may take four windows.
	MinRate    int64
	RateWindow time.Duration // default 15s

	// Agree is asked before refs move by Receive or Write, when their objects are safely on disk; an error refuses it.
	Agree func(ctx context.Context, updates []source.RefUpdate) error

	MaxPacks int // packs before the small ones are merged; default 24
	Limits   Limits
	Log      *slog.Logger // default: discard
}

// WithDefaults returns a copy with zero fields filled in.
func (o Options) WithDefaults() Options {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	if o.Branch == "" {
		o.Branch = "main"
	}
	o.Branch = source.FullRefName(o.Branch)
	if len(o.Branches) == 0 {
		o.Branches = []string{o.Branch}
	}
	full := make([]string, len(o.Branches))
	for i, b := range o.Branches {
		full[i] = source.FullRefName(b)
	}
	o.Branches = full
	if o.Depth == 0 {
		o.Depth = 50
	}
	o.Depth = max(o.Depth, 0)
	set(&o.Interval, 30*time.Second)
	set(&o.MaxWait, 5*time.Minute)
	set(&o.Stale, 10*time.Minute)
	set(&o.Debounce, 20*time.Millisecond)
	set(&o.Timeout, 5*time.Minute)
	set(&o.RateWindow, 15*time.Second)
	if o.MinRate == 0 {
		o.MinRate = 1024
	}
	if o.MaxPacks == 0 {
		o.MaxPacks = 24
	}
	o.Limits = o.Limits.WithDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Check joins every fault of o into one error.
func (o Options) Check() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("gitsync: Dir is required"))
	}
	for _, b := range append([]string{o.Branch}, o.Branches...) {
		if err := source.CheckRefName(b); err != nil {
			errs = append(errs, fmt.Errorf("gitsync: branch: %w", err))
		} else if strings.HasPrefix(b, hiddenRefs) {
			errs = append(errs, fmt.Errorf("gitsync: branch %q: names below %s are Shoal's own", b, hiddenRefs))
		}
	}
	if o.URL != "" {
		if _, err := parseURL(o.URL); err != nil {
			errs = append(errs, fmt.Errorf("gitsync: %w", err))
		}
	}
	return errors.Join(errs...)
}
