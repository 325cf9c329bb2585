package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// Options say where volumes lie.
type Options struct {
	Dir    string // required: what outlives a reboot; absolute
	RunDir string // required: what does not; absolute
	// Resolv is the host's resolver configuration, which dnsPolicy Default hands on; default
	// /etc/resolv.conf, or systemd-resolved's real one when that names a local stub.
	Resolv string
	Hosts  string // the host's hosts file, for hostNetwork; default /etc/hosts
	// Denied are paths of the host that no hostPath volume may reach, up or down; Dir and RunDir always are.
	Denied []string
	// Measure is how often volumes with a limit are measured; default 10 s.
	Measure time.Duration
}

// Volumes holds the volumes of one node's pods. Safe for concurrent use.
type Volumes struct {
	opt    Options
	events chan struct{}
	lock   sync.Mutex // everything but measuring and the deletion of trash: each call is a few ms

	watched map[control.PodID][]limited // by lock: what Watch measures
	excess  map[control.PodID]string    // by lock: what it found
}

// Open makes the directories and mounts the tmpfs where it is not mounted yet.
func Open(opt Options) (*Volumes, error) {
	if !filepath.IsAbs(opt.Dir) || !filepath.IsAbs(opt.RunDir) {
		return nil, fmt.Errorf("open volumes: Dir %q and RunDir %q must be absolute", opt.Dir, opt.RunDir)
	}
	if opt.Hosts == "" {
		opt.Hosts = "/etc/hosts"
	}
	v := &Volumes{opt: opt, events: make(chan struct{}, 1), watched: map[control.PodID][]limited{}, excess: map[control.PodID]string{}}
	for _, dir := range []string{v.path("pods"), v.path("trash"), v.run()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open volumes: %w", err)
		}
	}
	if err := mountFiles(v.run()); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	if err := os.MkdirAll(v.run(private), 0o700); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	return v, nil
}

// Prepare makes every volume of the pod's spec, and its files for /etc, and returns where each volume lies. A
// volume that is as it should be is left alone; one whose ConfigMap or Secret changed is brought up to date.
func (v *Volumes) Prepare(_ context.Context, pod *plan.Pod, files Files) (map[string]string, error) {
	v.lock.Lock()
	defer v.lock.Unlock()
	if err := safeName(string(pod.ID)); err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for i := range pod.Spec.Volumes {
		vol := &pod.Spec.Volumes[i]
		at, err := v.prepare(pod, vol)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", vol.Name, err)
		}
		paths[vol.Name] = at
	}
	if err := v.writeEtc(pod, files); err != nil {
		return nil, err
	}
	if limits := v.limits(pod); limits != nil {
		v.watched[pod.ID] = limits
	}
	return paths, nil
}

// Update brings the volumes made of ConfigMaps, Secrets and the pod's own facts up to date, and touches
// nothing else. What it writes is seen by running containers, subPath mounts excepted.
func (v *Volumes) Update(_ context.Context, pod *plan.Pod) error {
	v.lock.Lock()
	defer v.lock.Unlock()
	if err := safeName(string(pod.ID)); err != nil {
		return err
	}
	for i := range pod.Spec.Volumes {
		vol := &pod.Spec.Volumes[i]
		if !written(vol) {
			continue
		}
		if _, err := v.prepare(pod, vol); err != nil {
			return fmt.Errorf("volume %s: %w", vol.Name, err)
		}
	}
	return nil
}

func (v *Volumes) prepare(pod *plan.Pod, vol *corev1.Volume) (string, error) {
	if err := safeName(vol.Name); err != nil {
		return "", err
	}
	at, err := v.at(pod.ID, vol)
	if err != nil {
		return "", err
	}
	group := fsGroup(pod.Spec)
	switch {
	case vol.HostPath != nil:
		return at, v.hostPath(vol.HostPath)
	case vol.EmptyDir != nil:
		return at, emptyDir(at, vol.EmptyDir, pod.Spec, group)
	}
	set, err := payload(pod, vol)
	if err != nil {
		return "", err
	}
	return at, set.write(at, group)
}

// at is where a volume lies; it fails for kinds of volumes there are none of here.
func (v *Volumes) at(id control.PodID, vol *corev1.Volume) (string, error) {
	switch {
	case vol.HostPath != nil:
		return filepath.Clean(vol.HostPath.Path), nil
	case vol.EmptyDir != nil && vol.EmptyDir.Medium == corev1.StorageMediumMemory:
		return v.run(string(id), "volumes", vol.Name), nil
	case vol.EmptyDir != nil:
		return v.path("pods", string(id), "volumes", vol.Name), nil
	case written(vol):
		return v.run(string(id), "volumes", vol.Name), nil
	}
	return "", errors.New("this kind of volume is not supported; expected one of configMap, downwardAPI, emptyDir, hostPath, projected, secret")
}

// List returns the pods that have anything here, half-made and half-removed ones too, sorted.
func (v *Volumes) List() ([]control.PodID, error) {
	var ids []control.PodID
	for _, dir := range []string{v.path("pods"), v.path("trash"), v.run()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("list volumes: %w", err)
		}
		for _, e := range entries {
			if e.Name() != private {
				ids = append(ids, control.PodID(e.Name()))
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Remove unmounts and deletes all that the pod has here. Its containers must be gone. A pod that has nothing is
// no error.
func (v *Volumes) Remove(ctx context.Context, id control.PodID) error {
	if err := safeName(string(id)); err != nil {
		return err
	}
	if err := v.discard(id); err != nil {
		return fmt.Errorf("remove volumes of %s: %w", id, err)
	}
	// What a pod wrote may be millions of files: they are deleted where they hold up no other pod.
	if err := removeAll(ctx, v.path("trash", string(id))); err != nil {
		return fmt.Errorf("remove volumes of %s: %w", id, err)
	}
	return nil
}

// discard moves what a pod has on disk into the trash and deletes what it has in memory.
func (v *Volumes) discard(id control.PodID) error {
	v.lock.Lock()
	defer v.lock.Unlock()
	delete(v.watched, id)
	delete(v.excess, id)
	disk, memory := v.path("pods", string(id)), v.run(string(id))
	for _, dir := range []string{disk, memory} {
		if err := unmountBelow(dir); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(memory); err != nil {
		return err
	}
	if _, err := os.Lstat(disk); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	trash := v.path("trash", string(id))
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(trash)
	if err != nil {
		return err
	}
	return os.Rename(disk, filepath.Join(trash, fmt.Sprint(len(entries))))
}

// Purge removes every pod's volumes and the tmpfs: nothing of this instance is left but empty directories.
func (v *Volumes) Purge(ctx context.Context) error {
	ids, err := v.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := v.Remove(ctx, id); err != nil {
			return err
		}
	}
	v.lock.Lock()
	defer v.lock.Unlock()
	return unmountBelow(v.run())
}

// private names a directory that is no pod's.
const private = ".x"

// Private is a directory on the tmpfs of volumes for the secrets of others: it is there from Open on.
func (o Options) Private() string { return filepath.Join(o.RunDir, "pods", private) }

func (v *Volumes) path(parts ...string) string {
	return filepath.Join(append([]string{v.opt.Dir}, parts...)...)
}

func (v *Volumes) run(parts ...string) string {
	return filepath.Join(append([]string{v.opt.RunDir, "pods"}, parts...)...)
}

// written says whether a volume's files are written by this package.
func written(vol *corev1.Volume) bool {
	return vol.ConfigMap != nil || vol.Secret != nil || vol.DownwardAPI != nil || vol.Projected != nil
}

func fsGroup(spec *corev1.PodSpec) *int64 {
	if spec.SecurityContext == nil {
		return nil
	}
	return spec.SecurityContext.FSGroup
}

// safeName refuses what would lead out of a directory.
func safeName(name string) error {
	if name == "" || name == "." || name == private || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot name a directory", name)
	}
	return nil
}
