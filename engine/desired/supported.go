package desired

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/engine/kube"
)

// rule says what of a field works. The zero rule means: the field and all below it.
type rule struct {
	in   fields // if not nil, only these fields below it
	only []any  // if not nil, only these values: they ask for nothing beyond what is done anyway
}

type fields map[string]rule

func in(f fields) rule        { return rule{in: f} }
func only(values ...any) rule { return rule{only: values} }

var yes rule

// supported is what works of each kind. A field that its author set and that is not in here is refused by name,
// never ignored. Lists are transparent: a rule holds for each element. When a part of the system learns a field,
// the field is added here, with a test there.
var supported = map[string]fields{
	"Namespace":  object(fields{"spec": in(fields{"finalizers": only("kubernetes")})}),
	"ConfigMap":  object(fields{"data": yes, "binaryData": yes, "immutable": yes}),
	"Secret":     object(fields{"data": yes, "stringData": yes, "immutable": yes, "type": yes}),
	"Service":    object(fields{"spec": in(serviceSpec)}),
	"Pod":        object(fields{"spec": in(podSpec)}),
	"ReplicaSet": object(fields{"spec": in(fields{"replicas": yes, "minReadySeconds": yes, "selector": yes, "template": in(podTemplate)})}),
	"Deployment": object(fields{"spec": in(fields{
		"replicas": yes, "selector": yes, "template": in(podTemplate), "strategy": yes, "minReadySeconds": yes,
		"revisionHistoryLimit": yes, "progressDeadlineSeconds": yes, "paused": yes,
	})}),
	"Job": object(fields{"spec": in(jobSpec)}),
	"CronJob": object(fields{"spec": in(fields{
		"schedule": yes, "timeZone": yes, "startingDeadlineSeconds": yes, "concurrencyPolicy": yes, "suspend": yes,
		"successfulJobsHistoryLimit": yes, "failedJobsHistoryLimit": yes,
		"jobTemplate": in(fields{"metadata": in(fields{"name": yes, "labels": yes, "annotations": yes}), "spec": in(jobSpec)}),
	})}),
}

// object adds what every kind has. Status and what an API server writes into metadata are left out of the canonical
// form without a word, as an API server does on create, so that `kubectl get -o yaml` can be committed.
func object(f fields) fields {
	meta := fields{"name": yes, "namespace": yes, "labels": yes, "annotations": yes}
	for _, name := range kube.ServerSide {
		meta[name] = yes
	}
	f["apiVersion"], f["kind"], f["metadata"] = yes, yes, in(meta)
	if _, spec := f["spec"]; spec {
		f["status"] = yes
	}
	return f
}

var serviceSpec = fields{
	"type":         only("ClusterIP", "NodePort", "ExternalName"),
	"selector":     yes,
	"ports":        in(fields{"name": yes, "protocol": yes, "port": yes, "targetPort": yes, "nodePort": yes, "appProtocol": yes}),
	"clusterIP":    only("None"), // others are given by the ring
	"clusterIPs":   only("None"),
	"externalName": yes, "sessionAffinity": yes, "sessionAffinityConfig": yes, "externalTrafficPolicy": yes,
	"internalTrafficPolicy":    only("Cluster"),
	"ipFamilies":               only("IPv4"),
	"ipFamilyPolicy":           only("SingleStack"),
	"publishNotReadyAddresses": yes,
}

var jobSpec = fields{
	"completions": yes, "parallelism": yes, "backoffLimit": yes, "activeDeadlineSeconds": yes,
	"ttlSecondsAfterFinished": yes, "completionMode": yes, "suspend": yes, "template": in(podTemplate),
	"manualSelector": only(false), "podReplacementPolicy": only("TerminatingOrFailed"),
}

// A template's name means nothing to Kubernetes either.
var podTemplate = fields{
	"metadata": in(fields{"name": yes, "labels": yes, "annotations": yes, "creationTimestamp": yes}),
	"spec":     in(podSpec),
}

var podSpec = fields{
	"containers": in(container), "initContainers": in(initContainer), "volumes": in(volume),
	"restartPolicy": yes, "terminationGracePeriodSeconds": yes, "activeDeadlineSeconds": yes,
	"dnsPolicy": yes, "dnsConfig": yes, "hostname": yes, "subdomain": yes, "hostAliases": yes,
	"affinity": in(affinity), "topologySpreadConstraints": in(spreadConstraint),
	"tolerations":  in(fields{"key": yes, "operator": only("Equal", "Exists"), "value": yes, "effect": yes, "tolerationSeconds": yes}),
	"nodeSelector": yes, "imagePullSecrets": yes, "shareProcessNamespace": yes, "enableServiceLinks": yes,
	"hostNetwork": yes, "hostPID": yes, "hostIPC": yes, // admission refuses them unless the policy allows
	"automountServiceAccountToken": only(false),
	"serviceAccountName":           only("default"), "serviceAccount": only("default"),
	"schedulerName":     only("default-scheduler"),
	"setHostnameAsFQDN": only(false), "hostUsers": only(true),
	"preemptionPolicy": only("PreemptLowerPriority"), "priority": only(0),
	"os": in(fields{"name": only("linux")}),
	"securityContext": in(fields{
		"runAsUser": yes, "runAsGroup": yes, "runAsNonRoot": yes, "supplementalGroups": yes, "fsGroup": yes,
		"seccompProfile": in(seccomp),
	}),
}

var affinity = func() fields {
	node := fields{"matchExpressions": yes, "matchFields": yes}
	pods := fields{"labelSelector": yes, "topologyKey": yes, "namespaces": yes, "matchLabelKeys": yes, "mismatchLabelKeys": yes}
	near := fields{
		"requiredDuringSchedulingIgnoredDuringExecution":  in(pods),
		"preferredDuringSchedulingIgnoredDuringExecution": in(fields{"weight": yes, "podAffinityTerm": in(pods)}),
	}
	return fields{
		"nodeAffinity": in(fields{
			"requiredDuringSchedulingIgnoredDuringExecution":  in(fields{"nodeSelectorTerms": in(node)}),
			"preferredDuringSchedulingIgnoredDuringExecution": in(fields{"weight": yes, "preference": in(node)}),
		}),
		"podAffinity": in(near), "podAntiAffinity": in(near),
	}
}()

var spreadConstraint = fields{
	"maxSkew": yes, "topologyKey": yes, "whenUnsatisfiable": yes, "labelSelector": yes, "minDomains": yes, "matchLabelKeys": yes,
	"nodeAffinityPolicy": yes, "nodeTaintsPolicy": yes,
}

var seccomp = fields{"type": only("RuntimeDefault", "Unconfined")}

var container = fields{
	"name": yes, "image": yes, "command": yes, "args": yes, "workingDir": yes, "imagePullPolicy": yes,
	"ports": in(fields{"name": yes, "containerPort": yes, "protocol": yes, "hostPort": yes}),
	"env": in(fields{"name": yes, "value": yes, "valueFrom": in(fields{
		"configMapKeyRef": yes, "secretKeyRef": yes, "fieldRef": yes, "resourceFieldRef": yes,
	})}),
	"envFrom":       in(fields{"prefix": yes, "configMapRef": yes, "secretRef": yes}),
	"resources":     in(fields{"limits": in(limits), "requests": in(requests)}),
	"volumeMounts":  in(fields{"name": yes, "mountPath": yes, "subPath": yes, "readOnly": yes, "mountPropagation": only("None"), "recursiveReadOnly": only("Disabled")}),
	"livenessProbe": in(probe), "readinessProbe": in(probe), "startupProbe": in(probe),
	"lifecycle":              in(fields{"postStart": in(handler), "preStop": in(handler)}),
	"terminationMessagePath": yes, "terminationMessagePolicy": yes,
	"securityContext": in(fields{
		"runAsUser": yes, "runAsGroup": yes, "runAsNonRoot": yes, "capabilities": yes, "privileged": yes,
		"readOnlyRootFilesystem": yes, "allowPrivilegeEscalation": yes, "procMount": only("Default"),
		"seccompProfile": in(seccomp),
	}),
	"stdin": only(false), "stdinOnce": only(false), "tty": only(false),
}

// initContainer is a container that may be a sidecar.
var initContainer = func() fields {
	f := fields{"restartPolicy": only("Always")}
	maps.Copy(f, container)
	return f
}()

// A request is room that is kept on the node; a limit is held, and that of a container's disk is not yet.
var (
	limits   = fields{"cpu": yes, "memory": yes}
	requests = fields{"cpu": yes, "memory": yes, "ephemeral-storage": yes}
)

var probe = fields{
	"exec": yes, "httpGet": yes, "tcpSocket": yes, "grpc": yes,
	"initialDelaySeconds": yes, "periodSeconds": yes, "timeoutSeconds": yes, "successThreshold": yes,
	"failureThreshold": yes, "terminationGracePeriodSeconds": yes,
}

var handler = fields{"exec": yes, "httpGet": yes, "sleep": yes}

var volume = fields{
	"name": yes, "emptyDir": yes, "configMap": yes, "secret": yes, "downwardAPI": yes,
	"hostPath":  yes, // admission refuses it unless the policy allows
	"projected": in(fields{"defaultMode": yes, "sources": in(fields{"configMap": yes, "secret": yes, "downwardAPI": yes})}),
}

// unsupported tells every field that is set and does not work yet. What asks for nothing (null, "", {} and []) does
// not count as set.
func unsupported(v any, f fields, path string, tell func(path, text string)) {
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			unsupported(e, f, path+"["+strconv.Itoa(i)+"]", tell)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			at := name
			if path != "" {
				at = path + "." + name
			}
			r, known := f[name]
			switch {
			case empty(v[name]):
			case !known:
				tell(at, "not supported yet")
			case r.only != nil && !allowed(v[name], r.only):
				tell(at, "not supported yet; expected "+oneOf(r.only))
			case r.in != nil:
				unsupported(v[name], r.in, at, tell)
			}
		}
	}
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !empty(e) })
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// allowed says whether v, or each element of the list v, is one of the values.
func allowed(v any, values []any) bool {
	if list, ok := v.([]any); ok {
		return !slices.ContainsFunc(list, func(e any) bool { return !allowed(e, values) })
	}
	if n, ok := v.(json.Number); ok {
		v = n.String()
	}
	return slices.ContainsFunc(values, func(w any) bool { return fmt.Sprint(v) == fmt.Sprint(w) })
}

func oneOf(values []any) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, " or ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
