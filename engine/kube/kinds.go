package kube

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsdefaults "k8s.io/kubernetes/pkg/apis/apps/v1"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	batchdefaults "k8s.io/kubernetes/pkg/apis/batch/v1"
	coredefaults "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

// Object is any object of a known kind.
type Object interface {
	runtime.Object
	metav1.Object
}

// kind is all that this package does for one kind.
type kind struct {
	group, version, name string
	cluster              bool // cluster-scoped
	new                  func() Object
	fill                 func(Object)
	check                func(Object) field.ErrorList
}

func (k *kind) apiVersion() string {
	if k.group == "" {
		return k.version
	}
	return k.group + "/" + k.version
}

// kinds is every kind that works, sorted by name. The checks are those of the API server's create strategies.
var kinds = []kind{
	of("", "ConfigMap", coredefaults.SetObjectDefaults_ConfigMap, coredefaults.Convert_v1_ConfigMap_To_core_ConfigMap,
		corevalidation.ValidateConfigMap),
	of("batch", "CronJob", batchdefaults.SetObjectDefaults_CronJob, batchdefaults.Convert_v1_CronJob_To_batch_CronJob, checkCronJob),
	of("apps", "Deployment", appsdefaults.SetObjectDefaults_Deployment, appsdefaults.Convert_v1_Deployment_To_apps_Deployment,
		func(d *apps.Deployment) field.ErrorList {
			return appsvalidation.ValidateDeployment(d, podapi.GetValidationOptionsFromPodTemplate(&d.Spec.Template, nil))
		}),
	of("batch", "Job", batchdefaults.SetObjectDefaults_Job, batchdefaults.Convert_v1_Job_To_batch_Job, checkJob),
	of("", "Namespace", coredefaults.SetObjectDefaults_Namespace, coredefaults.Convert_v1_Namespace_To_core_Namespace,
		corevalidation.ValidateNamespace),
	of("", "Pod", coredefaults.SetObjectDefaults_Pod, coredefaults.Convert_v1_Pod_To_core_Pod, checkPod),
	of("apps", "ReplicaSet", appsdefaults.SetObjectDefaults_ReplicaSet, appsdefaults.Convert_v1_ReplicaSet_To_apps_ReplicaSet,
		func(r *apps.ReplicaSet) field.ErrorList {
			return appsvalidation.ValidateReplicaSet(r, podapi.GetValidationOptionsFromPodTemplate(&r.Spec.Template, nil))
		}),
	of("", "Secret", defaultSecret, coredefaults.Convert_v1_Secret_To_core_Secret, corevalidation.ValidateSecret),
	of("", "Service", defaultService, coredefaults.Convert_v1_Service_To_core_Service,
		corevalidation.ValidateServiceCreate),
}

// find returns the kind of that name, or nil.
func find(name string) *kind {
	for i := range kinds {
		if kinds[i].name == name {
			return &kinds[i]
		}
	}
	return nil
}

// of describes a kind of version v1: V is its public type, I the internal one that Kubernetes validates.
func of[V, I any, P interface {
	*V
	Object
}](group, name string, fill func(*V), convert func(*V, *I, conversion.Scope) error, check func(*I) field.ErrorList) kind {
	return kind{
		group: group, version: "v1", name: name, cluster: name == "Namespace",
		new:  func() Object { return P(new(V)) },
		fill: func(o Object) { fill((*V)(o.(P))) },
		check: func(o Object) field.ErrorList {
			in := new(I)
			if err := convert((*V)(o.(P)), in, nil); err != nil {
				return field.ErrorList{field.InternalError(nil, err)}
			}
			return check(in)
		},
	}
}

// Compile-time proof that the public types are objects.
var (
	_ Object = (*corev1.Pod)(nil)
	_ Object = (*appsv1.Deployment)(nil)
	_ Object = (*batchv1.Job)(nil)
)
