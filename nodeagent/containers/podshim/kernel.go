package podshim

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

// oomKills counts the processes of a cgroup that the kernel killed for want of memory; 0 if it cannot be told.
func oomKills(cgroup string) int {
	if cgroup == "" {
		return 0
	}
	file := filepath.Join("/sys/fs/cgroup/memory", cgroup, "memory.oom_control")
	if cgroups.Mode() == cgroups.Unified {
		file = filepath.Join("/sys/fs/cgroup", cgroup, "memory.events")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if string(key) == "oom_kill" {
			n, _ := strconv.Atoi(string(value))
			return n
		}
	}
	return 0
}

// knock sends an empty datagram to the socket at path and never waits: nobody there, or a full queue, is fine.
func knock(path string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.Sendto(fd, []byte{1}, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: path})
}
