package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/links"
)

// nodeAddress is the address others reach this machine at: the flag, or the source address of the default
// route, or loopback for a machine that has no network.
func nodeAddress(flag string) (netip.Addr, error) {
	if flag != "" {
		a, err := netip.ParseAddr(flag)
		if err != nil || !a.Is4() {
			return a, usageError{fmt.Errorf("--address %s: expected an IPv4 address", flag)}
		}
		return a, nil
	}
	routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 1)) // an address that is nobody's: which way would it go?
	if err == nil {
		for _, r := range routes {
			if a, ok := netip.AddrFromSlice(r.Src.To4()); ok {
				return a, nil
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// overlap refuses address ranges that the host has routes into: traffic would go astray.
func overlap(pods, services netip.Prefix, instance string) error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Type != unix.RTN_UNICAST || links.OwnRoute(&r, instance) { // those that lead nowhere are ours, for addresses that are not given out
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		if !ok || bits == 0 {
			continue
		}
		dst := netip.PrefixFrom(a, bits)
		link, err := netlink.LinkByIndex(r.LinkIndex)
		name := "?"
		if err == nil {
			name = link.Attrs().Name
		}
		if strings.HasPrefix(name, links.Prefix(instance)) {
			continue
		}
		for _, ours := range []netip.Prefix{pods, services} {
			if ours.Overlaps(dst) {
				return fmt.Errorf("the range %s overlaps with a route of this machine (%s on %s): choose another with --pod-cidr or --service-cidr", ours, dst, name)
			}
		}
	}
	return nil
}

// capacity is what this machine has. Cores are those this process may use; a tenth of the memory, up to 1 GiB,
// is left to the system.
func capacity(dataDir string) place.Resources {
	r := place.Resources{MilliCPU: int64(runtime.NumCPU()) * 1000, Pods: 250}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		total := int64(info.Totalram) * int64(info.Unit)
		r.Memory = total - min(total/10, 1<<30)
	}
	var fs unix.Statfs_t
	if unix.Statfs(dataDir, &fs) == nil {
		r.Ephemeral = int64(fs.Bavail) * fs.Bsize
	}
	return r
}

// holder names the process that listens on a TCP port, as " (held by nginx, pid 12)", or "" if it cannot be found.
func holder(port int) string {
	inode := listenInode(port)
	if inode == "" {
		return ""
	}
	want := "socket:[" + inode + "]"
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == want {
			pid := strings.Split(fd, "/")[2]
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf(" (held by %s, pid %s)", bytes.TrimSpace(name), pid)
		}
	}
	return ""
}

// listenInode is the inode of the socket that listens on a port, from /proc/net/tcp and tcp6.
func listenInode(port int) string {
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != "0A" { // listening
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if n, err := strconv.ParseInt(hex, 16, 32); err == nil && int(n) == port {
				return fields[9]
			}
		}
	}
	return ""
}
