package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Thinned is what Thin has removed.
type Thinned struct {
	Files int
	Bytes int64
}

// Thin removes logs that were set aside as they were full, until there is enough room: those of pods that have ended first, and
// of each kind the oldest first. A log that is written to, or is the last of its container, is never touched, nor is that of
// a pod that ours does not name, by its uid. An error is of what could not be removed; the rest was.
func Thin(ctx context.Context, root string, ours map[string]bool, ended func(uid string) bool, enough func() bool) (done Thinned, err error) {
	aside, err := setAside(root, ours, ended)
	if err != nil {
		return done, fmt.Errorf("list logs: %w", err)
	}
	var errs []error
	for _, f := range aside {
		if ctx.Err() != nil || enough() {
			break
		}
		switch err := os.Remove(f.path); {
		case err == nil:
			done.Files++
			done.Bytes += f.bytes
		case !errors.Is(err, fs.ErrNotExist): // rotated away meanwhile
			errs = append(errs, err)
		}
	}
	return done, errors.Join(errs...)
}

// full is a log that was set aside.
type full struct {
	path  string
	since string // the time at which it was, which sorts
	live  bool   // its pod has not ended
	bytes int64
}

// setAside lists such logs in the order in which they are of no more use.
func setAside(root string, ours map[string]bool, ended func(uid string) bool) (all []full, err error) {
	pods, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		uid := pod.Name()[strings.LastIndexByte(pod.Name(), '_')+1:]
		if !pod.IsDir() || !ours[uid] {
			continue
		}
		live := !ended(uid)
		containers, _ := os.ReadDir(filepath.Join(root, pod.Name())) // it may be gone by now
		for _, c := range containers {
			if !c.IsDir() {
				continue
			}
			dir := filepath.Join(root, pod.Name(), c.Name())
			files, _ := os.ReadDir(dir)
			for _, f := range files {
				_, since, rotated := strings.Cut(f.Name(), ".log.")
				info, err := f.Info()
				if !rotated || err != nil || !info.Mode().IsRegular() {
					continue
				}
				all = append(all, full{filepath.Join(dir, f.Name()), since, live, info.Size()})
			}
		}
	}
	slices.SortFunc(all, func(a, b full) int {
		if a.live != b.live {
			if a.live {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.path, b.path))
	})
	return all, nil
}
