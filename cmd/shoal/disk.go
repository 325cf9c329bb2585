package main

import (
	"context"
	"fmt"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/logs"
)

// diskLimits are those of --disk-pressure.
func (o agentOptions) diskLimits() ([]nodeagent.DiskLimit, error) {
	limits, err := nodeagent.ParseDiskLimits(o.diskPressure)
	if err != nil {
		return nil, usageError{fmt.Errorf("--disk-pressure: %w", err)}
	}
	return limits, nil
}

// newDiskWatch watches the file systems of data and logs, and that of the images, which is the data's unless another
// containerd has them.
func newDiskWatch(m *machine) *nodeagent.DiskWatch {
	limits, _ := m.opt.diskLimits() // was checked
	dirs := map[string][]string{"nodefs": {m.opt.dataDir, m.opt.logDir}}
	if m.opt.containerd == "" {
		dirs["imagefs"] = []string{m.opt.dataDir}
	}
	return nodeagent.NewDiskWatch(nodeagent.DiskOptions{
		Node: m.dir.Node.ID, Limits: limits, Dirs: dirs, Stat: nodeagent.StatDisk, Ledger: m.ledger, Reclaim: m.collectNow, Thin: m.thinLogs, Logs: m.opt.logDir, Log: m.log,
	})
}

// thinLogs removes rotated logs of this node's pods until there is enough room, of those that have ended first.
func (m *machine) thinLogs(ctx context.Context, enough func() bool) error {
	have, err := m.containers.List(ctx)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	ours := make(map[string]bool, len(have))
	for id := range have {
		ours[string(id)] = true
	}
	done, err := logs.Thin(ctx, m.opt.logDir, ours, func(uid string) bool { return !have[control.PodID(uid)].Runs() }, enough)
	if done.Files > 0 {
		m.log.InfoContext(ctx, "rotated logs removed, as the disk is short", "files", done.Files, "bytes", done.Bytes)
	}
	return err
}
