package main

import (
	"fmt"

	"github.com/shoal-dev/shoal/nodeagent"
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
		Node: m.dir.Node.ID, Limits: limits, Dirs: dirs, Stat: nodeagent.StatDisk, Ledger: m.ledger, Reclaim: m.collectNow, Log: m.log,
	})
}
