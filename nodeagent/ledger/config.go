package ledger

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// config are raft's own settings. The heartbeat's lower value is for Raft.ReloadConfig, which lets a sole voter
// stand for election at once.
func (l *Ledger[S, O]) config(notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(l.opt.Node)
	c.HeartbeatTimeout = l.opt.Heartbeat
	c.ElectionTimeout = l.opt.Heartbeat
	c.LeaderLeaseTimeout = l.opt.Heartbeat * 4 / 5
	c.CommitTimeout = l.opt.Heartbeat // after a failure only: hasten tells followers at once what is committed
	c.MaxAppendEntries = 512
	c.BatchApplyCh = true
	c.ShutdownOnRemove = false
	c.TrailingLogs = 0                  // disk keeps what the older snapshot needs
	c.SnapshotInterval = 24 * time.Hour // we count entries and bytes ourselves
	c.SnapshotThreshold = 1 << 40
	c.NotifyCh = notify
	c.NoLegacyTelemetry = true
	c.Logger = library{log: l.opt.Log, name: "raft"}
	return c
}

// bootstrap makes an empty disk the only voter of a new ledger, if there is a Genesis to begin it with.
func (l *Ledger[S, O]) bootstrap(conf *raft.Config, trans raft.Transport) error {
	there, err := raft.HasExistingState(l.disk, l.disk, l.disk.snaps)
	if err != nil {
		return fmt.Errorf("look for a ledger: %w", err)
	}
	if there || l.opt.Genesis == nil {
		return nil
	}
	only := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: trans.LocalAddr()}}}
	if err := raft.BootstrapCluster(conf, l.disk, l.disk, l.disk.snaps, trans, only); err != nil {
		return fmt.Errorf("begin a ledger: %w", err)
	}
	return nil
}

// newRaft starts raft in a goroutine of its own, since the disk may end the one that calls it.
func (l *Ledger[S, O]) newRaft(conf *raft.Config, trans raft.Transport) (r *raft.Raft, err error) {
	l.disk.started.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("raft: %v", p)
			}
		}()
		r, err = raft.NewRaft(conf, fsm[S, O]{l}, l.disk, l.disk, l.disk.snaps, trans)
	}()
	<-done
	if r == nil && err == nil {
		err = l.disk.usable()
	}
	return r, err
}
