package nodeagent

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"
)

// DefaultDiskLimits are those of a kubelet.
const DefaultDiskLimits = "nodefs.available<10%,imagefs.available<15%,nodefs.inodesFree<5%"

// DiskLimit is how little may be left of a file system before its node is short of disk: so many percent of what there is,
// or so much.
type DiskLimit struct {
	Signal  string // "nodefs.available", in bytes, "nodefs.inodesFree", or the same of "imagefs"
	Percent int64  // 1 to 99; 0: Amount counts
	Amount  int64
}

// ParseDiskLimits reads limits as a kubelet's --eviction-hard has them, "nodefs.available<10%,imagefs.available<2Gi"; "none"
// are none.
func ParseDiskLimits(text string) (limits []DiskLimit, err error) {
	if text == "none" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		l, err := parseDiskLimit(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("%q: %w; expected none, or limits such as %s", part, err, DefaultDiskLimits)
		}
		limits = append(limits, l)
	}
	return limits, nil
}

func parseDiskLimit(text string) (l DiskLimit, err error) {
	signal, least, _ := strings.Cut(text, "<")
	switch signal {
	case "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree":
		l.Signal = signal
	default:
		return l, fmt.Errorf("signal %.40q is not known", signal)
	}
	if percent, ok := strings.CutSuffix(least, "%"); ok {
		l.Percent, err = strconv.ParseInt(percent, 10, 64)
		if err != nil || l.Percent < 1 || l.Percent > 99 {
			return l, fmt.Errorf("%.40q: want 1%% to 99%%, in whole percent", least)
		}
		return l, nil
	}
	q, err := resource.ParseQuantity(least)
	if l.Amount = q.Value(); err != nil || l.Amount < 1 {
		return l, fmt.Errorf("%.40q: want a percentage, or an amount such as 2Gi", least)
	}
	return l, nil
}

// filesystem is "nodefs" or "imagefs", counted is true for inodes.
func (l DiskLimit) filesystem() string { name, _, _ := strings.Cut(l.Signal, "."); return name }

func (l DiskLimit) inodes() bool { return strings.HasSuffix(l.Signal, ".inodesFree") }

// least is what must be left of so much, and roomy how much must be left before it is believed that the shortage is over:
// five percent of all more, or a quarter of an amount.
func (l DiskLimit) least(all int64) (least, roomy int64) {
	if l.Percent == 0 {
		return l.Amount, l.Amount + l.Amount/4
	}
	hundredth := all / 100
	return l.Percent * hundredth, (l.Percent + 5) * hundredth
}

// Disk is what there is of a file system for those who may not take its reserve, as df counts it, and what is left of that.
type Disk struct {
	Bytes, FreeBytes   int64
	Inodes, FreeInodes int64 // Inodes is 0 on a file system that makes them as it needs them
}

// StatDisk looks at the file system of a directory.
func StatDisk(dir string) (Disk, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Disk{}, fmt.Errorf("statfs %s: %w", dir, err)
	}
	used := int64(fs.Blocks - fs.Bfree)
	free := int64(fs.Bavail)
	return Disk{Bytes: (used + free) * fs.Bsize, FreeBytes: free * fs.Bsize, Inodes: int64(fs.Files), FreeInodes: int64(fs.Ffree)}, nil
}

// of is how much of a disk there is of what the limit is about, and how much of it is left.
func (l DiskLimit) of(d Disk) (all, free int64) {
	if l.inodes() {
		return d.Inodes, d.FreeInodes
	}
	return d.Bytes, d.FreeBytes
}

// say says how a disk is short: "nodefs.available is 4% on /var/lib/shoal, 81Mi of 2Gi; less than 10%".
func (l DiskLimit) say(dir string, all, free int64) string {
	least := strconv.FormatInt(l.Percent, 10) + "%"
	if l.Percent == 0 {
		least = l.amount(l.Amount)
	}
	return fmt.Sprintf("%s is %d%% on %s, %s of %s; less than %s", l.Signal, free*100/max(all, 1), dir, l.amount(free), l.amount(all), least)
}

func (l DiskLimit) amount(n int64) string {
	switch {
	case l.inodes():
		return strconv.FormatInt(n, 10)
	case n >= 10<<30:
		return strconv.FormatInt(n>>30, 10) + "Gi"
	}
	return strconv.FormatInt(n>>20, 10) + "Mi"
}
