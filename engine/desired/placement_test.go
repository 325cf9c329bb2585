package desired

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

const everyPlacement = podHead + `
  nodeSelector: {disk: ssd}
  tolerations:
  - {key: gpu, operator: Exists, effect: NoSchedule}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
  - {key: team, operator: Equal, value: blue}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions: [{key: cores, operator: Gt, values: ["8"]}, {key: disk, operator: In, values: [ssd, nvme]}]
          matchFields: [{key: metadata.name, operator: NotIn, values: [n1]}]
      preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 10, preference: {matchExpressions: [{key: topology.kubernetes.io/zone, operator: In, values: [a]}]}}
    podAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 5, podAffinityTerm: {topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: db}}, namespaces: [tools, shop]}}
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - {topologyKey: kubernetes.io/hostname, labelSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}, matchLabelKeys: [pod-template-hash], mismatchLabelKeys: [tenant]}
  topologySpreadConstraints:
  - {maxSkew: 1, minDomains: 2, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}, matchLabelKeys: [pod-template-hash], nodeAffinityPolicy: Ignore, nodeTaintsPolicy: Honor}
  - {maxSkew: 2, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {}}
  containers: [{name: c, image: i}]
`

// Everything that placing knows of is accepted, and kept; names of namespaces mean what they mean elsewhere.
func TestPlacementFieldsAreAccepted(t *testing.T) {
	env := render.Environment{Name: "dev", Namespace: "shop", Namespaces: map[string]string{"tools": "dev-tools"}}
	if got := problemsOf(t, env, everyPlacement); got != "" {
		t.Fatal(got)
	}
	j, err := yaml.YAMLToJSON([]byte(everyPlacement))
	if err != nil {
		t.Fatal(err)
	}
	_, blobs := Compile(env, render.App{Name: "a", Objects: []render.Object{{JSON: j}}})
	obj, err := kube.Read(blobs[0].Bytes)
	if err != nil {
		t.Fatal(err)
	}
	spec := obj.(*corev1.Pod).Spec
	if got := spec.Affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm.Namespaces; len(got) != 2 || got[0] != "dev-tools" || got[1] != "shop" {
		t.Errorf("namespaces %v", got)
	}
	if len(spec.Tolerations) != 3 || len(spec.TopologySpreadConstraints) != 2 || len(spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms) != 1 {
		t.Errorf("something was lost: %+v", spec)
	}
}

func TestPlacementFieldsAreChecked(t *testing.T) {
	env := render.Environment{Name: "dev", Namespaces: map[string]string{"tools": "dev-tools"}}
	for _, c := range []struct{ fields, want string }{
		{"nodeSelector: {a b: c}", `spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`},
		{"tolerations: [{key: a, operator: Exists, value: b}]", `spec.tolerations[0].operator: Invalid value: "b": value must be empty when ` + "`operator` is 'Exists'"},
		{"tolerations: [{key: a, operator: Lt, value: '5'}]", "spec.tolerations[0].operator: not supported yet; expected Equal or Exists"},
		{"tolerations: [{operator: Exists, effect: Never}]", `spec.tolerations[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`},
		{
			"affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Gt, values: [x, z]}]}]}}}",
			"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
		},
		{
			"affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {matchExpressions: [{key: a, operator: Exists}]}}]}}",
			"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100",
		},
		{
			"affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {a: b}}}]}}",
			`spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty`,
		},
		{
			"affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: k, labelSelector: {}, namespaces: [elsewhere, dev]}]}}",
			`spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaces[0]: namespace/foreign: "elsewhere" is not a namespace of environment dev; expected dev or tools`,
		},
		{
			"affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: k, labelSelector: {}, namespaceSelector: {}}]}}",
			"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaceSelector: not supported yet; expected namespaces",
		},
		{
			"affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: k, labelSelector: {}, namespaceSelector: {matchLabels: {a: b}}}}]}}",
			"spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.namespaceSelector: not supported yet",
		},
		{
			"topologySpreadConstraints: [{maxSkew: 0, topologyKey: '', whenUnsatisfiable: Never}]",
			`spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Never": supported values: "DoNotSchedule", "ScheduleAnyway"`,
		},
		{
			"topologySpreadConstraints: [{maxSkew: 1, minDomains: 2, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]",
			"spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
		},
	} {
		got := strings.ReplaceAll(problemsOf(t, env, podHead+"\n  "+c.fields+"\n  containers: [{name: c, image: i}]\n"), "Pod p: ", "")
		if got != c.want {
			t.Errorf("%s\n%s\nwant\n%s", c.fields, got, c.want)
		}
	}
}
