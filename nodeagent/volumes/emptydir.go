package volumes

import (
	"errors"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// emptyDir makes the directory, or mounts a tmpfs there, open to every user of the pod as in Kubernetes.
func emptyDir(at string, source *corev1.EmptyDirVolumeSource, spec *corev1.PodSpec, group *int64) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	switch source.Medium {
	case corev1.StorageMediumDefault:
	case corev1.StorageMediumMemory:
		if err := mountMemory(at, memorySize(source, spec)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("medium %q is not supported; expected \"\" or Memory", source.Medium)
	}
	mode := os.FileMode(0o777)
	if group != nil {
		mode |= os.ModeSetgid
		if err := os.Chown(at, -1, int(*group)); err != nil {
			return err
		}
	}
	return os.Chmod(at, mode) // whatever the umask
}

// memorySize is the smaller of the volume's limit and what the pod's containers may use in all; 0 for none.
func memorySize(source *corev1.EmptyDirVolumeSource, spec *corev1.PodSpec) int64 {
	var size int64
	if source.SizeLimit != nil {
		size = source.SizeLimit.Value()
	}
	var pod int64
	for _, c := range spec.Containers {
		limit := c.Resources.Limits.Memory().Value()
		if limit == 0 {
			return size
		}
		pod += limit
	}
	if size == 0 || pod < size {
		return pod
	}
	return size
}

// hostPath checks, or makes, a path of the host as its type says.
func (v *Volumes) hostPath(source *corev1.HostPathVolumeSource) error {
	if err := v.allowed(source.Path); err != nil {
		return err
	}
	kind := corev1.HostPathUnset
	if source.Type != nil {
		kind = *source.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(source.Path, 0o755); err != nil {
			return err
		}
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(source.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	default: // must be there
	}
	info, err := os.Stat(source.Path)
	if err != nil {
		return err
	}
	m := info.Mode()
	is := map[corev1.HostPathType]bool{
		corev1.HostPathUnset:     true,
		corev1.HostPathDirectory: m.IsDir(), corev1.HostPathDirectoryOrCreate: m.IsDir(),
		corev1.HostPathFile: m.IsRegular(), corev1.HostPathFileOrCreate: m.IsRegular(),
		corev1.HostPathSocket:   m&os.ModeSocket != 0,
		corev1.HostPathCharDev:  m&os.ModeCharDevice != 0,
		corev1.HostPathBlockDev: m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0,
	}
	ok, known := is[kind]
	if !known {
		return fmt.Errorf("hostPath type %q is not known", kind)
	}
	if !ok {
		return fmt.Errorf("hostPath %s is not a %s", source.Path, kind)
	}
	return nil
}

var errDenied = errors.New("this path of the host is not for pods")
