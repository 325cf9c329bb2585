package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/shoal-dev/shoal/internal/durable"
)

// What install writes is there as it was, or as it is to be, whenever it is interrupted and however full the disk is: a file
// is written whole beside the one that it is to replace. One that runs goes on as it was.

// partPrefix begins the names of files that are being written, before the writer's pid.
const partPrefix = ".shoal-part-"

// copyFile puts a whole copy of a program in place of to.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return putFile(to, 0o755, in)
}

// putFile puts a file in place of path. When it returns nil the file is on the disk.
func putFile(path string, mode os.FileMode, content io.Reader) error {
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return durable.Replace(path, filepath.Join(dir, fmt.Sprint(partPrefix, os.Getpid(), "-", name)), mode, content)
}

// dropParts removes what writers left in a directory that were killed.
func dropParts(dir string) error {
	parts, err := filepath.Glob(filepath.Join(dir, partPrefix+"*"))
	if err != nil {
		return err
	}
	for _, part := range parts {
		text, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(part), partPrefix), "-")
		pid, err := strconv.Atoi(text)
		if err != nil || pid != os.Getpid() && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue // its writer is at work
		}
		if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("what is left of an interrupted install: %w", err)
		}
	}
	return nil
}
