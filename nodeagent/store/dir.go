package store

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// format is the version of the data directory that this package reads and writes.
const format = "1"

// LockedError says that another process owns the data directory.
type LockedError struct {
	Dir string
	PID int // of the holder; 0 if it left none
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is in use by another agent", e.Dir)
	}
	return fmt.Sprintf("data directory %s is in use by another agent, pid %d", e.Dir, e.PID)
}

// Boot names one run of the agent on its directory.
type Boot struct {
	Count uint64 `json:"count"` // from 1, one more each time the directory is opened
	ID    string `json:"id"`    // 16 random hex digits
}

// Dir is the data directory of a node, owned by this process until Close.
type Dir struct {
	path string
	lock *os.File
	log  *slog.Logger

	Node Identity
	Boot Boot
}

// Open takes the data directory at path, which it makes if it is absent. It fails with a *LockedError if another
// process has it, and with an error that names the file if VERSION or node.key cannot be used. A boot counter
// that cannot be read is quarantined and starts anew: its random half keeps boots apart all the same.
func Open(path string, log *slog.Logger) (*Dir, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, lock: lock, log: log}
	if err := d.load(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *Dir) load() error {
	if err := d.checkVersion(); err != nil {
		return err
	}
	if err := d.dropLeftovers(); err != nil {
		return err
	}
	var err error
	if d.Node, err = loadIdentity(d.Path("node.key")); err != nil {
		return err
	}
	return d.countBoot()
}

// Path joins names to the directory's own path.
func (d *Dir) Path(names ...string) string {
	return filepath.Join(append([]string{d.path}, names...)...)
}

// Close gives the directory back.
func (d *Dir) Close() error {
	return d.lock.Close()
}

// lockTries and lockPause bound how long a lock is waited for that may be about to go.
const (
	lockTries = 20
	lockPause = 10 * time.Millisecond
)

// takeLock holds the flock of the directory; closing the file releases it, and so does the death of the process.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	// A process that its holder was about to start when it was killed has the lock too, until it execs.
	for try := 0; ; try++ {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || try == lockTries {
			break
		}
		time.Sleep(lockPause)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		text, _ := io.ReadAll(io.LimitReader(f, 32)) // for people only: a lock without a pid is a lock too
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, errors.Join(&LockedError{Dir: dir, PID: pid}, f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory: %w", err), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory: %w", err), f.Close())
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("lock data directory: %w", err), f.Close())
	}
	return f, nil
}

func (d *Dir) checkVersion() error {
	path := d.Path("VERSION")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return WriteFile(path, []byte(format+"\n"))
	}
	if err != nil {
		return fmt.Errorf("read format of data directory: %w", err)
	}
	if got := string(bytes.TrimSpace(b)); got != format {
		return fmt.Errorf("%s: format %.20q, this shoal reads %q", path, got, format)
	}
	return nil
}

// dropLeftovers removes what a crash within WriteFile left behind.
func (d *Dir) dropLeftovers() error {
	left, err := filepath.Glob(filepath.Join(d.path, ".*.tmp-*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := remove(path); err != nil {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	return nil
}

func (d *Dir) countBoot() error {
	path := d.Path("boot")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read boot counter: %w", err)
	}
	if err == nil {
		if err := json.Unmarshal(b, &d.Boot); err != nil {
			to, qerr := quarantine(path, d.Path("quarantine"))
			if qerr != nil {
				return errors.Join(fmt.Errorf("boot counter: %w", err), qerr)
			}
			d.log.Warn("boot counter unreadable, starts anew", "file", to, "err", err)
			d.Boot = Boot{}
		}
	}
	var id [8]byte
	rand.Read(id[:])
	d.Boot = Boot{Count: d.Boot.Count + 1, ID: hex.EncodeToString(id[:])}
	b, err = json.Marshal(d.Boot)
	if err != nil {
		return err
	}
	return WriteFile(path, append(b, '\n'))
}
