package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// Options says whose firewall it is.
type Options struct {
	Instance string       // required: 6 lower-case hex digits; names the table and the pods' links
	Log      *slog.Logger // default: discard
}

// Firewall owns the table shoal-<instance> of the network namespace it was opened in. Its methods may be repeated
// and are safe for concurrent use.
type Firewall struct {
	opt Options

	mu     sync.Mutex // guards all below
	kernel *kernel
	wanted *wire.Tables // as last handed to Apply and found sound
	// What is in the kernel, as of generation; nil when it must be read.
	loaded     *wire.Tables
	usage      *usage
	generation uint32
	failures   int  // of Apply, one after the other
	sweep      bool // flows of UDP must be looked through although no port changed
}

// Open opens the netlink sockets; it changes nothing.
func Open(opt Options) (*Firewall, error) {
	if !isInstance(opt.Instance) {
		return nil, fmt.Errorf("firewall: instance %q: want 6 lower-case hex digits", opt.Instance)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	k, err := openKernel(opt.Instance)
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	return &Firewall{opt: opt, kernel: k, sweep: true}, nil
}

func isInstance(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 6
}

// Close gives the sockets back and leaves the rules in force.
func (f *Firewall) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kernel.close()
}

// Apply makes the kernel's table what t says, and repairs whatever others did to it. On an error the rules are as
// they were. t must not be changed afterwards.
func (f *Firewall) Apply(ctx context.Context, t wire.Tables) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkTables(&t); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	err := f.apply(&t)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		// Somebody changed the table between our look at it and our transaction.
		err = f.apply(&t)
	}
	if err != nil {
		f.failures++
		return fmt.Errorf("firewall: %w", err)
	}
	f.failures = 0
	return nil
}

// rebuildAfter is how many times a change may fail before the table is made anew instead.
const rebuildAfter = 3

func (f *Firewall) apply(t *wire.Tables) error {
	generation, err := f.kernel.generation()
	if err != nil {
		return err
	}
	old := f.loaded
	c, u, err := f.plan(t, generation)
	if err != nil {
		f.loaded = nil
		return err
	}
	f.loaded, f.wanted = nil, t
	if !c.empty() {
		n, err := f.kernel.commit(c)
		if err != nil {
			return err
		}
		f.opt.Log.Debug("firewall changed", "added", len(c.add), "deleted", len(c.del), "chains", len(c.make), "rebuilt", c.rebuild)
		generation += n
		if now, err := f.kernel.generation(); err != nil || now != generation {
			generation = now - 1 // somebody else was at it meanwhile: read it back next time
		}
	}
	f.loaded, f.usage, f.generation = t, u, generation
	return f.forget(old, t)
}

// plan returns what to change and, once that is done, who uses what: by comparing tables if nobody touched the
// ruleset since our last transaction, and otherwise by reading it back.
func (f *Firewall) plan(t *wire.Tables, generation uint32) (*change, *usage, error) {
	if f.loaded != nil && f.generation == generation {
		c, u := between(f.opt.Instance, f.loaded, t, f.usage)
		return c, u, nil
	}
	want, o, u := target(f.opt.Instance, t)
	found, err := f.kernel.read()
	if err != nil {
		return nil, nil, err
	}
	if f.failures >= rebuildAfter {
		found = nil
	}
	c, drift := repair(found, want, o, f.opt.Instance)
	if f.wanted == t && len(drift) > 0 {
		f.opt.Log.Warn("firewall was changed by others, repairing", "why", drift[0], "count", len(drift))
	}
	return c, u, nil
}

// Verify reads the table back and says what is not as the last Apply left it; nil when all is. What it says is
// repaired by the next Apply.
func (f *Firewall) Verify(ctx context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.wanted == nil {
		return nil, errors.New("firewall: nothing was applied yet")
	}
	drift, err := f.verify()
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	return drift, nil
}

func (f *Firewall) verify() ([]string, error) {
	for range 3 {
		generation, err := f.kernel.generation()
		if err != nil {
			return nil, err
		}
		if f.loaded != nil && f.generation == generation {
			return nil, nil
		}
		want, o, u := target(f.opt.Instance, f.wanted)
		found, err := f.kernel.read()
		if err != nil {
			return nil, err
		}
		if now, err := f.kernel.generation(); err != nil || now != generation {
			continue // what was read is of two states
		}
		_, drift := repair(found, want, o, f.opt.Instance)
		if len(drift) == 0 {
			f.loaded, f.usage, f.generation = f.wanted, u, generation
		} else {
			f.loaded = nil
		}
		return drift, nil
	}
	return nil, errors.New("the ruleset changes faster than it can be read")
}

// Purge removes all that was ever made: the table, what AllowForward added, and remembered flows of UDP.
func (f *Firewall) Purge(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	gone := f.wanted
	f.loaded, f.wanted = nil, nil
	if err := f.kernel.removeTable(); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	if err := f.disallowForward(ctx); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	if gone != nil {
		none := *gone
		none.Ports = nil
		if err := forgetFlows(&none); err != nil && !errors.Is(err, errNoConntrack) {
			return fmt.Errorf("firewall: %w", err)
		}
	}
	return nil
}
