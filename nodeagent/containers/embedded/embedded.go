// Package embedded carries the pod shim and runc inside the one binary, compressed, and unpacks them.
//
// `make build` puts files/shoal-shim.zst and files/runc.zst here before it builds cmd/shoal; they are not in Git.
// Without them the package builds all the same, and Unpack says what is missing.
package embedded

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

//go:embed files
var files embed.FS

// Shim and Runc are the names of what is carried.
const (
	Shim = "shoal-shim"
	Runc = "runc"
)

// ErrMissing is returned when the binary was built without its files.
var ErrMissing = errors.New("built without it: run make build, or name one by a flag")

// Unpack gives the path of the named program below dir, as dir/<name>-<digest>, and writes it there if it is not.
// A version that is there is never touched, so that a running shim keeps its file over an upgrade; it is
// written under another name, synced and renamed, so that a crash leaves no half program.
func Unpack(dir, name string) (string, error) {
	packed, err := files.ReadFile("files/" + name + ".zst")
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("unpack %s: %w", name, ErrMissing)
	}
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	sum := sha256.Sum256(packed)
	path := filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:6]))
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	if err := unpackTo(path, packed); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	return path, nil
}

func unpackTo(path string, packed []byte) error {
	z, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	f, err := os.CreateTemp(filepath.Dir(path), ".unpack-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = z.WriteTo(f)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
