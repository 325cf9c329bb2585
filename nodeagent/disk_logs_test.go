package nodeagent

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/enginetest"
)

// Rotated logs go after everything else, only where their own disk is short, until there is clearly room, and again a minute
// later if pods go on writing. A disk that has room by that is not short.
func TestFault_E3_RotatedLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diskRing{ring: enginetest.NewRing(t), free: 50}
		d.ring.Up(2)
		limits, _ := ParseDiskLimits(DefaultDiskLimits)
		files, data, diary := 0, int64(50), ""
		w := NewDiskWatch(DiskOptions{
			Node: enginetest.Node(1).ID, Limits: limits, Dirs: map[string][]string{"nodefs": {"/data", "/log"}, "imagefs": {"/data"}}, Ledger: d,
			Stat: func(dir string) (Disk, error) {
				d.mu.Lock()
				defer d.mu.Unlock()
				if dir == "/log" {
					return Disk{Bytes: 100 << 30, FreeBytes: d.free << 30}, nil
				}
				return Disk{Bytes: 100 << 30, FreeBytes: data << 30}, nil
			},
			Reclaim: func(context.Context) error { d.set(func() { diary += "images " }); return nil },
			Logs:    "/log",
			Thin: func(_ context.Context, enough func() bool) error {
				gone, left := 0, 0
				for d.set(func() { left = files }); left > 0 && !enough(); left, gone = left-1, gone+1 {
					d.set(func() { d.free++; files-- })
				}
				d.set(func() { diary += fmt.Sprint(gone, " logs ") })
				return nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = w.Run(ctx) }()
		for _, c := range []struct {
			what       string
			data, logs int64 // percent that is left
			files      int
			want       string // what was done within a minute and a half
			short      bool
		}{
			{"room", 50, 50, 9, "", false},
			{"the images' disk alone", 12, 50, 9, "images ", true},
			{"both have room", 50, 50, 9, "", false},
			{"the logs'", 50, 8, 9, "images 7 logs ", false},
			{"logs that do not do", 50, 8, 1, "images 1 logs 0 logs ", true},
		} {
			time.Sleep(3 * time.Minute)
			d.set(func() { data, d.free, diary, files = c.data, c.logs, "", c.files })
			time.Sleep(90 * time.Second)
			synctest.Wait()
			if diary != c.want || (w.Short() != "") != c.short {
				t.Errorf("%s: %q, short: %q; want %q, %t", c.what, diary, w.Short(), c.want, c.short)
			}
		}
		cancel()
		synctest.Wait()
	})
}
