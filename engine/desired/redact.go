package desired

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/kube"
)

// redacted stands for every value of a Secret, whatever its length.
const redacted = "(redacted)"

// Redact returns obj as it may be shown to people: a Secret comes back as a copy that keeps its keys and none of its
// values, any other object as it is.
func Redact(obj kube.Object) kube.Object {
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return obj
	}
	s = s.DeepCopy()
	for k := range s.Data {
		s.Data[k] = []byte(redacted)
	}
	for k := range s.StringData {
		s.StringData[k] = redacted
	}
	for _, k := range hidden {
		delete(s.Annotations, k)
	}
	return s
}

// RedactJSON does the same for an object's JSON, authored or canonical, of any kind. Values that are shown read
// "(redacted)" in data, too, and so are not base64. What is no JSON object comes back empty.
func RedactJSON(b []byte) []byte {
	tree, err := parse(b)
	if err != nil {
		return nil
	}
	if tree["kind"] != "Secret" {
		return b
	}
	hide(tree)
	out, err := kube.CanonicalJSON(tree)
	if err != nil {
		return nil
	}
	return out
}

// hide redacts a Secret's tree in place, whatever shape its author gave it.
func hide(tree map[string]any) {
	for _, f := range []string{"data", "stringData"} {
		switch values := tree[f].(type) {
		case nil:
		case map[string]any:
			for k := range values {
				values[k] = redacted
			}
		default:
			tree[f] = redacted
		}
	}
	if notes, ok := at(tree, "metadata", "annotations").(map[string]any); ok {
		for _, k := range hidden {
			delete(notes, k)
		}
	}
}
