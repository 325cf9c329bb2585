package containers

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// The OCI spec of a container has its environment in it, and runc wants it in a file, as it does that of a command that is run in it later.
// The run directory may be on a disk, or be swapped to one: so the bundle has a link to a file in Options.Private, below a directory for
// the pod. It lives as long as the instance does.

func (r *Runtime) privateDir(id control.PodID) string { return filepath.Join(r.o.Private, string(id)) }

func (r *Runtime) privateConfig(p *pod, in *instance) string {
	return filepath.Join(r.privateDir(p.id), record.InstanceDir(in.container, in.attempt)+".json")
}

// writeConfig writes an instance's OCI spec.
func (r *Runtime) writeConfig(p *pod, in *instance, b []byte) error {
	at := filepath.Join(in.dir, "config.json")
	if r.o.Private == "" {
		return os.WriteFile(at, b, 0o600)
	}
	file := r.privateConfig(p, in)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return err
	}
	if err := os.Symlink(file, at); !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Remove(at); err != nil { // of a start that was cut short
		return err
	}
	return os.Symlink(file, at)
}

// dropConfig removes it, when its instance has ended.
func (r *Runtime) dropConfig(p *pod, in *instance) error {
	if r.o.Private == "" {
		return nil
	}
	if err := os.Remove(r.privateConfig(p, in)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// dropPrivate removes all that is private of a pod.
func (r *Runtime) dropPrivate(id control.PodID) error {
	if r.o.Private == "" {
		return nil
	}
	return os.RemoveAll(r.privateDir(id))
}
