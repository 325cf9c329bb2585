package main

import (
	"context"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/containers"
)

// unpackedTimes is how many times as much room as a compressed image takes is reckoned for it: as it comes, and unpacked.
const unpackedTimes = 4

// aheadPart is this node's images, for fetching them ahead of need.
type aheadPart struct {
	*containers.Runtime
	pulls *pulls
	dir   string // on the disk of images
}

func (a aheadPart) Present(ref, digest string) bool {
	return containersPart{Runtime: a.Runtime}.Present(ref, digest)
}

func (a aheadPart) Pulling() bool { return len(a.pulls.list()) > 0 }

func (a aheadPart) Room() (int64, error) {
	disk, err := nodeagent.StatDisk(a.dir)
	return disk.FreeBytes - disk.Bytes/100*nodeagent.AheadRoom, err
}

func (a aheadPart) PullAhead(ctx context.Context, p *plan.Pod, ref, digest string, room int64) error {
	auth, err := pullSecrets(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_, err = a.Pull(ctx, ref, digest, auth, func(_, total int64) {
		if total > room/unpackedTimes {
			cancel(nodeagent.ErrNoRoom)
		}
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// fetchAhead fetches images ahead of need until ctx ends.
func (m *machine) fetchAhead(ctx context.Context) error {
	changes, cancel := m.ledger.Subscribe()
	defer cancel()
	ahead := &nodeagent.Ahead{
		Want: func() ([]*plan.Pod, error) {
			var s *cluster.State
			m.ledger.View(func(now *cluster.State) { s = now.Snapshot() })
			return plan.Ahead(s, m.dir.Node.ID, m.content)
		},
		Changes: changes, Images: aheadPart{m.containers, &m.pulls, m.dir.Path("containerd")}, Log: m.log,
	}
	return ahead.Run(ctx)
}
