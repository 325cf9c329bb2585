package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

// Voters are the nodes that vote by the latest configuration that a ledger holds, damaged or not; behind damage there may
// have been a later one. No process may have it open. It looks at a copy, and changes nothing.
func Voters(dir string) (voters []place.NodeID, err error) {
	copied := dir + ".look"
	if err := os.RemoveAll(copied); err != nil { // of a look that was interrupted
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(copied)) }()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		return nil, fmt.Errorf("copy ledger: %w", err)
	}
	d, err := openDisk(diskOptions{dir: copied, segment: segmentSize, log: slog.New(slog.DiscardHandler), cut: true})
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	conf, _, err := d.configuration()
	for _, s := range conf.Servers {
		if s.Suffrage == raft.Voter {
			voters = append(voters, place.NodeID(s.ID))
		}
	}
	return voters, errors.Join(err, d.Close())
}
