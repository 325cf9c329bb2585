package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
)

// takenAtOnce is how many pods are taken away at the same time: most of it is waiting for the kernel.
const takenAtOnce = 8

// Purge ends and removes all that this instance made on the machine: pods with their processes, namespaces,
// cgroups, mounts and logs, containerd with its images, both directories' contents. It may be repeated. The
// Runtime is of no use afterwards.
func (r *Runtime) Purge(ctx context.Context) error { return r.takeAway(ctx, true) }

// Clear is Purge that leaves images for the next Runtime with the same directories.
func (r *Runtime) Clear(ctx context.Context) error { return r.takeAway(ctx, false) }

func (r *Runtime) takeAway(ctx context.Context, images bool) error {
	ids, err := r.podIDs()
	var pods errgroup.Group
	pods.SetLimit(takenAtOnce)
	failed := make([]error, len(ids))
	for i, id := range ids {
		pods.Go(func() error { failed[i] = r.RemoveSandbox(ctx, id); return nil })
	}
	_ = pods.Wait()
	errs := append(failed, err)
	if images && r.daemon == nil {
		errs = append(errs, r.purgeExternal(ctx))
	}
	errs = append(errs, r.EndGuard(), r.Shutdown(ctx), unmountBelow(filepath.Join(r.o.DataDir, "containerd")))
	if images && r.daemon != nil {
		errs = append(errs, os.RemoveAll(filepath.Join(r.o.DataDir, "containerd")))
	}
	errs = append(errs,
		removeCgroup(r.o.CgroupRoot),
		unmountBelow(r.o.RunDir),
		os.RemoveAll(filepath.Join(r.o.DataDir, "scratch")),
	)
	for _, name := range []string{"pods", "exec", "runc", "containerd", "containerd.sock", "containerd.log", "agent.sock", "fenced", "guard", "guard.log"} {
		errs = append(errs, os.RemoveAll(filepath.Join(r.o.RunDir, name)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	return nil
}

// purgeExternal takes our images out of a containerd that is somebody else's, and what holds them: a lease on what was
// pushed a moment ago would keep it beyond the namespace's end.
func (r *Runtime) purgeExternal(ctx context.Context) error {
	all, err := r.client.LeasesService().List(ctx)
	errs := []error{err}
	for _, l := range all {
		if err := r.client.LeasesService().Delete(ctx, l); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, r.CollectGarbage(ctx, func(string) bool { return false }))
	if err := r.client.NamespaceService().Delete(ctx, r.o.namespace()); err != nil && !errdefs.IsNotFound(err) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// podIDs lists the pods that have a directory.
func (r *Runtime) podIDs() ([]control.PodID, error) {
	entries, err := os.ReadDir(filepath.Join(r.o.RunDir, "pods"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []control.PodID
	for _, e := range entries {
		if checkID(e.Name()) == nil {
			ids = append(ids, control.PodID(e.Name()))
		}
	}
	return ids, nil
}

// unmountBelow takes away every mount at or below dir, the last made first.
func unmountBelow(dir string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, line := range slices.Backward(lines) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := unescape(fields[4])
		if at != dir && !strings.HasPrefix(at, dir+"/") {
			continue
		}
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", at, err))
		}
	}
	return errors.Join(errs...)
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
