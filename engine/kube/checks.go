package kube

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	coredefaults "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/capabilities"

	"github.com/shoal-dev/shoal/engine/zone"
)

// Whether a pod may be privileged is decided by Shoal's own rules of admission, with an id; Kubernetes keeps its
// answer in a package variable that is set once, as an API server does with --allow-privileged.
func init() { capabilities.Setup(true, 0) }

// defaultSecret also folds stringData into data, as an API server does when it stores a Secret.
func defaultSecret(s *corev1.Secret) {
	for k, v := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
	coredefaults.SetObjectDefaults_Secret(s)
}

// defaultService also makes clusterIPs agree with clusterIP, as an API server does outside of its defaults.
func defaultService(s *corev1.Service) {
	coredefaults.SetObjectDefaults_Service(s)
	if s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0 {
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	}
}

func checkPod(p *core.Pod) field.ErrorList {
	opts := podapi.GetValidationOptionsFromPodSpecAndMeta(&p.Spec, nil, &p.ObjectMeta, nil)
	opts.ResourceIsPod = true
	return corevalidation.ValidatePodCreate(p, opts)
}

// placeholder stands for a Job's uid, which the ring gives when the Job is activated.
const placeholder = "00000000-0000-0000-0000-000000000000"

// checkJob checks a Job as it will be once it has its uid and, made from it, its selector and labels. Those an
// author must not set himself; a conflict shows as Kubernetes' own error.
func checkJob(authored *batch.Job) field.ErrorList {
	j := authored.DeepCopy()
	j.UID = placeholder
	if manual := j.Spec.ManualSelector; manual == nil || !*manual {
		if j.Spec.Template.Labels == nil {
			j.Spec.Template.Labels = map[string]string{}
		}
		for k, v := range map[string]string{
			batch.LegacyJobNameLabel: j.Name, batch.JobNameLabel: j.Name,
			batch.LegacyControllerUidLabel: placeholder, batch.ControllerUidLabel: placeholder,
		} {
			if _, set := j.Spec.Template.Labels[k]; !set {
				j.Spec.Template.Labels[k] = v
			}
		}
		if j.Spec.Selector == nil {
			j.Spec.Selector = &metav1.LabelSelector{}
		}
		if _, set := j.Spec.Selector.MatchLabels[batch.ControllerUidLabel]; !set {
			if j.Spec.Selector.MatchLabels == nil {
				j.Spec.Selector.MatchLabels = map[string]string{}
			}
			j.Spec.Selector.MatchLabels[batch.ControllerUidLabel] = placeholder
		}
	}
	return batchvalidation.ValidateJobCreate(j, batchvalidation.JobValidationOptions{
		PodValidationOptions:  podapi.GetValidationOptionsFromPodTemplate(&j.Spec.Template, nil),
		RequirePrefixedLabels: true,
	})
}

// checkCronJob checks the time zone itself and shows Kubernetes "UTC" in its stead, for which time.LoadLocation
// reads nothing of the host.
func checkCronJob(c *batch.CronJob) field.ErrorList {
	var errs field.ErrorList
	if tz := c.Spec.TimeZone; tz != nil && *tz != "" {
		errs = checkZone(*tz, field.NewPath("spec", "timeZone"))
		utc := "UTC"
		spec := c.Spec
		spec.TimeZone = &utc
		c = &batch.CronJob{TypeMeta: c.TypeMeta, ObjectMeta: c.ObjectMeta, Spec: spec}
	}
	opts := podapi.GetValidationOptionsFromPodTemplate(&c.Spec.JobTemplate.Spec.Template, nil)
	return append(batchvalidation.ValidateCronJobCreate(c, opts), errs...)
}

// zonePart is what Kubernetes allows between the slashes of a time zone's name.
var zonePart = regexp.MustCompile(`^[A-Za-z.\-_0-9+]{1,14}$`)

// checkZone is Kubernetes' rule for spec.timeZone with the same words, over the embedded tzdata.
func checkZone(name string, path *field.Path) field.ErrorList {
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." || strings.HasPrefix(part, "-") || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(path, name, "unknown time zone "+name)}
		}
	}
	if strings.EqualFold(name, "Local") {
		return field.ErrorList{field.Invalid(path, name, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")}
	}
	if _, err := zone.Load(name); err != nil {
		return field.ErrorList{field.Invalid(path, name, err.Error())}
	}
	return nil
}
