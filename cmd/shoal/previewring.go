package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// followPreviews has the deployer look whenever the ledger says something else of previews.
func (m *machine) followPreviews(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	said := ""
	for {
		var now strings.Builder
		m.ledger.View(func(s *cluster.State) {
			for p := range s.Previews().Values() {
				fmt.Fprintln(&now, p.Name, p.Commit)
			}
		})
		if now.String() != said {
			said = now.String()
			m.looks.nudge()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		}
	}
}
