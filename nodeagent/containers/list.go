package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// List says what there is: every pod whose directory exists, with the newest instance of each of its containers.
// It reads the run directory, which the shims write; it asks neither them nor containerd. Linked is left to who
// makes links.
func (r *Runtime) List(ctx context.Context) (plan.Have, error) {
	entries, err := os.ReadDir(filepath.Join(r.o.RunDir, "pods"))
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	have := make(plan.Have, len(entries))
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		id := control.PodID(e.Name())
		if checkID(e.Name()) != nil {
			continue
		}
		seen, err := r.look(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list pod %s: %w", id, err)
		}
		have[id] = seen
	}
	return have, nil
}

// look sees one pod.
func (r *Runtime) look(id control.PodID) (*plan.Seen, error) {
	p := r.pod(id)
	p.knownMu.Lock()
	names, err := p.known.names.Read(filepath.Join(p.dir, record.Instances))
	p.knownMu.Unlock()
	if errors.Is(err, os.ErrNotExist) {
		if _, serr := os.Stat(p.dir); serr != nil {
			r.forget(p)
			return nil, serr
		}
		err = nil // its making was cut short
	}
	if err != nil {
		return nil, err
	}
	p.knownMu.Lock()
	meta, unread := p.known.pod.Read(filepath.Join(p.dir, record.PodFile))
	p.knownMu.Unlock()
	// Without its record the pod's making was cut short, or somebody else wrote there: then its containers are there.
	seen := &plan.Seen{
		Epoch:      meta.Epoch,
		Namespaces: unread == nil && !meta.Released && (meta.HostNet || pinned(filepath.Join(p.dir, "ns", "net"))),
		Containers: make(map[string]*plan.Container, len(names)),
	}
	newest := make(map[string]int, len(names))
	for _, name := range names {
		if name, attempt, ok := record.ParseInstanceDir(name); ok && name != pauseName {
			if best, there := newest[name]; !there || attempt > best {
				newest[name] = attempt
			}
		}
	}
	for name, attempt := range newest {
		if in := p.readInstance(record.InstanceDir(name, attempt)); in != nil {
			seen.Containers[name] = in.seen()
		}
	}
	return seen, nil
}

// forget drops the handle of a pod that is gone and was never watched.
func (r *Runtime) forget(p *pod) {
	p.shimMu.Lock()
	idle := p.shim == nil && p.warming == nil
	p.shimMu.Unlock()
	if !idle {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pods[p.id] == p {
		delete(r.pods, p.id)
	}
}

func (in *instance) seen() *plan.Container {
	c := &plan.Container{
		ID:       instanceID(in.pod, in.container, in.attempt),
		Attempt:  in.attempt,
		State:    plan.Created,
		Image:    in.meta.Image,
		Streak:   in.meta.Streak,
		Started:  in.state.Started,
		Finished: in.state.Finished,
		ExitCode: in.state.ExitCode,
		Signal:   in.state.Signal,
		OOM:      in.state.OOM,
		Lapsed:   in.state.Lapsed,
		Message:  in.message,
	}
	switch {
	case in.state.Finished != 0:
		c.State = plan.Exited
	case in.state.Started != 0:
		c.State = plan.Running
	}
	return c
}

// adopt takes over the pods that a former agent left, and removes writable layers whose pods are gone.
func (r *Runtime) adopt(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(r.o.RunDir, "pods"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if checkID(e.Name()) != nil {
			continue
		}
		p := r.pod(control.PodID(e.Name()))
		if !p.adoptShim(ctx, r) {
			p.mu.Lock()
			r.buryShim(p)
			p.mu.Unlock()
		}
	}
	if err := r.clearFences(); err != nil {
		return err
	}
	scratch := filepath.Join(r.o.DataDir, "scratch")
	left, err := os.ReadDir(scratch)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range left {
		if _, err := os.Stat(r.podDir(control.PodID(e.Name()))); errors.Is(err, os.ErrNotExist) {
			if err := os.RemoveAll(filepath.Join(scratch, e.Name())); err != nil {
				return fmt.Errorf("remove a writable layer of before: %w", err)
			}
		}
	}
	return nil
}
