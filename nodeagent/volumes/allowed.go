package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// allowed refuses a path of the host that is, holds or lies in a denied one, whatever links lead there.
func (v *Volumes) allowed(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("hostPath %q must be absolute", path)
	}
	real, err := realPath(path)
	if err != nil {
		return err
	}
	for _, denied := range append([]string{v.opt.Dir, v.opt.RunDir}, v.opt.Denied...) {
		not, err := realPath(denied)
		if err != nil {
			return err
		}
		if within(real, not) || within(not, real) {
			return fmt.Errorf("hostPath %s: %w", path, errDenied)
		}
	}
	return nil
}

// realPath resolves links as far as the path exists.
func realPath(path string) (string, error) {
	path = filepath.Clean(path)
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || path == "/" {
		return "", err
	}
	parent, err := realPath(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

// within says whether path is dir or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
