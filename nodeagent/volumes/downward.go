package volumes

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

// downward adds files of the pod's own facts.
func (s fileSet) downward(pod *plan.Pod, items []corev1.DownwardAPIVolumeFile, mode int32) error {
	for _, item := range items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = field(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = plan.ResourceField(pod, nil, item.ResourceFieldRef)
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
