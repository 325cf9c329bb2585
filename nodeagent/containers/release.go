package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// Release gives back what a pod that has ended still holds: its shim, namespaces, /dev/shm, cgroups and writable
// layers. List goes on to tell how its containers ended, and their logs stay, until RemoveSandbox. What still runs is
// killed. It may be repeated; a pod that is not there is fine.
func (r *Runtime) Release(ctx context.Context, id control.PodID) error {
	if err := checkID(string(id)); err != nil {
		return fmt.Errorf("release pod: %w", err)
	}
	p := r.pod(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	var meta record.Pod
	err := record.Read(filepath.Join(p.dir, record.PodFile), &meta)
	if errors.Is(err, os.ErrNotExist) || meta.Released {
		return nil
	}
	if err != nil {
		return fmt.Errorf("release pod: %w", err)
	}
	for _, in := range p.instances() {
		if in.state.Finished == 0 {
			err = errors.Join(err, r.removeInstance(ctx, p, in))
		} else {
			err = errors.Join(err, r.releaseInstance(ctx, p, in))
		}
	}
	if err == nil {
		err = p.endShim(ctx, r)
	}
	if err == nil {
		err = r.removePodCgroup(id)
	}
	if err == nil {
		err = r.unfence(id)
	}
	if err == nil {
		err = r.dropPrivate(id)
	}
	if err = errors.Join(err, unmount(filepath.Join(p.dir, "shm")), unpinNamespaces(filepath.Join(p.dir, "ns"))); err != nil {
		return fmt.Errorf("release pod: %w", err)
	}
	meta.Released = true
	if err := record.Write(filepath.Join(p.dir, record.PodFile), meta); err != nil {
		return fmt.Errorf("release pod: %w", err)
	}
	return nil
}

// releaseInstance leaves of an instance its records and its termination message.
func (r *Runtime) releaseInstance(ctx context.Context, p *pod, in *instance) error {
	if err := r.endInstance(ctx, p, in); err != nil {
		return err
	}
	scratch := r.scratchDir(p, in.container, in.attempt)
	errs := []error{os.RemoveAll(filepath.Join(scratch, "fs")), os.RemoveAll(filepath.Join(scratch, "work"))}
	entries, err := os.ReadDir(in.dir)
	errs = append(errs, err)
	for _, e := range entries {
		if e.Name() != record.InstanceFile && e.Name() != record.StateFile {
			errs = append(errs, os.RemoveAll(filepath.Join(in.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
