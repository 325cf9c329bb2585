// Package residence gives back memory that a process at rest does not need.
//
// Most of what a node's processes keep mapped is their own binary: starting up runs through tables that are not read
// again, and unpacks what is embedded. Those pages are clean and lie in the page cache; unmapped, the kernel can
// take them for something better. What is still used is mapped again at the first touch, without reading a disk as
// long as the cache has it.
package residence

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// every is how often Keep looks. A round costs a garbage collection and some hundred page faults, 20 ms of CPU time.
const every = time.Minute

// Keep keeps the process small until ctx ends.
func Keep(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		debug.FreeOSMemory()
		_ = Unmap() // it is an economy: without it everything works
	}
}

// Unmap drops the pages of the process's own binary. A range of which a page was written to (relocated, or patched by a
// debugger) is left alone: what was written would be lost.
func Unmap() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	var from, to uintptr // of the range that the lines are about; 0: not one of ours
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 1 && !strings.HasSuffix(fields[0], ":"):
			// 00400000-01d5c000 r-xp 00000000 fe:00 1234    /usr/local/bin/shoal
			from, to = 0, 0
			if len(fields) != 6 || fields[5] != self || fields[1] != "r-xp" && fields[1] != "r--p" {
				continue
			}
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
				return fmt.Errorf("smaps: %q: %w", lines.Text(), err)
			}
		case from != 0 && fields[0] == "Anonymous:" && fields[1] == "0":
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
				return fmt.Errorf("unmap %x-%x: %w", from, to, errno)
			}
		}
	}
	return lines.Err()
}
