// Package deadline is the word between a node's agent and those that must not depend on it: by when what may run once
// must be dead.
//
// It is a file of 8 bytes, little endian, on a file system that a reboot empties: ms of CLOCK_BOOTTIME, which goes on
// while the machine sleeps and is the same in all processes. The agent writes it with each renewal of the ring lease; the
// guard kills by it, and a pod's shim starts nothing past it. Who cannot read it takes it for over.
package deadline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Time is a deadline, in ms of Now. The zero Time never comes.
type Time int64

// Past is a deadline that is over.
const Past Time = 1

// Horizon is how far ahead a deadline may lie, in ms. One that lies further was written before the machine was started.
const Horizon = 60_000

// Size is how long the file is, in bytes.
const Size = 8

// Over tells whether what the deadline is for must be dead at now.
func (t Time) Over(now int64) bool {
	return t != 0 && (int64(t) <= now || int64(t) > now+Horizon)
}

// Now is ms since the machine was started, sleep included.
func Now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(fmt.Errorf("CLOCK_BOOTTIME: %w", err)) // Linux has had it since 2.6.39
	}
	return t.Nano() / 1_000_000
}

// Write says t in an open file. Readers see the old deadline or the new one.
func Write(f io.WriterAt, t Time) error {
	var b [Size]byte
	binary.LittleEndian.PutUint64(b[:], uint64(t))
	_, err := f.WriteAt(b[:], 0)
	return err
}

// From reads the deadline in an open file; false if none was ever written.
func From(f io.ReaderAt) (t Time, written bool, err error) {
	var b [Size]byte
	switch _, err := f.ReadAt(b[:], 0); {
	case errors.Is(err, io.EOF):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return Decode(b), true, nil
}

// Decode reads the file's bytes.
func Decode(b [Size]byte) Time { return Time(binary.LittleEndian.Uint64(b[:])) }

// Read is the deadline in the file at path. It is over if the file cannot be read, or nothing was written yet.
func Read(path string) Time {
	f, err := os.Open(path)
	if err != nil {
		return Past
	}
	defer f.Close()
	t, written, err := From(f)
	if err != nil || !written {
		return Past
	}
	return t
}
