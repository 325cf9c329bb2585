package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountFiles mounts a tmpfs that is never swapped; a kernel before 6.4 knows no such promise. Scripts out of a
// ConfigMap may be run.
func mountFiles(dir string) error {
	mounted, err := mountinfo.Mounted(dir)
	if err != nil || mounted {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	err = unix.Mount("shoal", dir, "tmpfs", flags, "mode=0700,noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("shoal", dir, "tmpfs", flags, "mode=0700")
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// mountMemory mounts a tmpfs of at most size bytes; 0 leaves it to the kernel, half of the memory.
func mountMemory(dir string, size int64) error {
	mounted, err := mountinfo.Mounted(dir)
	if err != nil || mounted {
		return err
	}
	data := "mode=0777"
	if size > 0 {
		data += fmt.Sprintf(",size=%d", size)
	}
	if err := unix.Mount("shoal", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return nil
}

// unmountBelow takes away every mount at or below dir, the deepest and the newest first. Mounts that are busy
// are detached: they end with their last user.
func unmountBelow(dir string) error {
	for range 16 { // mounts may be stacked on one another
		found, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil {
			return fmt.Errorf("read mounts: %w", err)
		}
		if len(found) == 0 {
			return nil
		}
		slices.SortStableFunc(found, func(a, b *mountinfo.Info) int { return len(b.Mountpoint) - len(a.Mountpoint) })
		for _, m := range found {
			err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
			}
		}
	}
	return fmt.Errorf("unmount %s: there are mounts again and again", dir)
}

// removeAll is os.RemoveAll of a directory below which nothing is mounted, in pieces that heed ctx.
func removeAll(ctx context.Context, dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
