package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// suite is the Debian release the files come from: one line of apt's sources each.
const suite = `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-updates main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security bookworm-security main
`

// debian returns the files of packages and of all they depend on.
func (b *Builder) debian(ctx context.Context, packages []string) (tree, error) {
	cache, err := b.cache()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "debian-"+b.arch())
	if err := os.MkdirAll(filepath.Join(dir, "archives", "partial"), 0o755); err != nil {
		return nil, fmt.Errorf("make the package cache: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "flock")) // apt's own locks fail at once instead of waiting
	if err != nil {
		return nil, err
	}
	defer unlock()

	files, err := locked(dir, packages)
	if b.Refresh || errors.Is(err, fs.ErrNotExist) {
		files, err = b.download(ctx, dir, packages)
	}
	if err != nil {
		return nil, err
	}
	t := tree{}
	for _, f := range files {
		cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", f)
		var text bytes.Buffer
		cmd.Stderr = &text
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w: %s", filepath.Base(f), err, text.Bytes())
		}
		if err := t.add(bytes.NewReader(out)); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", filepath.Base(f), err)
		}
	}
	return t, nil
}

// download has apt choose, fetch and check the packages for an empty system, and writes the lock.
func (b *Builder) download(ctx context.Context, dir string, packages []string) ([]string, error) {
	for _, d := range []string{"lists/partial", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{"sources.list": suite, "status": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := b.apt(ctx, dir, "update"); err != nil {
		return nil, err
	}
	if err := b.apt(ctx, dir, "clean"); err != nil {
		return nil, err
	}
	if err := b.apt(ctx, dir, append([]string{"install", "--download-only", "--yes", "--no-install-recommends"}, packages...)...); err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(dir, "archives", "*.deb"))
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	var lines bytes.Buffer
	for i, f := range found {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		kept := filepath.Join(dir, filepath.Base(f))
		if err := os.Rename(f, kept); err != nil {
			return nil, err
		}
		found[i] = kept
		fmt.Fprintf(&lines, "%s  %s\n", sum(data), filepath.Base(f))
	}
	tmp := lockFile(dir, packages) + ".tmp"
	if err := os.WriteFile(tmp, lines.Bytes(), 0o644); err != nil {
		return nil, err
	}
	return found, os.Rename(tmp, lockFile(dir, packages))
}

// apt runs apt-get on a state of its own below dir.
func (b *Builder) apt(ctx context.Context, dir string, args ...string) error {
	options := map[string]string{
		"Dir::State": dir + "/state", "Dir::State::Lists": dir + "/lists", "Dir::State::status": dir + "/status",
		"Dir::Cache": dir, "Dir::Cache::Archives": dir + "/archives",
		"Dir::Etc::SourceList": dir + "/sources.list", "Dir::Etc::SourceParts": "-",
		"Dir::Etc::Preferences": "-", "Dir::Etc::PreferencesParts": "-",
		"APT::Architecture": b.arch(), "APT::Architectures": b.arch(), // Debian's amd64 and arm64 are Go's
		"APT::Sandbox::User": "root", "APT::Keep-Downloaded-Packages": "true", "Acquire::Languages": "none",
		"Acquire::Retries": "3", "Acquire::http::Timeout": "30", "Debug::NoLocking": "true",
	}
	line := []string{"-qq"}
	for k, v := range options {
		line = append(line, "-o", k+"="+v)
	}
	cmd := exec.CommandContext(ctx, "apt-get", append(line, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(text))
	}
	return nil
}

// locked returns the packages that the lock names, or fs.ErrNotExist when one of them is absent or damaged.
func locked(dir string, packages []string) ([]string, error) {
	text, err := os.ReadFile(lockFile(dir, packages))
	if err != nil {
		return nil, err
	}
	var files []string
	for line := range strings.Lines(string(text)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		f := filepath.Join(dir, filepath.Base(name))
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if sum(data) != want {
			return nil, fmt.Errorf("%s differs from its lock: %w", f, fs.ErrNotExist)
		}
		files = append(files, f)
	}
	return files, nil
}

func lockFile(dir string, packages []string) string {
	return filepath.Join(dir, strings.Join(packages, "+")+".lock")
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// lock waits for the file's lock and returns how to give it back.
func lock(name string) (func(), error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}
