package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
)

func TestParseDiskLimits(t *testing.T) {
	for text, want := range map[string]string{
		DefaultDiskLimits:         "[{nodefs.available 10 0} {imagefs.available 15 0} {nodefs.inodesFree 5 0}]",
		"nodefs.available<1Gi":    "[{nodefs.available 0 1073741824}]",
		"none":                    "[]",
		"":                        `"": signal "" is not known; expected none, or limits such as ` + DefaultDiskLimits,
		"memory.available<100Mi":  `"memory.available<100Mi": signal "memory.available" is not known; expected none, or limits such as ` + DefaultDiskLimits,
		"nodefs.available<0%":     `"nodefs.available<0%": "0%": want 1% to 99%, in whole percent; expected none, or limits such as ` + DefaultDiskLimits,
		"nodefs.available<7.5%":   `"nodefs.available<7.5%": "7.5%": want 1% to 99%, in whole percent; expected none, or limits such as ` + DefaultDiskLimits,
		"nodefs.available":        `"nodefs.available": "": want a percentage, or an amount such as 2Gi; expected none, or limits such as ` + DefaultDiskLimits,
		"nodefs.inodesFree<-1000": `"nodefs.inodesFree<-1000": "-1000": want a percentage, or an amount such as 2Gi; expected none, or limits such as ` + DefaultDiskLimits,
	} {
		limits, err := ParseDiskLimits(text)
		got := fmt.Sprint(limits)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func TestStatDisk(t *testing.T) {
	d, err := StatDisk(t.TempDir())
	if err != nil || d.Bytes <= 0 || d.FreeBytes < 0 || d.FreeBytes > d.Bytes || d.FreeInodes > d.Inodes {
		t.Errorf("%+v %v", d, err)
	}
	if _, err := StatDisk("/nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// diskRing is a ring of which a DiskWatch reports; what it says may not come back while the ledger cannot be written.
type diskRing struct {
	mu    sync.Mutex
	ring  *enginetest.Ring
	free  int64 // percent
	held  bool  // entries are taken and not applied here
	wait  []cluster.Input
	said  []string
	freed int64 // percent that Reclaim gives, once
	fails error
}

func (d *diskRing) View(f func(*cluster.State)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d.ring.State)
}

func (d *diskRing) Report(_ context.Context, in cluster.Input) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil {
		return d.fails
	}
	in.From.Node = enginetest.Node(1).ID
	d.said = append(d.said, in.Pressure.Disk)
	if d.held {
		d.wait = append(d.wait, in)
		return nil
	}
	d.ring.Must(in)
	return nil
}

func (d *diskRing) set(f func()) {
	d.mu.Lock()
	f()
	d.mu.Unlock()
}

// TestFault_E3_DiskPressure has a disk run full and empty again: the ring is told when that is certain, once, and room is
// made before.
func TestFault_E3_DiskPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diskRing{ring: enginetest.NewRing(t), free: 50}
		d.ring.Up(2)
		reclaims := 0
		limits, _ := ParseDiskLimits(DefaultDiskLimits)
		w := NewDiskWatch(DiskOptions{
			Node: enginetest.Node(1).ID, Limits: limits, Dirs: map[string][]string{"nodefs": {"/data", "/log"}, "imagefs": {"/data"}}, Ledger: d,
			Stat: func(dir string) (Disk, error) {
				d.mu.Lock()
				defer d.mu.Unlock()
				if dir == "/log" {
					return Disk{}, fs.ErrNotExist
				}
				return Disk{Bytes: 100 << 30, FreeBytes: d.free << 30, Inodes: 1000, FreeInodes: 900}, nil
			},
			Reclaim: func(context.Context) error {
				d.set(func() { reclaims++; d.free += d.freed; d.freed = 0 })
				return nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = w.Run(ctx) }()
		tainted := func() (out string) {
			d.View(func(s *cluster.State) {
				n, _ := s.Nodes().Get(enginetest.Node(1).ID)
				out = fmt.Sprint(taintTexts(n.Taints), n.DiskPressure)
			})
			return out
		}
		expect := func(what string, reports, room int, want string) {
			t.Helper()
			synctest.Wait()
			if got := tainted(); got != want || len(d.said) != reports || reclaims != room {
				t.Errorf("%s: %s, %d reports, room made %d times; want %s, %d, %d\n%s", what, got, len(d.said), reclaims, want, reports, room, strings.Join(d.said, "\n"))
			}
		}
		const none, short = "[]", "[node.kubernetes.io/disk-pressure:NoSchedule]"
		pass := func(free int64, seconds int) {
			d.set(func() { d.free = free })
			time.Sleep(time.Duration(seconds) * time.Second)
		}
		pass(16, 60)
		expect("more than is wanted", 0, 0, none)
		d.set(func() { d.freed = 2 })
		pass(14, 15)
		expect("made room", 0, 1, none)
		pass(14, 90)
		expect("room was made in vain", 1, 1, short+"imagefs.available is 14% on /data, 14Gi of 100Gi; less than 15%")
		pass(3, 60)
		pass(17, 300)
		expect("not clearly more", 1, 1, short+"imagefs.available is 14% on /data, 14Gi of 100Gi; less than 15%")
		pass(30, 50)
		pass(17, 10)
		pass(30, 50)
		expect("not for long enough", 1, 1, short+"imagefs.available is 14% on /data, 14Gi of 100Gi; less than 15%")
		pass(30, 40)
		expect("room", 2, 1, none)

		d.set(func() { d.held = true })
		pass(0, 600)
		expect("full: it is said once, though it does not come back", 3, 2, none)
		d.set(func() {
			d.held = false
			for _, in := range d.wait {
				d.ring.Must(in)
			}
		})
		pass(0, 60)
		expect("it came back", 3, 2, short+"nodefs.available is 0% on /data, 0Mi of 100Gi; less than 10%")
		d.set(func() { d.fails = errors.New("nobody leads") })
		pass(30, 120)
		expect("nobody can be told", 3, 2, short+"nodefs.available is 0% on /data, 0Mi of 100Gi; less than 10%")
		d.set(func() { d.fails = nil })
		pass(30, 20)
		expect("somebody can", 4, 2, none)
		cancel()
		synctest.Wait()
	})
}
