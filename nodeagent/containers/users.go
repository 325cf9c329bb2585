package containers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// userFileBytes bounds /etc/passwd and /etc/group of an image; a longer one counts as absent.
const userFileBytes = 1 << 20

// users are an image's own user and group files.
type users struct {
	passwd, group []byte
}

// openInside opens a file below root, whose links are followed within root; nil if there is none, or it cannot be read.
func openInside(root, name string) *os.File {
	path, err := securejoin.SecureJoin(root, name)
	if err != nil {
		return nil // a loop of links: as good as absent
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	return f
}

// readInside reads a regular file below root, whose links are followed within root. Absent is nil.
func readInside(root, name string) ([]byte, error) {
	f := openInside(root, name)
	if f == nil {
		return nil, nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > userFileBytes {
		return nil, nil
	}
	return io.ReadAll(io.LimitReader(f, userFileBytes))
}

// account is who a container's process is.
type account struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// resolve finds the user that spec names: "", "user", "uid", each with ":group". A number needs no entry.
func (u users) resolve(spec string) (account, error) {
	for part := range strings.SplitSeq(spec, ":") {
		// A number too large for an id must not wrap round to root's.
		if n, err := strconv.ParseInt(part, 10, 64); (err == nil && (n < 0 || n > math.MaxInt32)) || errors.Is(err, strconv.ErrRange) {
			return account{}, fmt.Errorf("user %q: ids go from 0 to %d", spec, math.MaxInt32)
		}
	}
	got, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, bytes.NewReader(u.passwd), bytes.NewReader(u.group))
	if err != nil {
		return account{}, fmt.Errorf("user %q of the image: %w", spec, err)
	}
	id := account{uid: uint32(got.Uid), gid: uint32(got.Gid), home: got.Home}
	for _, g := range got.Sgids {
		id.groups = append(id.groups, uint32(g))
	}
	return id, nil
}

// addGroups adds supplementary groups, each once.
func (id *account) addGroups(groups ...uint32) {
	for _, g := range groups {
		if !slices.Contains(id.groups, g) {
			id.groups = append(id.groups, g)
		}
	}
}

// lowerDirs reads the directories of an image's layers out of the mounts of a view, topmost first. A view of one
// layer is a bind mount, of several an overlay without an upper directory.
func lowerDirs(mounts []mount.Mount) ([]string, error) {
	if len(mounts) != 1 {
		return nil, fmt.Errorf("image is %d mounts: expected one", len(mounts))
	}
	m := mounts[0]
	if m.Type == "bind" {
		return []string{m.Source}, nil
	}
	for _, opt := range m.Options {
		if dirs, ok := strings.CutPrefix(opt, "lowerdir="); ok && m.Type == "overlay" {
			return filepath.SplitList(dirs), nil
		}
	}
	return nil, fmt.Errorf("image is a mount of type %q: expected overlay", m.Type)
}
