package images

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// tree is a file system in memory: clean absolute paths to nodes.
type tree map[string]node

// node is a directory, a symbolic link or a regular file.
type node struct {
	dir   bool
	link  string // target of a symbolic link
	mode  int64
	owner int
	data  []byte
}

// put adds n and the directories above it that are not there.
func (t tree) put(at string, n node) {
	at = path.Clean("/" + at)
	for up := path.Dir(at); up != "/"; up = path.Dir(up) {
		if _, ok := t[up]; !ok {
			t[up] = node{dir: true, mode: 0o755}
		}
	}
	t[at] = n
}

// add reads a tar stream into the tree.
func (t tree) add(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at := path.Clean("/" + h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			if at != "/" {
				t.put(at, node{dir: true, mode: h.Mode})
			}
		case tar.TypeSymlink:
			t.put(at, node{link: h.Linkname})
		case tar.TypeLink:
			t.put(at, t[path.Clean("/"+h.Linkname)])
		case tar.TypeReg:
			data, err := io.ReadAll(tr)
			if err != nil {
				return err
			}
			t.put(at, node{mode: h.Mode & 0o777, data: data})
		}
	}
}

// take copies at from another tree: a directory with all below it, a symbolic link with what it leads to, a
// program with the libraries it links to.
func (t tree) take(from tree, at string) error {
	at = path.Clean("/" + at)
	if _, ok := t[at]; ok && !t[at].dir {
		return nil
	}
	n, ok := from[at]
	if !ok {
		return fmt.Errorf("the packages hold no %s", at)
	}
	t.put(at, n)
	switch {
	case n.dir:
		for _, p := range slices.Sorted(maps.Keys(from)) {
			if strings.HasPrefix(p, at+"/") && !from[p].dir {
				if err := t.take(from, p); err != nil {
					return err
				}
			}
		}
		return nil
	case n.link != "":
		to := n.link
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(at), to)
		}
		return t.take(from, to)
	}
	libs, err := n.needs()
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	for _, lib := range libs {
		p, err := from.library(lib)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if err := t.take(from, p); err != nil {
			return err
		}
	}
	return nil
}

// needs lists what an ELF file links to: the loader's path and libraries' names. Other files need nothing.
func (n node) needs() ([]string, error) {
	if !bytes.HasPrefix(n.data, []byte(elf.ELFMAG)) {
		return nil, nil
	}
	f, err := elf.NewFile(bytes.NewReader(n.data))
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read needed libraries: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			loader, err := io.ReadAll(p.Open())
			if err != nil {
				return nil, fmt.Errorf("read the loader's name: %w", err)
			}
			libs = append(libs, string(bytes.TrimRight(loader, "\x00")))
		}
	}
	return libs, nil
}

// library finds a library by name where Debian's loader would look, or a path as it is.
func (t tree) library(name string) (string, error) {
	if path.IsAbs(name) {
		return name, nil
	}
	for _, dir := range []string{"/lib", "/usr/lib"} {
		for _, triplet := range []string{"x86_64-linux-gnu", "aarch64-linux-gnu", ""} {
			p := path.Join(dir, triplet, name)
			if _, ok := t[p]; ok {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("the packages hold no library %s", name)
}

// tar writes the tree sorted, with all times 0.
func (t tree) tar() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, at := range slices.Sorted(maps.Keys(t)) {
		n := t[at]
		h := &tar.Header{Name: at[1:], Mode: n.mode, Uid: n.owner, Gid: n.owner, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		switch {
		case n.dir:
			h.Typeflag, h.Name = tar.TypeDir, at[1:]+"/"
		case n.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, n.link, 0o777
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(n.data))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(n.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
