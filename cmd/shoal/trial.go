package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
)

const (
	// provenAfter is how long an agent on trial must be in touch with its ring, without a break.
	provenAfter = 30 * time.Second
	// trialLimit is how long it may take to get there. Then it ends, which counts as a start that failed.
	trialLimit = 3 * time.Minute
	// trialLook is how often it is asked.
	trialLook = time.Second
)

// trial is that of this agent's binary.
type trial struct {
	dir          string // "": it is not on trial
	rejected     string // why the installed binary does not run
	after, limit time.Duration
	log          *slog.Logger
	over         chan struct{} // closed when it has proven itself
}

// beginTrial takes over what the launcher said. An agent that does not prove itself in time ends: politely by cancel, and
// a little later whatever it hangs in.
func beginTrial(o agentOptions, log *slog.Logger, cancel context.CancelCauseFunc) *trial {
	t := &trial{dir: os.Getenv(envTrial), rejected: os.Getenv(envRejected), after: o.trialAfter, limit: o.trialLimit, log: log, over: make(chan struct{})}
	_, _ = os.Unsetenv(envTrial), os.Unsetenv(envRejected)
	if t.rejected != "" {
		log.Error("the installed binary does not run, this is the one before it", "why", t.rejected, "version", version)
	}
	if t.dir == "" {
		close(t.over)
		return t
	}
	log.Info("this binary is on trial", "version", version, "until", "it is in touch with its ring for "+t.after.String())
	go func() { // ends with the trial, or the process
		select {
		case <-t.over:
			return
		case <-time.After(t.limit):
		}
		cancel(fmt.Errorf("this binary is on trial, and was not in touch with its ring for %s within %s", t.after, t.limit))
		time.Sleep(10 * time.Second)
		log.Error("this binary is on trial, and does not even end")
		os.Exit(exitFailed)
	}()
	return t
}

// on tells whether the trial goes on.
func (t *trial) on() bool {
	select {
	case <-t.over:
		return false
	default:
		return true
	}
}

// run waits until the agent was in touch for long enough; then its binary takes the place of the one before.
func (t *trial) run(ctx context.Context, inTouch func() bool) error {
	tick := time.NewTicker(trialLook)
	defer tick.Stop()
	since := time.Time{}
	for t.on() {
		switch {
		case !inTouch():
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= t.after:
			if err := t.prove(); err != nil {
				return fmt.Errorf("this binary has proven itself, and cannot take the place of the one before: %w", err)
			}
			t.log.InfoContext(ctx, "this binary has proven itself", "version", version)
			close(t.over)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// prove puts this binary in place of the one that was proven before, and then says so: interrupted, it is tried once more.
func (t *trial) prove() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	rec, err := readTrials(t.dir)
	if err != nil {
		return err
	}
	if err := copyFile(self, filepath.Join(t.dir, provenName)); err != nil {
		return err
	}
	if id, err := fileID(self); err != nil || id != rec.Binary {
		return errors.Join(err, errors.New("it was exchanged meanwhile"))
	}
	rec.Proven, rec.Binary, rec.Starts, rec.Rejected = rec.Binary, "", nil, ""
	return rec.write(t.dir)
}

// excuse takes back the start of an agent that was told to end before it could prove itself.
func (t *trial) excuse() {
	if !t.on() {
		return
	}
	rec, err := readTrials(t.dir)
	if n := len(rec.Starts); err == nil && n > 0 {
		rec.Starts = rec.Starts[:n-1]
		err = rec.write(t.dir)
	}
	if err != nil {
		t.log.Warn("this start counts as one that failed, although the agent was told to end", "err", err)
	}
}

// engine is the newest engine version that this node says it knows: as long as its binary may have to go, none that
// the ring does not have.
func (m *machine) engine() int {
	if m.trial == nil || !m.trial.on() {
		return cluster.EngineVersion
	}
	now := cluster.EngineVersion
	m.ledger.View(func(s *cluster.State) {
		if ring, ok := s.Ring(); ok {
			now = min(now, ring.Engine)
		}
	})
	return now
}

// runTrial proves this binary, and says then what it knows.
func (m *machine) runTrial(ctx context.Context) error {
	if !m.trial.on() {
		return nil
	}
	if err := m.trial.run(ctx, func() bool { return !m.leases.Lease(m.ledger.Applied()).Stop }); err != nil {
		return err
	}
	if m.engine() == m.announced() {
		return nil
	}
	for {
		err := m.tell(ctx, m.up())
		if err == nil || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.log.WarnContext(ctx, "the ring does not know yet what this binary can, will retry", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// announced is the engine version that the ledger has of this node.
func (m *machine) announced() (version int) {
	m.ledger.View(func(s *cluster.State) {
		if n, ok := s.Nodes().Get(m.dir.Node.ID); ok {
			version = n.Engine
		}
	})
	return version
}
