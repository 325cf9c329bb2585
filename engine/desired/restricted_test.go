package desired

import (
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/kube"
	"github.com/shoal-dev/shoal/engine/render"
)

// fit is a pod that the standard "restricted" lets pass; each case of the test spoils it in one place.
const fit = `apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: c
    image: i
    ports: [{containerPort: 80}]
    livenessProbe: {httpGet: {port: 80}}
    lifecycle: {preStop: {httpGet: {port: 80}}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}
  initContainers:
  - name: first
    image: i
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
  volumes: [{name: a, emptyDir: {}}, {name: b, configMap: {name: x}}]
`

// TestFault_P2_RestrictedPods: an environment that is held to the standard "restricted" takes no pod that is not, whatever its policy allows.
func TestFault_P2_RestrictedPods(t *testing.T) {
	env := render.Environment{Name: "pr-12", Restricted: true, Allow: Rules()}
	if got := problemsOf(t, env, fit); got != "" {
		t.Fatalf("a pod of the standard: %s", got)
	}
	if got := problemsOf(t, env, strings.Replace(fit, ", emptyDir: {}", "", 1)); got != "" {
		t.Errorf("a volume that names no kind, and so is an emptyDir: %s", got)
	}
	const own = "allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}"
	container := "spec.containers[0]."
	for _, c := range []struct{ from, to, want string }{
		{own, "capabilities: {drop: [ALL]}", container + "securityContext.allowPrivilegeEscalation: pod-security/restricted: expected false in environment pr-12"},
		{"allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}", "allowPrivilegeEscalation: true, capabilities: {drop: [ALL]}", "spec.initContainers[0].securityContext.allowPrivilegeEscalation: pod-security/restricted: expected false"},
		{own, "allowPrivilegeEscalation: false", container + "securityContext.capabilities.drop: pod-security/restricted: expected ALL"},
		{"drop: [ALL], add: [NET_BIND_SERVICE]", "drop: [KILL]", container + "securityContext.capabilities.drop: pod-security/restricted: expected ALL"},
		{"add: [NET_BIND_SERVICE]", "add: [CHOWN]", container + "securityContext.capabilities.add[0]: pod-security/restricted: expected none but NET_BIND_SERVICE"},
		{"add: [NET_BIND_SERVICE]", "add: [SYS_ADMIN]", container + "securityContext.capabilities.add[0]: pod-security/capabilities: capability SYS_ADMIN is not allowed"},
		{own, own + ", privileged: true", "spec.containers[0].securityContext.privileged: pod-security/privileged: a privileged container is not allowed"},
		{own, own + ", runAsUser: 0", container + "securityContext.runAsUser: pod-security/restricted: expected another user than 0"},
		{own, own + ", runAsNonRoot: false", container + "securityContext.runAsNonRoot: pod-security/restricted: expected true"},
		{own, own + ", seccompProfile: {type: Unconfined}", container + "securityContext.seccompProfile.type: pod-security/restricted: expected RuntimeDefault"},
		{"runAsNonRoot: true, ", "", container + "securityContext.runAsNonRoot: pod-security/restricted: expected true"},
		{"runAsNonRoot: true", "runAsNonRoot: false", "spec.securityContext.runAsNonRoot: pod-security/restricted: expected true"},
		{"runAsNonRoot: true", "runAsNonRoot: true, runAsUser: 0", "spec.securityContext.runAsUser: pod-security/restricted: expected another user than 0"},
		{", seccompProfile: {type: RuntimeDefault}", "", container + "securityContext.seccompProfile.type: pod-security/restricted: expected RuntimeDefault"},
		{"type: RuntimeDefault", "type: Unconfined", "spec.securityContext.seccompProfile.type: pod-security/restricted: expected RuntimeDefault"},
		{"containerPort: 80", "containerPort: 80, hostPort: 80", container + "ports[0].hostPort: pod-security/restricted: expected none"},
		{"livenessProbe: {httpGet: {port: 80}}", "readinessProbe: {httpGet: {port: 80, host: 169.254.169.254}}", container + "readinessProbe.httpGet.host: pod-security/restricted: expected none"},
		{"livenessProbe: {httpGet: {port: 80}}", "startupProbe: {tcpSocket: {port: 80, host: 10.0.0.1}}", container + "startupProbe.tcpSocket.host: pod-security/restricted: expected none"},
		{"preStop: {httpGet: {port: 80}}", "postStart: {httpGet: {port: 80, host: x}}", container + "lifecycle.postStart.httpGet.host: pod-security/restricted: expected none"},
		{"preStop: {httpGet: {port: 80}}", "preStop: {httpGet: {port: 80, host: x}}", container + "lifecycle.preStop.httpGet.host: pod-security/restricted: expected none"},
		{"emptyDir: {}", "hostPath: {path: /}", "spec.volumes[0].hostPath: pod-security/host-path: a directory of the host is not allowed"},
		{"emptyDir: {}", "nfs: {server: x, path: /}", "spec.volumes[0]: pod-security/restricted: expected configMap"},
		{"  volumes:", "  hostNetwork: true\n  volumes:", "spec.hostNetwork: pod-security/host-network: the host's network is not allowed"},
		{"  volumes:", "  hostPID: true\n  volumes:", "spec.hostPID: pod-security/host-pid"},
		{"  volumes:", "  hostIPC: true\n  volumes:", "spec.hostIPC: pod-security/host-ipc"},
	} {
		spoilt := strings.Replace(fit, c.from, c.to, 1)
		if spoilt == fit {
			t.Fatalf("%q is not in the manifest", c.from)
		}
		if got := problemsOf(t, env, spoilt); !strings.Contains(got, "Pod p: "+c.want) {
			t.Errorf("with %s: %q\nwant %s", c.to, got, c.want)
		}
	}
	template := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}"
	if got, want := problemsOf(t, env, template), "Deployment d: spec.template.spec.containers[0].securityContext.allowPrivilegeEscalation: pod-security/restricted"; !strings.Contains(got, want) {
		t.Errorf("%q, want %s", got, want)
	}
	env.Restricted = false
	if got := problemsOf(t, env, template); got != "" {
		t.Errorf("where nothing is restricted: %s", got)
	}
}

// TestFault_P2_PodsBearTheirConfinement: what makes pods says that they may speak to their own environment alone, whatever its author wrote there.
func TestFault_P2_PodsBearTheirConfinement(t *testing.T) {
	const pods = "metadata: {labels: {a: b}, annotations: {shoal.dev/egress: all, x: z}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}"
	for _, manifest := range []string{
		"apiVersion: v1\nkind: Pod\nmetadata: {name: o, annotations: {x: z}}\nspec: {containers: [{name: c, image: i}]}",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: o}\nspec: {selector: {matchLabels: {a: b}}, template: {" + strings.Replace(pods, "Never", "Always", 1) + "}}",
		"apiVersion: batch/v1\nkind: Job\nmetadata: {name: o}\nspec: {template: {" + pods + "}}",
		"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: o}\nspec: {schedule: '* * * * *', jobTemplate: {spec: {template: {" + pods + "}}}}",
	} {
		for _, deny := range []bool{true, false} {
			raw, err := yaml.YAMLToJSON([]byte(manifest))
			if err != nil {
				t.Fatal(err)
			}
			app, blobs := Compile(render.Environment{Name: "pr-12", DenyEgress: deny}, render.App{Name: "a", Objects: []render.Object{{JSON: raw, File: "f"}}})
			if len(app.Problems) > 0 || len(blobs) != 1 {
				t.Fatal(app.Problems)
			}
			var head struct{ Kind string }
			if err := json.Unmarshal(blobs[0].Bytes, &head); err != nil {
				t.Fatal(err)
			}
			obj, faults := kube.Decode(blobs[0].Bytes)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			template := PodTemplate(obj)
			if got := template.Annotations[EgressAnnotation] == EgressEnvironment; got != deny || template.Annotations["x"] != "z" {
				t.Errorf("%s, denied %t: annotations %v", head.Kind, deny, template.Annotations)
			}
		}
	}
}
