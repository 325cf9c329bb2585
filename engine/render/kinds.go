package render

import (
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// kind is one kind of object that has a field of its own in a package.
type kind struct {
	Field string       // of a package: `deployment: web: {...}`
	Kind  string       // and the definition's name
	Type  reflect.Type // Kubernetes' own, to tell a mistyped name from a field that Shoal lacks
}

// kinds are those that the schema defines. Others may stand in `objects` and in YAML, for a later stage to judge.
var kinds = []kind{
	{"namespace", "Namespace", reflect.TypeFor[corev1.Namespace]()},
	{"pod", "Pod", reflect.TypeFor[corev1.Pod]()},
	{"replicaSet", "ReplicaSet", reflect.TypeFor[appsv1.ReplicaSet]()},
	{"deployment", "Deployment", reflect.TypeFor[appsv1.Deployment]()},
	{"job", "Job", reflect.TypeFor[batchv1.Job]()},
	{"cronJob", "CronJob", reflect.TypeFor[batchv1.CronJob]()},
	{"service", "Service", reflect.TypeFor[corev1.Service]()},
	{"configMap", "ConfigMap", reflect.TypeFor[corev1.ConfigMap]()},
	{"secret", "Secret", reflect.TypeFor[corev1.Secret]()},
}

func kindOfField(field string) (kind, bool) {
	for _, k := range kinds {
		if k.Field == field {
			return k, true
		}
	}
	return kind{}, false
}

// isKubernetes says whether path, from the object's root, is a field of Kubernetes' type.
func (k kind) isKubernetes(path []string) bool {
	t := k.Type
	for _, name := range path {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Slice, reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			f, ok := jsonField(t, name)
			if !ok {
				return false
			}
			t = f
		default:
			return false
		}
	}
	return true
}

func jsonField(t reflect.Type, name string) (reflect.Type, bool) {
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name {
			return f.Type, true
		}
		if f.Anonymous && tag == "" {
			if inner, ok := jsonField(f.Type, name); ok {
				return inner, true
			}
		}
	}
	return nil, false
}
