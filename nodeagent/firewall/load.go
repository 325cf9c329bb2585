package firewall

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Load is how full the kernel's table of connections is, in this network namespace. When it is full, packets that would begin
// a new one are dropped; questions to the node's DNS server are not tracked, and go on.
type Load struct {
	Flows, Most int64
	// Dropped counts packets since the boot for which there was no room, and connections that had to go for others.
	Dropped uint64
}

// Percent is how full it is; 0 where nothing is tracked.
func (l Load) Percent() int64 {
	if l.Most <= 0 {
		return 0
	}
	return l.Flows * 100 / l.Most
}

// ReadLoad reads it, for the calling thread's network namespace: three small files. Where the kernel tracks nothing, it is zero.
func ReadLoad() (l Load, err error) {
	if l.Flows, err = readNumber("/proc/sys/net/netfilter/nf_conntrack_count"); err != nil {
		return Load{}, err
	}
	if l.Most, err = readNumber("/proc/sys/net/netfilter/nf_conntrack_max"); err != nil {
		return Load{}, err
	}
	b, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
	if os.IsNotExist(err) {
		return l, nil
	}
	if err == nil {
		l.Dropped, err = dropped(b)
	}
	if err != nil {
		return Load{}, fmt.Errorf("read load of connection tracking: %w", err)
	}
	return l, nil
}

func readNumber(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read load of connection tracking: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read load of connection tracking: %s: %w", path, err)
	}
	return n, nil
}

// dropped sums the columns "drop" and "early_drop" over all processors, a line each, in hexadecimal numbers.
func dropped(b []byte) (sum uint64, err error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Scan()
	names := strings.Fields(lines.Text())
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		for _, name := range []string{"drop", "early_drop"} {
			i := slices.Index(names, name)
			if i < 0 || i >= len(fields) {
				return 0, fmt.Errorf("there is no column %s in %.80q", name, b)
			}
			n, err := strconv.ParseUint(fields[i], 16, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, lines.Err()
}
