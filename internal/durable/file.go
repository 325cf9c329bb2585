// Package durable writes files so that a power loss leaves the old one or the new one.
package durable

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// WriteFile replaces the file at path by data, with mode 0600. After a crash at any instant the file is the old one or the
// new one; once WriteFile returned nil it is the new one. What a crash leaves of path.tmp is overwritten by the next.
func WriteFile(path string, data []byte) error {
	return Replace(path, path+".tmp", 0o600, bytes.NewReader(data))
}

// Replace is WriteFile for content of any length, by way of the file temp of the same directory. What a crash leaves of temp
// is the caller's; an error leaves nothing of it.
func Replace(path, temp string, mode os.FileMode, content io.Reader) error {
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = errors.Join(f.Chmod(mode), f.Sync()) // whatever the umask
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
