package identities

import (
	"context"
	"time"

	"github.com/shoal-dev/shoal/internal/sealed"
)

// Others are asked again after askFirst, then twice that, and so on up to askMost: the node that has it may be about to come back.
const (
	askFirst = 100 * time.Millisecond
	askMost  = 15 * time.Second
	askLimit = 10 * time.Second // for one round
)

// Run asks other nodes for what is missed until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	if s.opt.Ask == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		n, wait := s.due()
		if n != (name{}) {
			s.ask(ctx, n)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-s.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// due is whose turn it is, or how long to wait. What nobody wants any more is forgotten.
func (s *Store) due() (n name, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	wait = time.Hour
	for n, a := range s.asked {
		switch left := a.next.Sub(now); {
		case now.After(a.until):
			delete(s.asked, n)
		case left <= 0:
			return n, 0
		default:
			wait = min(wait, left)
		}
	}
	return name{}, wait
}

func (s *Store) ask(ctx context.Context, n name) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	b, err := s.opt.Ask(ctx, n.environment, n.recipient)
	var id *sealed.Identity
	if err == nil {
		id, err = sealed.OpenIdentityOf(n.environment, n.recipient, b, s.node)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.keep(n, id)
		s.opt.Log.InfoContext(ctx, "got the key of an environment from another node", "environment", n.environment)
		signal(s.events)
		return
	}
	a := s.asked[n]
	if a == nil {
		return
	}
	a.tries++
	a.next = time.Now().Add(min(askFirst<<min(a.tries-1, 10), askMost))
	if a.why == nil || a.why.Error() != err.Error() {
		a.why = err
		signal(s.events) // it is said at the pods that wait
	}
}
