package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Cut lets a ledger that is damaged go on without the entries from the first damaged one on, as Options.Cut does; no
// process may have it open. It returns the damage and the last entry of raft's log that is left, or no damage, and then
// it has changed nothing. What is cut off is kept in dir/quarantine. A log of which nothing would be left is an error,
// and stays as it is.
func Cut(dir string, log *slog.Logger) (damage *DamagedError, last uint64, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if _, err := os.Stat(filepath.Join(dir, "log")); err != nil {
		return nil, 0, fmt.Errorf("cut ledger: %w", err)
	}
	o := diskOptions{dir: dir, segment: segmentSize, log: log}
	d, err := openDisk(o)
	if err == nil {
		return nil, 0, d.Close()
	}
	damage, ok := errors.AsType[*DamagedError](err)
	if !ok || damage.After == 0 {
		return nil, 0, fmt.Errorf("cut ledger: %w", err)
	}
	o.cut = true
	if d, err = openDisk(o); err != nil {
		return damage, 0, fmt.Errorf("cut ledger: %w", err)
	}
	last, err = d.LastIndex()
	return damage, last, errors.Join(err, d.Close())
}
