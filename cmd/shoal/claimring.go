package main

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// newClaims makes what says whether this ring may run its repository; nil if that is its own Git server.
func (m *machine) newClaims() *nodeagent.Claims {
	if m.opt.repository == "" {
		return nil
	}
	return nodeagent.NewClaims(nodeagent.ClaimsOptions{
		Ring: m.ringFacts.Ring, By: "shoal on " + m.opt.name(), URL: withoutSecrets(m.opt.repository), Repository: claimedMirror{m.mirror},
		Leading: m.ledger.Leading, Runs: m.runsSomething, Others: m.claimsOfOthers, Changed: m.claimChanged, Log: m.log,
	})
}

// claimedMirror is the mirror, for the claims.
type claimedMirror struct{ *gitsync.Mirror }

func (c claimedMirror) TakeClaim(claim source.Claim) error {
	return c.Mirror.TakeClaim(claim, deadline.Now())
}

// withoutSecrets is the URL of a repository as it may be shown.
func withoutSecrets(repository string) string {
	u, err := url.Parse(repository)
	if err != nil || u.User == nil || u.Scheme == "ssh" {
		return repository
	}
	u.User = nil
	return u.String()
}

// runsSomething says whether a commit was ever activated, and not retired since.
func (m *machine) runsSomething() (runs bool) {
	m.ledger.View(func(s *cluster.State) { runs = s.Environments().Len() > 0 })
	return runs
}

// claimChanged has commits judged anew when the ring stands otherwise to its repository. What was done here the forge shows to
// all: a fetch of it is what other nodes take over.
func (m *machine) claimChanged(_ context.Context, here bool) {
	m.looks.nudge()
	if here {
		m.mirror.Wake()
	}
}

// claimsOfOthers asks the nodes that are there what they have read.
func (m *machine) claimsOfOthers(ctx context.Context) (claims []source.Claim) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var mu sync.Mutex
	var asked sync.WaitGroup
	alive := m.alive()
	for _, n := range m.wanted() {
		if n == m.dir.Node.ID || !alive[n] {
			continue
		}
		asked.Go(func() {
			s, err := m.sightOf(ctx, n)
			if err != nil || s.Claim.Check() != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			claims = append(claims, s.Claim)
		})
	}
	asked.Wait()
	return claims
}
