package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// iptables-legacy keeps its rules in the kernel's older tables, which nftables does not show. They are read with
// the two socket options that iptables itself uses, only if there is a filter table: asking for one would make it.

// Of the kernel's linux/netfilter_ipv4/ip_tables.h; sizes in bytes.
const (
	soGetInfo    = 64
	soGetEntries = 65

	infoSize   = 32 + 4 + 5*4 + 5*4 + 4 + 4 // name, valid_hooks, hook_entry, underflow, num_entries, size
	entriesAt  = 40                         // name, size, padding
	entrySize  = 112                        // struct ipt_entry
	targetSize = 32                         // struct xt_entry_target
	nextAt     = 90                         // of next_offset in an entry; target_offset is before it

	hookInput   = 1
	hookForward = 2

	standardAccept = -2
	standardDrop   = -1
)

// legacyBlockers lists the chains of iptables-legacy that drop what pods send or get.
func legacyBlockers(t *wire.Tables) ([]Blocker, error) {
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil || !strings.Contains("\n"+string(names), "\nfilter\n") {
		return nil, nil // no such kernel, or no such table
	}
	table, err := readLegacyFilter()
	if err != nil {
		return nil, fmt.Errorf("read the filter table of iptables-legacy: %w", err)
	}
	var found []Blocker
	for _, hook := range []int{hookInput, hookForward} {
		name := map[int]string{hookInput: "input", hookForward: "forward"}[hook]
		if table.drops(hook) && !table.letsThrough(hook, t) {
			b := Blocker{Hook: name, Chain: "chain " + strings.ToUpper(name) + " of iptables-legacy", legacy: true}
			b.Remedy = remedy(&b, false, t)
			found = append(found, b)
		}
	}
	return found, nil
}

// legacyTable is a table as the kernel gives it out: entries one after the other, and where each hook's chain
// begins and has its policy.
type legacyTable struct {
	begin, policy [5]uint32
	entries       []byte
}

func readLegacyFilter() (*legacyTable, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	info := make([]byte, infoSize)
	copy(info, "filter")
	if err := getsockopt(fd, soGetInfo, info); err != nil {
		return nil, err
	}
	t := &legacyTable{}
	for i := range 5 {
		t.begin[i] = binary.NativeEndian.Uint32(info[36+4*i:])
		t.policy[i] = binary.NativeEndian.Uint32(info[56+4*i:])
	}
	size := binary.NativeEndian.Uint32(info[80:])
	if size > 64<<20 {
		return nil, fmt.Errorf("it has %d bytes", size)
	}
	b := make([]byte, entriesAt+int(size))
	copy(b, "filter")
	binary.NativeEndian.PutUint32(b[32:], size)
	if err := getsockopt(fd, soGetEntries, b); err != nil {
		return nil, err
	}
	t.entries = b[entriesAt:]
	return t, nil
}

func getsockopt(fd, option int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, uintptr(option), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// verdict is that of an entry which has no condition but addresses and a plain target; ok is false for others.
func (t *legacyTable) verdict(at uint32) (source, destination netip.Prefix, verdict int32, next uint32, ok bool) {
	if uint64(at)+entrySize+targetSize+4 > uint64(len(t.entries)) {
		return
	}
	e := t.entries[at:]
	target := binary.NativeEndian.Uint16(e[nextAt-2:])
	next = at + uint32(binary.NativeEndian.Uint16(e[nextAt:]))
	prefix := func(ip, mask []byte) netip.Prefix {
		bits := 0
		for _, m := range mask {
			for ; m&0x80 != 0; m <<= 1 {
				bits++
			}
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(ip)), bits)
	}
	source, destination = prefix(e[0:4], e[8:12]), prefix(e[4:8], e[12:16])
	// No interfaces (16 to 79), no protocol (80), no flags nor inversions (82, 83); a target without a name is a verdict.
	plain := onlyComments(e, int(target))
	for _, b := range e[16:84] {
		plain = plain && b == 0
	}
	if !plain || int(target)+targetSize+4 > len(e) || e[target+2] != 0 {
		return source, destination, 0, next, false
	}
	return source, destination, int32(binary.NativeEndian.Uint32(e[target+targetSize:])), next, true
}

// onlyComments tells whether the matches of an entry, between its conditions and its target, are comments.
func onlyComments(e []byte, target int) bool {
	if target < entrySize || target > len(e) {
		return false
	}
	for at := entrySize; at < target; {
		if at+targetSize > target {
			return false
		}
		size := int(binary.NativeEndian.Uint16(e[at:]))
		name, _, _ := strings.Cut(string(e[at+2:at+31]), "\x00")
		if name != "comment" || size < targetSize {
			return false
		}
		at += size
	}
	return true
}

func (t *legacyTable) drops(hook int) bool {
	_, _, verdict, _, ok := t.verdict(t.policy[hook])
	return ok && verdict == standardDrop
}

func (t *legacyTable) letsThrough(hook int, tables *wire.Tables) bool {
	from, to := false, hook == hookInput
	wide := func(p netip.Prefix) bool {
		return p.Bits() <= tables.Cluster.Bits() && p.Contains(tables.Cluster.Addr())
	}
	for at := t.begin[hook]; at < t.policy[hook]; {
		source, destination, verdict, next, plain := t.verdict(at)
		if next <= at {
			return false // not as expected: say that it blocks
		}
		at = next
		if !plain || verdict != standardAccept {
			continue
		}
		if hook == hookInput {
			from = from || wide(source) && destination.Contains(tables.DNS.Addr())
			continue
		}
		from = from || wide(source) && destination.Bits() == 0
		to = to || wide(destination) && source.Bits() == 0
	}
	return from && to
}

// legacyAllow inserts rules with our mark. The old tables can only be replaced as a whole, with everybody's rules in
// them; that is left to the program whose tables they are.
func legacyAllow(ctx context.Context, mark, hook string, t *wire.Tables) error {
	rules := [][]string{{"-s", t.Cluster.String()}, {"-d", t.Cluster.String()}}
	if hook == "input" {
		rules = [][]string{{"-s", t.Cluster.String(), "-d", t.DNS.Addr().String()}}
	}
	for _, r := range rules {
		args := append([]string{"-w", "5", "-I", strings.ToUpper(hook)}, r...)
		if _, err := runLegacy(ctx, append(args, "-m", "comment", "--comment", mark, "-j", "ACCEPT")...); err != nil {
			return err
		}
	}
	return nil
}

// legacyDisallow deletes what legacyAllow inserted.
func legacyDisallow(ctx context.Context, mark string) error {
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil || !strings.Contains("\n"+string(names), "\nfilter\n") {
		return nil
	}
	if _, err := exec.LookPath(legacyProgram); errors.Is(err, exec.ErrNotFound) {
		return nil // then we inserted nothing
	}
	for _, chain := range []string{"INPUT", "FORWARD"} {
		listed, err := runLegacy(ctx, "-w", "5", "-S", chain)
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(listed, "\n") {
			args := strings.Fields(line)
			if len(args) < 2 || args[0] != "-A" || !slices.Contains(args, mark) {
				continue
			}
			args[0] = "-D"
			if _, err := runLegacy(ctx, append([]string{"-w", "5"}, args...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

const legacyProgram = "iptables-legacy"

func runLegacy(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, legacyProgram, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", legacyProgram, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
