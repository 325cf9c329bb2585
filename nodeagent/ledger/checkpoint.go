package ledger

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// checkpoint is the hash of the state after an entry, kept beside the log: a replay must come to the same.
type checkpoint struct {
	Entry uint64 `json:"entry"`
	Hash  string `json:"hash"`
}

// readCheckpoint reads what the last run left. It only serves to compare: one that cannot be read is put aside.
func readCheckpoint(dir string, log *slog.Logger) (checkpoint, error) {
	path := filepath.Join(dir, "checkpoint")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint{}, nil
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("read checkpoint: %w", err)
	}
	var c checkpoint
	if err := json.Unmarshal(b, &c); err != nil {
		log.Warn("checkpoint cannot be read, put aside", "file", path+".damaged", "err", err)
		return checkpoint{}, os.Rename(path, path+".damaged")
	}
	return c, nil
}

// writeCheckpoint keeps the hash of the state as it is. Nothing depends on it after a power loss, so it is not synced.
func (l *Ledger[S, O]) writeCheckpoint() error {
	l.checkMu.Lock()
	defer l.checkMu.Unlock()
	l.mu.RLock()
	hash := l.state.Hash()
	c := checkpoint{Entry: l.applied, Hash: hex.EncodeToString(hash[:])}
	l.mu.RUnlock()
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	path := filepath.Join(l.opt.Dir, "checkpoint")
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		l.opt.Log.Warn("checkpoint not written", "err", err) // a full disk stops no one
		return nil
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// compareLocked compares the state with the checkpoint of its entry.
func (l *Ledger[S, O]) compareLocked() {
	hash := l.state.Hash()
	if got := hex.EncodeToString(hash[:]); got != l.check.Hash {
		l.diverged = true
		l.opt.Log.Error("state differs from what it was before the restart", "index", l.applied, "hash", got, "before", l.check.Hash)
	}
	l.check = checkpoint{}
}
