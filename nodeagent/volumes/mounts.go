package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

// Mounts returns what is to be bound into a container, /etc's files among it, and binds its subPaths. The pod
// was prepared; env is the container's environment, NAME=value, for subPathExpr. Volumes that Shoal writes are
// always read-only. The result is in the order in which it is to be mounted: outer targets first.
func (v *Volumes) Mounts(_ context.Context, pod *plan.Pod, c *corev1.Container, env []string) ([]plan.Mount, error) {
	v.lock.Lock()
	defer v.lock.Unlock()
	for _, name := range []string{string(pod.ID), c.Name} {
		if err := safeName(name); err != nil {
			return nil, err
		}
	}
	var mounts []plan.Mount
	taken := map[string]bool{}
	for i, m := range c.VolumeMounts {
		mount, err := v.mount(pod, c, i, env)
		if err != nil {
			return nil, fmt.Errorf("container %s: mount of volume %s at %s: %w", c.Name, m.Name, m.MountPath, err)
		}
		if taken[mount.Target] {
			return nil, fmt.Errorf("container %s: two volumes are mounted at %s", c.Name, mount.Target)
		}
		taken[mount.Target] = true
		mounts = append(mounts, mount)
	}
	for _, name := range etcNames {
		if !taken["/etc/"+name] {
			// Read-only where the root is, except hosts: as the kubelet has it.
			readOnly := name != "hosts" && c.SecurityContext != nil && or(c.SecurityContext.ReadOnlyRootFilesystem, false)
			mounts = append(mounts, plan.Mount{Source: v.run(string(pod.ID), "etc", name), Target: "/etc/" + name, ReadOnly: readOnly})
		}
	}
	slices.SortStableFunc(mounts, func(a, b plan.Mount) int {
		return strings.Count(a.Target, "/") - strings.Count(b.Target, "/")
	})
	return mounts, nil
}

func (v *Volumes) mount(pod *plan.Pod, c *corev1.Container, index int, env []string) (plan.Mount, error) {
	m := c.VolumeMounts[index]
	i := slices.IndexFunc(pod.Spec.Volumes, func(vol corev1.Volume) bool { return vol.Name == m.Name })
	if i < 0 {
		return plan.Mount{}, errors.New("the pod has no volume of this name")
	}
	if p := or(m.MountPropagation, corev1.MountPropagationNone); p != corev1.MountPropagationNone {
		return plan.Mount{}, fmt.Errorf("mountPropagation %s is not supported; expected None", p)
	}
	if p := or(m.RecursiveReadOnly, corev1.RecursiveReadOnlyDisabled); p != corev1.RecursiveReadOnlyDisabled {
		return plan.Mount{}, fmt.Errorf("recursiveReadOnly %s is not supported; expected Disabled", p)
	}
	vol := &pod.Spec.Volumes[i]
	source, err := v.at(pod.ID, vol)
	if err != nil {
		return plan.Mount{}, err
	}
	if vol.HostPath != nil {
		if err := v.allowed(vol.HostPath.Path); err != nil {
			return plan.Mount{}, err
		}
	}
	target := m.MountPath
	if !filepath.IsAbs(target) { // Kubernetes takes it from the root
		target = "/" + target
	}
	mount := plan.Mount{Source: source, Target: filepath.Clean(target), ReadOnly: m.ReadOnly || written(vol)}
	sub := m.SubPath
	if m.SubPathExpr != "" {
		if sub, err = expand(m.SubPathExpr, env); err != nil {
			return plan.Mount{}, err
		}
	}
	if sub == "" {
		return mount, nil
	}
	mount.Source = v.run(string(pod.ID), "subpaths", c.Name, fmt.Sprint(index))
	if err := bindBeneath(source, sub, mount.Source, written(vol)); err != nil {
		return plan.Mount{}, fmt.Errorf("subPath %q: %w", sub, err)
	}
	return mount, nil
}

// expand replaces $(NAME) by the container's environment; "$$" is a dollar sign. Unlike in commands, a name
// that is not set is an error, as in Kubernetes.
func expand(text string, env []string) (string, error) {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "$")
		b.WriteString(before)
		switch {
		case !ok:
			return b.String(), nil
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			text = after[1:]
		case strings.HasPrefix(after, "("):
			name, rest, closed := strings.Cut(after[1:], ")")
			if !closed {
				return "", fmt.Errorf("subPathExpr: \"$(\" is not closed in %q", text)
			}
			i := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			if i < 0 {
				return "", fmt.Errorf("subPathExpr: the container has no variable %s, or its value is a Secret's", name)
			}
			b.WriteString(env[i][len(name)+1:])
			text = rest
		default:
			b.WriteByte('$')
			text = after
		}
	}
}

// ensureTarget makes what a bind mount of a file or directory needs under it.
func ensureTarget(at string, dir bool) error {
	if dir {
		return os.MkdirAll(at, 0o750)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o640)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
