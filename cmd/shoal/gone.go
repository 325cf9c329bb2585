package main

import (
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
)

// newGoneWatch has the kernel forget connections to pods that are gone.
func (m *machine) newGoneWatch() *nodeagent.GoneWatch {
	return nodeagent.NewGoneWatch(nodeagent.GoneWatchOptions{Ledger: m.ledger, Remembered: firewall.Remembered, Forget: firewall.Forget, Log: m.log})
}
