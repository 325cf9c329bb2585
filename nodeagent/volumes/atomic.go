package volumes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// write makes dir show exactly these files, by one rename.
func (s fileSet) write(dir string, group *int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := own(dir, 0o755, group); err != nil {
		return err
	}
	name := s.name(group)
	present, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if present != name || !s.matches(filepath.Join(dir, name), group) {
		if present == name { // damaged, say by a power cut: make room, readers see a gap
			if err := os.Remove(filepath.Join(dir, "..data")); err != nil {
				return err
			}
		}
		if err := s.fill(filepath.Join(dir, name), group); err != nil {
			return err
		}
		if err := replaceLink(dir, "..data", name); err != nil {
			return err
		}
	}
	return s.tidy(dir, name)
}

// name is that of the directory for this content.
func (s fileSet) name(group *int64) string {
	h := sha256.New()
	for _, at := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(h, "%d %s %o %d ", len(at), at, s.mode(at, group), len(s[at].data))
		h.Write(s[at].data)
	}
	return ".." + hex.EncodeToString(h.Sum(nil)[:12])
}

// mode is a file's permission bits; with a group its members may read.
func (s fileSet) mode(at string, group *int64) fs.FileMode {
	mode := fs.FileMode(s[at].mode)
	if group != nil {
		mode |= 0o440
	}
	return mode
}

// fill writes the files into a new directory.
func (s fileSet) fill(dir string, group *int64) error {
	if err := os.RemoveAll(dir); err != nil { // left by a crash
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := own(dir, 0o755, group); err != nil {
		return err
	}
	for _, at := range slices.Sorted(maps.Keys(s)) {
		up := dir
		parts := strings.Split(at, "/")
		for _, p := range parts[:len(parts)-1] {
			up = filepath.Join(up, p)
			if err := os.Mkdir(up, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := own(up, 0o755, group); err != nil {
				return err
			}
		}
		f := filepath.Join(dir, at)
		if err := os.WriteFile(f, s[at].data, 0o600); err != nil {
			return err
		}
		if err := own(f, s.mode(at, group), group); err != nil {
			return err
		}
	}
	return nil
}

// own gives a file or directory its mode and group.
func own(at string, mode fs.FileMode, group *int64) error {
	if group != nil {
		if err := os.Lchown(at, -1, int(*group)); err != nil {
			return err
		}
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		if info.IsDir() {
			mode |= fs.ModeSetgid
		}
	}
	return os.Chmod(at, mode)
}

// matches says whether dir holds these files and no others.
func (s fileSet) matches(dir string, group *int64) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		want, ok := s[rel]
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		if !ok || info.Mode() != s.mode(rel, group) || !bytes.Equal(data, want.data) {
			return errors.New("differs")
		}
		seen++
		return nil
	})
	return err == nil && seen == len(s)
}

// tidy links each visible name through ..data and removes what belongs to other sets.
func (s fileSet) tidy(dir, name string) error {
	visible := map[string]bool{}
	for at := range s {
		first, _, _ := strings.Cut(at, "/")
		visible[first] = true
	}
	for _, v := range slices.Sorted(maps.Keys(visible)) {
		to := filepath.Join("..data", v)
		if has, err := os.Readlink(filepath.Join(dir, v)); err == nil && has == to {
			continue
		}
		if err := replaceLink(dir, v, to); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n := e.Name(); n == "..data" || n == name || visible[n] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// replaceLink makes dir/name a link to target, by rename.
func replaceLink(dir, name, target string) error {
	tmp := filepath.Join(dir, "..tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, name))
}
