package volumes

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-dev/shoal/engine/plan"
)

// downward adds files of the pod's own facts.
func (s fileSet) downward(pod *plan.Pod, items []corev1.DownwardAPIVolumeFile, mode int32, files Files) error {
	for _, item := range items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = field(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = resourceField(pod, item.ResourceFieldRef, files)
		default:
			err = fmt.Errorf("neither fieldRef nor resourceFieldRef is set")
		}
		if err == nil {
			err = s.add(item.Path, []byte(text), or(item.Mode, mode))
		}
		if err != nil {
			return fmt.Errorf("downwardAPI item %q: %w", item.Path, err)
		}
	}
	return nil
}

// field is a fieldRef of a volume: metadata alone, as in Kubernetes.
func field(pod *plan.Pod, path string) (string, error) {
	if strings.HasPrefix(path, "metadata.") {
		if value, err := plan.Field(pod, path); err == nil {
			return value, nil
		}
	}
	return "", fmt.Errorf("field %q is not supported; expected metadata.name, namespace, uid, labels or annotations", path)
}

// resourceField is a request or limit of a container in units of the divisor, rounded up; a limit that is not
// set is what the node has.
func resourceField(pod *plan.Pod, ref *corev1.ResourceFieldSelector, files Files) (string, error) {
	all := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == ref.ContainerName })
	if i < 0 {
		return "", fmt.Errorf("there is no container %q", ref.ContainerName)
	}
	which, name, _ := strings.Cut(ref.Resource, ".")
	from := all[i].Resources.Requests
	if which == "limits" {
		from = all[i].Resources.Limits
	}
	quantity, set := from[corev1.ResourceName(name)]
	if !set && which == "limits" {
		switch corev1.ResourceName(name) {
		case corev1.ResourceCPU:
			quantity = *resource.NewMilliQuantity(files.Capacity.MilliCPU, resource.DecimalSI)
		case corev1.ResourceMemory:
			quantity = *resource.NewQuantity(files.Capacity.Memory, resource.BinarySI)
		case corev1.ResourceEphemeralStorage:
			quantity = *resource.NewQuantity(files.Capacity.Ephemeral, resource.BinarySI)
		default: // what the node has of other things is not known here: 0
		}
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	switch ref.Resource {
	case "limits.cpu", "requests.cpu":
		return fmt.Sprint(ceil(quantity.MilliValue(), divisor.MilliValue())), nil
	case "limits.memory", "requests.memory", "limits.ephemeral-storage", "requests.ephemeral-storage":
		return fmt.Sprint(ceil(quantity.Value(), divisor.Value())), nil
	}
	if size, ok := strings.CutPrefix(name, corev1.ResourceHugePagesPrefix); ok && size != "" && (which == "limits" || which == "requests") {
		return fmt.Sprint(ceil(quantity.Value(), divisor.Value())), nil
	}
	return "", fmt.Errorf("resource %q is not supported", ref.Resource)
}

func ceil(n, by int64) int64 {
	if by <= 0 {
		by = 1
	}
	return (n + by - 1) / by
}
