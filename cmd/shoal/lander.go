package main

import (
	"context"

	"github.com/shoal-dev/shoal/engine/source"
)

// landerPart puts commits of the ring onto branches, for the deployer.
type landerPart struct{ m *machine }

func (l landerPart) Land(ctx context.Context, ref string, old source.ID, c source.Commit) (source.ID, error) {
	id, err := l.m.mirror.Land(ctx, ref, old, c)
	l.m.ownPush.Store(0) // nobody is at the other end to be shown what becomes of it
	l.m.looks.nudge()
	return id, err
}

func (l landerPart) Expand(ctx context.Context, name string) (source.ID, error) {
	return l.m.mirror.Expand(ctx, name)
}
