package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Skip makes the entry with this number a no-op from the next Open on. It is the way out when an input ends the
// process that steps it; in a ring, every node must skip the same. An entry that a snapshot has behind it stays
// what it was.
func Skip(dir string, index uint64) error {
	if index <= 1 {
		return fmt.Errorf("skip entry %d: the first that can be skipped is 2", index)
	}
	have, err := readSkip(dir)
	if err != nil || have[index] {
		return err
	}
	f, err := os.OpenFile(skipPath(dir), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("skip entry %d: %w", index, err)
	}
	_, err = fmt.Fprintf(f, "%d\n", index)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), syncDir(dir)); err != nil {
		return fmt.Errorf("skip entry %d: %w", index, err)
	}
	return nil
}

// readSkip reads the list that Skip writes: a number a line.
func readSkip(dir string) (map[uint64]bool, error) {
	f, err := os.Open(skipPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("entries to skip: %w", err)
	}
	defer f.Close()
	skip := map[uint64]bool{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		index, err := strconv.ParseUint(strings.TrimSpace(lines.Text()), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %.40q is no number of an entry", f.Name(), n, lines.Text())
		}
		skip[index] = true
	}
	return skip, lines.Err()
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// skipPath is the list of entries that are skipped by hand.
func skipPath(dir string) string { return filepath.Join(dir, "skip") }
