package kube

import (
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	serviceapi "k8s.io/kubernetes/pkg/api/service"
	"k8s.io/kubernetes/pkg/apis/core"
	coredefaults "k8s.io/kubernetes/pkg/apis/core/v1"
)

// Warnings returns what an API server warns of when obj, defaulted and valid, is created: "path: text", sorted. None
// of it is wrong, and most of it is not meant: a variable that hides another one, a port that is listed twice.
func Warnings(obj Object) []string {
	var out []string
	template := func(t *corev1.PodTemplateSpec, path ...string) {
		in := &core.PodTemplateSpec{}
		if err := coredefaults.Convert_v1_PodTemplateSpec_To_core_PodTemplateSpec(t, in, nil); err == nil {
			out = podapi.GetWarningsForPodTemplate(context.Background(), field.NewPath(path[0], path[1:]...), in, nil)
		}
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		in := &core.Pod{}
		if err := coredefaults.Convert_v1_Pod_To_core_Pod(o, in, nil); err == nil {
			out = podapi.GetWarningsForPod(context.Background(), in, nil)
		}
	case *corev1.Service:
		in := &core.Service{}
		if err := coredefaults.Convert_v1_Service_To_core_Service(o, in, nil); err == nil {
			out = serviceapi.GetWarningsForService(in, nil)
		}
	case *appsv1.Deployment:
		template(&o.Spec.Template, "spec", "template")
	case *appsv1.ReplicaSet:
		template(&o.Spec.Template, "spec", "template")
	case *batchv1.Job:
		template(&o.Spec.Template, "spec", "template")
	case *batchv1.CronJob:
		template(&o.Spec.JobTemplate.Spec.Template, "spec", "jobTemplate", "spec", "template")
	}
	slices.Sort(out)
	return slices.Compact(out)
}
