package desired

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// problemsOf compiles one YAML object and returns its problems without their place.
func problemsOf(t *testing.T, env render.Environment, manifest string) string {
	t.Helper()
	j, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	a, blobs := Compile(env, render.App{Name: "a", Objects: []render.Object{{JSON: j, File: "f", Line: 1}}})
	if (len(a.Items) == 0) == (len(a.Problems) == 0) || len(blobs) != len(a.Items) {
		t.Errorf("%d items, %d blobs, %d problems", len(a.Items), len(blobs), len(a.Problems))
	}
	var lines []string
	for _, p := range a.Problems {
		if p.File != "f" || p.Line != 1 || p.App != "a" {
			t.Errorf("%+v has another place", p)
		}
		lines = append(lines, p.Path+": "+p.Text)
	}
	return strings.Join(lines, "\n")
}

const podHead = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"

// TestFault_R10: an object that asks for more than its namespace may have is refused by the id of a rule.
func TestFault_R10(t *testing.T) {
	pod := podHead + "  containers: [{name: c, image: i%s}]\n%s"
	for _, c := range []struct {
		rule, manifest, want string
	}{
		{
			RulePrivileged, fmt.Sprintf(pod, ", securityContext: {privileged: true}", ""),
			`Pod p: spec.containers[0].securityContext.privileged: pod-security/privileged: a privileged container is not allowed in environment dev`,
		},
		{
			RuleCapabilities, fmt.Sprintf(pod, ", securityContext: {capabilities: {add: [CHOWN, SYS_ADMIN, CAP_KILL, ALL], drop: [ALL]}}", ""),
			`Pod p: spec.containers[0].securityContext.capabilities.add[1]: pod-security/capabilities: capability SYS_ADMIN is not allowed in environment dev
Pod p: spec.containers[0].securityContext.capabilities.add[3]: pod-security/capabilities: capability ALL is not allowed in environment dev`,
		},
		{
			RuleHostPath, fmt.Sprintf(pod, "", "  volumes: [{name: v, hostPath: {path: /}}]"),
			`Pod p: spec.volumes[0].hostPath: pod-security/host-path: a directory of the host is not allowed in environment dev`,
		},
		{
			RuleHostNetwork, fmt.Sprintf(pod, "", "  hostNetwork: true"),
			`Pod p: spec.hostNetwork: pod-security/host-network: the host's network is not allowed in environment dev`,
		},
		{
			RuleHostPID, fmt.Sprintf(pod, "", "  hostPID: true"),
			`Pod p: spec.hostPID: pod-security/host-pid: the host's process namespace is not allowed in environment dev`,
		},
		{
			RuleHostIPC, fmt.Sprintf(pod, "", "  hostIPC: true"),
			`Pod p: spec.hostIPC: pod-security/host-ipc: the host's IPC namespace is not allowed in environment dev`,
		},
		{
			"", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: other}",
			`ConfigMap c: metadata.namespace: namespace/foreign: "other" is not a namespace of environment dev; expected shop or tools`,
		},
		{
			"", "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}",
			`Namespace other: metadata.name: namespace/foreign: "other" is not a namespace of environment dev; expected shop or tools`,
		},
		{
			"", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: kube-system}",
			`ConfigMap c: metadata.namespace: name/reserved: namespace kube-system is reserved`,
		},
		{
			"", "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}",
			`Namespace kube-system: metadata.name: name/reserved: namespace kube-system is reserved`,
		},
		{
			"", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kube-root-ca.crt}",
			`ConfigMap kube-root-ca.crt: metadata.name: name/reserved: ConfigMap shop/kube-root-ca.crt is made by the ring itself`,
		},
		{
			"", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, labels: {shoal.dev/app: x}, annotations: {shoal.dev/strict: 'true', shoal.dev/node: n1}}",
			`ConfigMap c: metadata.annotations[shoal.dev/node]: name/reserved: only shoal.dev/isolation, shoal.dev/strict may be set under shoal.dev/
ConfigMap c: metadata.labels[shoal.dev/app]: name/reserved: only shoal.dev/isolation, shoal.dev/strict may be set under shoal.dev/`,
		},
	} {
		env := render.Environment{Name: "dev", Namespace: "shop", Namespaces: map[string]string{"tools": "dev-tools"}}
		if got := problemsOf(t, env, c.manifest); got != c.want {
			t.Errorf("%s\nwant\n%s", got, c.want)
		}
		if c.rule == "" {
			continue
		}
		if !slices.Contains(Rules(), c.rule) {
			t.Errorf("rule %s is not listed", c.rule)
		}
		env.Allow = []string{c.rule}
		if got := problemsOf(t, env, c.manifest); got != "" {
			t.Errorf("with %s allowed: %s", c.rule, got)
		}
	}
	// In the namespace default, and only there, the ring has a Service of its own.
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: kubernetes}\nspec: {selector: {a: b}, ports: [{port: 443}]}"
	if got, want := problemsOf(t, render.Environment{Name: "default"}, service), "Service kubernetes: metadata.name: name/reserved: Service default/kubernetes is made by the ring itself"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := problemsOf(t, render.Environment{Name: "dev"}, service); got != "" {
		t.Error(got)
	}
}

// The namespaces of an environment: its own, and those it lists.
func TestNamespaces(t *testing.T) {
	for _, c := range []struct {
		env  render.Environment
		meta string
		want string
	}{
		{render.Environment{Name: "dev"}, "ConfigMap {name: c}", "ConfigMap dev/c"},
		{render.Environment{Name: "dev", Namespace: "shop"}, "ConfigMap {name: c}", "ConfigMap shop/c"},
		{render.Environment{Name: "dev", Namespace: "shop"}, "ConfigMap {name: c, namespace: shop}", "ConfigMap shop/c"},
		{render.Environment{Name: "dev", Namespaces: map[string]string{"tools": "dev-tools"}}, "ConfigMap {name: c, namespace: tools}", "ConfigMap dev-tools/c"},
		{render.Environment{Name: "dev", Namespaces: map[string]string{"tools": "dev-tools"}}, "Namespace {name: tools}", "Namespace dev-tools"},
		{render.Environment{Name: "dev"}, "Namespace {name: dev}", "Namespace dev"},
	} {
		kind, meta, _ := strings.Cut(c.meta, " ")
		j, err := yaml.YAMLToJSON([]byte("apiVersion: v1\nkind: " + kind + "\nmetadata: " + meta))
		if err != nil {
			t.Fatal(err)
		}
		a, bs := Compile(c.env, render.App{Name: "a", Objects: []render.Object{{JSON: j}}})
		if len(a.Items) != 1 || a.Items[0].Key.String() != c.want {
			t.Errorf("%s: %v %v, want %s", c.meta, a.Items, a.Problems, c.want)
			continue
		}
		obj, err := kube.Read(bs[0].Bytes)
		if err != nil || keyOf(obj) != a.Items[0].Key {
			t.Errorf("%s: %v, %v in the bytes", c.meta, keyOf(obj), err)
		}
	}
}

// TestUnsupported: a field that does not work yet is refused by name; what asks for nothing is not.
func TestUnsupported(t *testing.T) {
	for _, c := range []struct{ manifest, want string }{
		{podHead + `
  resourceClaims: [{name: gpu, resourceClaimName: gpu}]
  priorityClassName: high
  runtimeClassName: gvisor
  serviceAccountName: robot
  automountServiceAccountToken: true
  nodeName: n1
  securityContext: {sysctls: [{name: a, value: b}], runAsUser: 1}
  containers:
  - name: c
    image: i
    tty: true
    volumeDevices: [{name: p, devicePath: /dev/x}]
    resources: {limits: {example.com/gpu: 1, ephemeral-storage: 1Gi, cpu: 1}}
    volumeMounts: [{name: v, mountPath: /v, subPathExpr: $(A), mountPropagation: HostToContainer}]
    ports: [{containerPort: 80, hostPort: 80}]
    securityContext: {seccompProfile: {type: Localhost, localhostProfile: x}}
  volumes:
  - {name: v, nfs: {server: s, path: /}}
  - {name: t, projected: {sources: [{serviceAccountToken: {path: t}}]}}
  - {name: p, persistentVolumeClaim: {claimName: p}}
`, `spec.automountServiceAccountToken: not supported yet; expected false
spec.containers[0].ports[0].hostPort: not supported yet without hostNetwork; a Service of type NodePort is
spec.containers[0].resources.limits.ephemeral-storage: not supported yet
spec.containers[0].resources.limits.example.com/gpu: not supported yet
spec.containers[0].securityContext.seccompProfile.localhostProfile: not supported yet
spec.containers[0].securityContext.seccompProfile.type: not supported yet; expected RuntimeDefault or Unconfined
spec.containers[0].tty: not supported yet; expected false
spec.containers[0].volumeDevices: not supported yet
spec.containers[0].volumeMounts[0].mountPropagation: not supported yet; expected None
spec.containers[0].volumeMounts[0].subPathExpr: not supported yet
spec.nodeName: not supported yet
spec.priorityClassName: not supported yet
spec.resourceClaims: not supported yet
spec.runtimeClassName: not supported yet
spec.securityContext.sysctls: not supported yet
spec.serviceAccountName: not supported yet; expected default
spec.volumes[0].nfs: not supported yet
spec.volumes[1].projected.sources[0].serviceAccountToken: not supported yet
spec.volumes[2].persistentVolumeClaim: not supported yet`},
		{podHead + `
  tolerations: []
  affinity: {}
  nodeName: ""
  priority: 0
  priorityClassName: null
  hostUsers: true
  hostPID: false
  shareProcessNamespace: true
  os: {name: linux}
  schedulerName: default-scheduler
  serviceAccountName: default
  automountServiceAccountToken: false
  containers: [{name: c, image: i, tty: false, stdin: false, resources: {claims: []}, volumeMounts: []}]
`, ""},
		{
			"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: LoadBalancer, clusterIP: 10.0.0.1, externalIPs: [1.2.3.4], selector: {a: b}, ports: [{port: 1, nodePort: 80}]}",
			`spec.clusterIP: not supported yet; expected None
spec.externalIPs: not supported yet
spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767
spec.type: not supported yet; expected ClusterIP or NodePort or ExternalName`,
		},
		{
			"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: None, selector: {a: b}}",
			"",
		},
		{
			"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}",
			"spec.selector: Required value: a Service without selector is not supported yet",
		},
		{
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: s, finalizers: [a.b/c], ownerReferences: [{kind: x}]}",
			`metadata.finalizers: not supported yet
metadata.generateName: not supported yet
metadata.name: Required value: name or generateName is required
metadata.ownerReferences: not supported yet`,
		},
		{
			"apiVersion: v1\nkind: Secret\nmetadata: {name: s, annotations: {kubernetes.io/service-account.name: a}}\ntype: kubernetes.io/service-account-token",
			"type: kubernetes.io/service-account-token: not supported yet",
		},
		{
			"apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {backoffLimitPerIndex: 1, completionMode: Indexed, completions: 2, managedBy: x.y/z, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}",
			`spec.backoffLimitPerIndex: not supported yet
spec.managedBy: not supported yet`,
		},
		{
			"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s}",
			"kind: StatefulSet: not supported yet",
		},
	} {
		got := strings.NewReplacer("Pod p: ", "", "Service s: ", "", "ConfigMap: ", "", "Secret s: ", "", "Job j: ", "", "StatefulSet s: ", "").Replace(problemsOf(t, render.Environment{Name: "dev"}, c.manifest))
		if got != c.want {
			t.Errorf("%s\nwant\n%s", got, c.want)
		}
	}
}

// The table of supported fields names only fields that exist.
func TestSupportedFieldsExist(t *testing.T) {
	types := map[string]reflect.Type{
		"Namespace": reflect.TypeFor[corev1.Namespace](), "ConfigMap": reflect.TypeFor[corev1.ConfigMap](),
		"Secret": reflect.TypeFor[corev1.Secret](), "Service": reflect.TypeFor[corev1.Service](), "Pod": reflect.TypeFor[corev1.Pod](),
		"ReplicaSet": reflect.TypeFor[appsv1.ReplicaSet](), "Deployment": reflect.TypeFor[appsv1.Deployment](),
		"Job": reflect.TypeFor[batchv1.Job](), "CronJob": reflect.TypeFor[batchv1.CronJob](),
	}
	if got, want := sortedKeys(supported), kube.Kinds(); !slices.Equal(got, want) {
		t.Errorf("supported has %v, kube knows %v", got, want)
	}
	var walk func(path string, f fields, t reflect.Type) []string
	walk = func(path string, f fields, typ reflect.Type) (missing []string) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Map {
			return nil
		}
		known := map[string]reflect.Type{}
		for sf := range fieldsIn(typ) {
			name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
			known[name] = sf.Type
		}
		for name, r := range f {
			ft, ok := known[name]
			if !ok {
				missing = append(missing, path+"."+name)
			} else if r.in != nil {
				missing = append(missing, walk(path+"."+name, r.in, ft)...)
			}
		}
		return missing
	}
	for kind, f := range supported {
		if missing := walk(kind, f, types[kind]); len(missing) > 0 {
			t.Errorf("no such field: %v", missing)
		}
	}
}

// fieldsIn yields the fields of a struct and of those inlined in it.
func fieldsIn(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, sf := range reflect.VisibleFields(typ) {
			if !sf.Anonymous || !strings.HasSuffix(sf.Tag.Get("json"), ",inline") && sf.Tag.Get("json") != "" {
				if !yield(sf) {
					return
				}
			}
		}
	}
}

// A template is compared as it was authored: what defaulting adds, the order of keys and where it stands are nothing.
func TestTemplateDigest(t *testing.T) {
	digest := func(manifest string) Digest {
		t.Helper()
		j, err := yaml.YAMLToJSON([]byte(manifest))
		if err != nil {
			t.Fatal(err)
		}
		a, _ := Compile(render.Environment{Name: "dev"}, render.App{Name: "a", Objects: []render.Object{{JSON: j}}})
		if len(a.Items) != 1 {
			t.Fatal(a.Problems)
		}
		return a.Items[0].Template
	}
	head := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w}\nspec:\n  replicas: %d\n  selector: {matchLabels: {a: b}}\n  template:\n"
	base := digest(fmt.Sprintf(head, 1) + "    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: i}]}")
	if !base.Valid() {
		t.Fatalf("digest %q", base)
	}
	for name, c := range map[string]struct {
		manifest string
		same     bool
	}{
		"scaled":    {fmt.Sprintf(head, 2) + "    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: i}]}", true},
		"reordered": {fmt.Sprintf(head, 1) + "    spec: {containers: [{image: i, name: c}], nodeSelector: null}\n    metadata: {labels: {a: b}}", true},
		"image":     {fmt.Sprintf(head, 1) + "    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: j}]}", false},
		"label":     {fmt.Sprintf(head, 1) + "    metadata: {labels: {a: b, c: d}}\n    spec: {containers: [{name: c, image: i}]}", false},
	} {
		if got := digest(c.manifest); (got == base) != c.same {
			t.Errorf("%s: same digest %t, want %t", name, got == base, c.same)
		}
	}
	if d := digest("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}"); d != "" {
		t.Errorf("a ConfigMap has template %s", d)
	}
	pod := digest(podHead + "  containers: [{name: c, image: i}]")
	if again := digest(podHead + "  containers: [{name: c, image: i}]\nstatus: {phase: Running}"); pod != again {
		t.Error("status changes a pod's template")
	}
}

// An app has at most 100 problems and says how many more there were.
func TestProblemsAreBounded(t *testing.T) {
	a := render.App{Name: "a"}
	for i := range 300 {
		a.Objects = append(a.Objects, render.Object{JSON: fmt.Appendf(nil, `{"kind":"K%03d"}`, i), File: "f", Line: i + 1})
	}
	out, _ := Compile(render.Environment{Name: "dev"}, a)
	if n := len(out.Problems); n != maxProblems+1 {
		t.Fatalf("%d problems", n)
	}
	if got, want := out.Problems[maxProblems].String(), "f:101: 200 more problems in app a"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What crosses from the render child comes back the same.
func TestAppEncodes(t *testing.T) {
	a, _ := Compile(render.Environment{Name: "dev"}, objectsOf("web", 1))
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var back App
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(a, back) {
		t.Errorf("%v\n%+v\nwant\n%+v", err, back, a)
	}
	if bytes.Contains(b, []byte("hunter2")) || bytes.Contains(b, []byte("aHVudGVyMg")) {
		t.Error("a Secret's value is in the app")
	}
}

// FuzzCompile: whatever objects come, Compile answers, alike each time, and what it accepts can be built and read.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/build/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			for doc := range strings.SplitSeq(string(file.Data), "---\n") {
				if j, err := yaml.YAMLToJSON([]byte(doc)); err == nil && strings.HasSuffix(file.Name, ".yaml") {
					f.Add(j)
				}
			}
		}
	}
	env := render.Environment{Name: "dev", Namespaces: map[string]string{"a": "b"}}
	f.Fuzz(func(t *testing.T, j []byte) {
		in := render.App{Name: "a", Objects: []render.Object{{JSON: j, File: "f", Line: 1}}}
		a, bs := Compile(env, in)
		again, _ := Compile(env, in)
		if !reflect.DeepEqual(a, again) {
			t.Fatalf("%+v\nand then\n%+v", a, again)
		}
		store := blobs{}
		for _, b := range bs {
			store[b.Digest] = b.Bytes
		}
		built, err := Build(env, []App{a}, nil, store)
		if err != nil {
			t.Fatal(err)
		}
		consistent(t, built.Set, store)
		RedactJSON(j)
		withinLimits(t, in)
	})
}
