package desired

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// kindsOfPods are manifests of all kinds that make pods, each with a place for more of the pod's spec and for the container's resources.
var kindsOfPods = map[string]string{
	"Pod": `{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {%s containers: [{name: c, image: i, resources: {%s}}]}}`,
	"Deployment": `{apiVersion: apps/v1, kind: Deployment, metadata: {name: p}, spec: {replicas: 3, selector: {matchLabels: {a: b}},
	  template: {metadata: {labels: {a: b}}, spec: {%s containers: [{name: c, image: i, resources: {%s}}]}}}}`,
	"ReplicaSet": `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: p}, spec: {selector: {matchLabels: {a: b}},
	  template: {metadata: {labels: {a: b}}, spec: {%s containers: [{name: c, image: i, resources: {%s}}]}}}}`,
	"Job": `{apiVersion: batch/v1, kind: Job, metadata: {name: p}, spec: {parallelism: 4, completions: 3,
	  template: {spec: {restartPolicy: Never, %s containers: [{name: c, image: i, resources: {%s}}]}}}}`,
	"CronJob": `{apiVersion: batch/v1, kind: CronJob, metadata: {name: p}, spec: {schedule: "* * * * *", jobTemplate: {spec: {parallelism: 2,
	  template: {spec: {restartPolicy: Never, %s containers: [{name: c, image: i, resources: {%s}}]}}}}}}`,
}

// compiled is a manifest that has no problems.
func compiled(t *testing.T, env render.Environment, manifest string) (Item, kube.Object) {
	t.Helper()
	j, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	s := blobs{}
	a := s.compile(t, env, render.App{Name: "a", Objects: []render.Object{{JSON: j, File: "f", Line: 1}}})
	if len(a.Problems) > 0 {
		t.Fatal(a.Problems)
	}
	obj, err := Object(s, a.Items[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return a.Items[0], obj
}

// TestFeature_V5_NodesOfAnEnvironment: pods of every kind are told the nodes of their environment, and replaced when those become others;
// what asks for other nodes is refused.
func TestFeature_V5_NodesOfAnEnvironment(t *testing.T) {
	blue := render.Environment{Name: "dev", Nodes: map[string]string{"pool": "blue", "shop.example/disk": "ssd"}}
	for kind, manifest := range kindsOfPods {
		none, _ := compiled(t, render.Environment{Name: "dev"}, fmt.Sprintf(manifest, "", ""))
		_, obj := compiled(t, blue, fmt.Sprintf(manifest, "nodeSelector: {rack: r1},", ""))
		if got := fmt.Sprint(PodTemplate(obj).Spec.NodeSelector); got != "map[pool:blue rack:r1 shop.example/disk:ssd]" {
			t.Errorf("%s runs on %s", kind, got)
		}
		item, _ := compiled(t, blue, fmt.Sprintf(manifest, "", ""))
		written, _ := compiled(t, render.Environment{Name: "dev"}, fmt.Sprintf(manifest, "nodeSelector: {pool: blue, shop.example/disk: ssd},", ""))
		if item.Template == none.Template || item.Template != written.Template || item.Digest != written.Digest {
			t.Errorf("%s: the template of nodes that the environment chose is not that of nodes that the author chose", kind)
		}
		_, path := podSpecOf(obj)
		const other = "nodeSelector: {pool: green, shop.example/disk: ssd},"
		want := fmt.Sprintf("%s p: %s.nodeSelector[pool]: nodes/foreign: asks for pool=green, and environment dev runs on nodes with pool=blue, shop.example/disk=ssd only", kind, path)
		if got := problemsOf(t, blue, fmt.Sprintf(manifest, other, "")); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", kind, got, want)
		}
	}
	if got := problemsOf(t, blue, "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodeSelector: {'shop.example/disk': hdd}, containers: [{name: c, image: i}]}}"); !strings.Contains(got, "nodeSelector[shop.example/disk]: nodes/foreign: asks for shop.example/disk=hdd,") {
		t.Error(got)
	}
}
