package kube

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// What a quota may bound, as Kubernetes' ResourceQuota names it. Amounts are integers: of cpu thousandths of a core, of memory bytes, of all
// else how many there are.
const (
	QuotaPods           = string(corev1.ResourcePods)
	QuotaRequestsCPU    = string(corev1.ResourceRequestsCPU)
	QuotaRequestsMemory = string(corev1.ResourceRequestsMemory)
	QuotaLimitsCPU      = string(corev1.ResourceLimitsCPU)
	QuotaLimitsMemory   = string(corev1.ResourceLimitsMemory)
	QuotaServices       = string(corev1.ResourceServices)
	QuotaNodePorts      = string(corev1.ResourceServicesNodePorts)
	QuotaDeployments    = "count/deployments.apps"
	QuotaJobs           = "count/jobs.batch"
	QuotaCronJobs       = "count/cronjobs.batch"
)

var quotaResources = []string{
	QuotaCronJobs, QuotaDeployments, QuotaJobs, QuotaLimitsCPU, QuotaLimitsMemory, QuotaPods,
	QuotaRequestsCPU, QuotaRequestsMemory, QuotaServices, QuotaNodePorts,
}

// QuotaResources lists what a quota may bound, sorted.
func QuotaResources() []string { return slices.Clone(quotaResources) }

// maxAmount keeps sums of amounts far from overflow: 2^50 is a pebibyte, or 10^12 cores.
const maxAmount = 1 << 50

// Amount reads how much of a resource a quota allows: a quantity as Kubernetes writes it, not negative, and of what is counted a whole number.
// More than 2^50 counts as that.
func Amount(name, quantity string) (int64, error) {
	if !slices.Contains(quotaResources, name) {
		return 0, fmt.Errorf("no quota is kept of it; expected one of %s", strings.Join(quotaResources, ", "))
	}
	if absurd(quantity) {
		return 0, errors.New(absurdText)
	}
	q, err := resource.ParseQuantity(quantity)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no quantity; expected one like 4, 500m or 2Gi", quantity)
	case q.Sign() < 0:
		return 0, fmt.Errorf("%s is negative", quantity)
	}
	kind := quotaKind(name)
	if whole := resource.NewQuantity(q.Value(), resource.DecimalSI); kind == "" && whole.Cmp(q) != 0 {
		return 0, fmt.Errorf("%s is no whole number", quantity)
	}
	return AmountOf(corev1.ResourceName(kind), q), nil
}

// AmountOf is a quantity of a resource as an integer: of cpu in thousandths, of all else as it is, rounded up; 0 to 2^50.
func AmountOf(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU && q.Value() < maxAmount/1000 { // MilliValue of more would overflow
		return min(max(q.MilliValue(), 0), maxAmount)
	} else if name == corev1.ResourceCPU {
		return maxAmount
	}
	return min(max(q.Value(), 0), maxAmount)
}

// AmountText writes an amount of a resource as people do: "1500m", "2Gi", "5".
func AmountText(name string, amount int64) string {
	switch corev1.ResourceName(quotaKind(name)) {
	case corev1.ResourceCPU:
		return resource.NewMilliQuantity(amount, resource.DecimalSI).String()
	case corev1.ResourceMemory:
		return resource.NewQuantity(amount, resource.BinarySI).String()
	}
	return fmt.Sprint(amount)
}

// quotaKind is "cpu" or "memory", or "" for what is counted.
func quotaKind(name string) string {
	for _, prefix := range []string{"requests.", "limits."} {
		if kind, ok := strings.CutPrefix(name, prefix); ok {
			return kind
		}
	}
	return ""
}

// CheckQuota says what is wrong with a quota, by resource.
func CheckQuota(quota map[string]string) []Fault {
	var out []Fault
	for _, name := range slices.Sorted(maps.Keys(quota)) {
		if _, err := Amount(name, quota[name]); err != nil {
			out = append(out, Fault{name, err.Error()})
		}
	}
	return out
}

// maxNodeLabels bounds by how many labels the nodes of an environment are chosen.
const maxNodeLabels = 16

// CheckNodes says what is wrong with the labels by which nodes are chosen, by label.
func CheckNodes(labels map[string]string) []Fault {
	if len(labels) > maxNodeLabels {
		return []Fault{{"", fmt.Sprintf("has %d labels; at most %d", len(labels), maxNodeLabels)}}
	}
	var out []Fault
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
			out = append(out, Fault{clip(key), "is no key of a label: " + wrong[0]})
		}
		if wrong := validation.IsValidLabelValue(labels[key]); len(wrong) > 0 {
			out = append(out, Fault{clip(key), fmt.Sprintf("%q is no value of a label: %s", clip(labels[key]), wrong[0])})
		}
	}
	return out
}

// clip keeps what is wrong from being repeated at length.
func clip(s string) string {
	if len(s) > maxQuantity {
		return s[:maxQuantity] + "..."
	}
	return s
}
