package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// followPreviews has the deployer look whenever the ledger says something else of previews, and the leader see to them when something of
// them runs otherwise, or a branch has moved.
func (m *machine) followPreviews(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	said, runs := "", ""
	for {
		var now, run strings.Builder
		m.ledger.View(func(s *cluster.State) {
			for p := range s.Previews().Values() {
				fmt.Fprintln(&now, p.Name, p.Commit)
				texts, more := s.Ill(p.Name, 1)
				env, _ := s.Environments().Get(p.Name)
				fmt.Fprintln(&run, p.Name, env != nil && env.Commit == p.Commit, p.Asleep, texts, more)
			}
			if m.mirror.Builtin() {
				for r := range s.Refs().Values() {
					fmt.Fprintln(&run, r.Name, r.ID)
				}
			}
		})
		if now.String() != said {
			said = now.String()
			m.looks.nudge()
		}
		if run.String() != runs {
			runs = run.String()
			m.previewing.Wake()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		}
	}
}
