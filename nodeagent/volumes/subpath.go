package volumes

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath is how the kernel is to resolve a path that a pod's processes may change meanwhile: nothing above
// the volume, no link out of it, none of /proc's magic.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS

// bindBeneath binds root/sub onto at. What is absent is made as a directory, unless the volume is ours to
// write. What is bound is the very file that was resolved, by its descriptor: a link swapped afterwards changes
// nothing. A bind of the same file that is there already is kept.
func bindBeneath(root, sub, at string, written bool) error {
	if path.IsAbs(sub) || strings.ContainsRune(sub, 0) || strings.Contains("/"+sub+"/", "/../") {
		return errors.New("it must be relative and without \"..\"")
	}
	fd, err := openBeneath(root, path.Clean(sub), !written)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var found, bound unix.Stat_t
	if err := unix.Fstat(fd, &found); err != nil {
		return err
	}
	dir := false
	switch found.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		dir = true
	case unix.S_IFLNK:
		return errors.New("it is a link that cannot be followed")
	}
	if unix.Stat(at, &bound) == nil {
		if bound.Dev == found.Dev && bound.Ino == found.Ino {
			return nil
		}
		if err := unmountBelow(at); err != nil {
			return err
		}
		if err := os.Remove(at); err != nil { // an empty file or directory of ours, perhaps of the other kind
			return err
		}
	}
	if err := ensureTarget(at, dir); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind on %s: %w", at, err)
	}
	return nil
}

// openBeneath opens root/sub for reference only; with create it makes absent directories on the way, each
// below the one opened before.
func openBeneath(root, sub string, create bool) (int, error) {
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the volume: %w", err)
	}
	defer unix.Close(top)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: beneath}
	fd, err := openat2(top, sub, how)
	if !errors.Is(err, unix.ENOENT) || !create {
		return fd, escape(err)
	}
	parent, name := path.Split(sub)
	at := top
	if parent = path.Clean(parent); parent != "." {
		if at, err = openBeneath(root, parent, true); err != nil {
			return -1, err
		}
		defer unix.Close(at)
	}
	made := unix.Mkdirat(at, name, 0o700)
	if made != nil && !errors.Is(made, unix.EEXIST) {
		return -1, fmt.Errorf("make %q: %w", sub, made)
	}
	fd, err = openat2(at, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_DIRECTORY, Resolve: beneath})
	if err != nil {
		return -1, escape(err)
	}
	if made == nil {
		if err := likeVolume(top, fd); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("make %q: %w", sub, err)
		}
	}
	return fd, nil
}

// likeVolume gives a new directory the volume's own mode and group, so that the pod's users can use it.
func likeVolume(top, fd int) error {
	var volume unix.Stat_t
	if err := unix.Fstat(top, &volume); err != nil {
		return err
	}
	if err := unix.Fchown(fd, -1, int(volume.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(fd, volume.Mode&0o7777)
}

// openat2 tries again when a rename beside it made the kernel unsure.
func openat2(dir int, name string, how *unix.OpenHow) (int, error) {
	for range 128 {
		fd, err := unix.Openat2(dir, name, how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

func escape(err error) error {
	if errors.Is(err, unix.EXDEV) {
		return errors.New("it leads out of the volume")
	}
	return err
}
