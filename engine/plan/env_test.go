package plan

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func environmentPod(t *testing.T, container string) *Pod {
	p := podOf(t, "uid-1", `{serviceAccountName: robot, containers: [`+container+`, {name: other, image: a, resources: {limits: {memory: 1Gi}}}]}`)
	p.Labels = map[string]string{"app": "web", "tier": `a "b"`}
	p.Annotations = map[string]string{"note": "two\nlines"}
	p.IP, p.NodeIP = netip.MustParseAddr("10.80.0.7"), netip.MustParseAddr("192.0.2.1")
	p.NodeName = "n1"
	p.NodeCapacity = corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")}
	p.ServiceEnv = []corev1.EnvVar{{Name: "DB_SERVICE_HOST", Value: "10.96.0.9"}, {Name: "DB_SERVICE_PORT", Value: "5432"}}
	p.ConfigMaps = map[string]*corev1.ConfigMap{"cm": {Data: map[string]string{"a": "1", "b": "$(a)"}}}
	p.Secrets = map[string]*corev1.Secret{"sec": {Data: map[string][]byte{"a": []byte("2"), "pw": []byte("p$w")}}}
	return p
}

func TestEnviron(t *testing.T) {
	tests := []struct{ name, fields, want string }{
		{"services", ``, ""},
		{
			"service variables can be expanded, and replaced", `env: [{name: URL, value: "db://$(DB_SERVICE_HOST)"}, {name: DB_SERVICE_HOST, value: mine}]`,
			"DB_SERVICE_HOST=mine URL=db://10.96.0.9",
		},
		{"only what came before is expanded", `env: [{name: A, value: $(B)}, {name: B, value: x}, {name: C, value: $(B)}]`, "A=$(B) B=x C=x"},
		{"escaped, unknown", `env: [{name: A, value: x}, {name: B, value: $$(A)}, {name: C, value: $(NONE)}, {name: D, value: $A}]`, "A=x B=$(A) C=$(NONE) D=$A"},
		{"envFrom: later sources win, values are not expanded", `envFrom: [{configMapRef: {name: cm}}, {secretRef: {name: sec}}]`, "a=2 b=$(a) pw=p$w"},
		{"envFrom with a prefix", `envFrom: [{prefix: X_, configMapRef: {name: cm}}]`, "X_a=1 X_b=$(a)"},
		{"env wins over envFrom and sees it", `envFrom: [{configMapRef: {name: cm}}], env: [{name: c, value: $(a)}, {name: a, value: "9"}]`, "a=9 b=$(a) c=1"},
		{"own value before a service's", `env: [{name: DB_SERVICE_HOST, value: mine}, {name: U, value: $(DB_SERVICE_HOST)}]`, "DB_SERVICE_HOST=mine U=mine"},
		{"keys", `env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: a}}}, {name: P, valueFrom: {secretKeyRef: {name: sec, key: pw}}}]`, "A=1 P=p$w"},
		{"no key", `env: [{name: A, valueFrom: {configMapKeyRef: {name: cm, key: z}}}]`, `error: container app: env A: ConfigMap dev/cm has no key "z"`},
		{"no secret", `env: [{name: A, valueFrom: {secretKeyRef: {name: none, key: z}}}]`, `error: container app: env A: Secret dev/none has no key "z"`},
		{"optional key", `env: [{name: A, valueFrom: {secretKeyRef: {name: none, key: z, optional: true}}}, {name: B, value: x}]`, "B=x"},
		{"no ConfigMap", `envFrom: [{configMapRef: {name: none}}]`, "error: container app: envFrom: ConfigMap dev/none does not exist"},
		{"optional ConfigMap", `envFrom: [{configMapRef: {name: none, optional: true}}, {secretRef: {name: none, optional: true}}]`, ""},
		{"downward", `env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: L, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}]`, "L=web NAME=web-uid-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := environmentPod(t, `{name: app, image: a, `+tt.fields+`}`)
			env, err := Environ(p, &p.Spec.Containers[0])
			var own []string
			for _, kv := range env {
				if kv != "DB_SERVICE_HOST=10.96.0.9" && kv != "DB_SERVICE_PORT=5432" {
					own = append(own, kv)
				}
			}
			got := strings.Join(own, " ")
			if err != nil {
				got = "error: " + err.Error()
			} else if !strings.Contains(strings.Join(env, "\n"), "DB_SERVICE_PORT=5432") {
				t.Errorf("the services' variables are missing: %q", env)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestEpoch(t *testing.T) {
	p := environmentPod(t, `{name: app, image: a, env: [{name: TOKEN, value: "e$(SHOAL_EPOCH)"}]}`)
	p.Epoch = 4711
	for fenced, want := range map[bool]string{false: "TOKEN=e$(SHOAL_EPOCH)", true: "SHOAL_EPOCH=4711 TOKEN=e4711"} {
		p.Fenced = fenced
		env, err := Environ(p, &p.Spec.Containers[0])
		if got := strings.Join(env[2:], " "); err != nil || got != want {
			t.Errorf("fenced %v: %s, %v, want %s", fenced, got, err, want)
		}
	}
}

func TestArgv(t *testing.T) {
	c := &corev1.Container{Command: []string{"/app", "--to=$(TO)"}, Args: []string{"$$(TO)", "$(NONE)", "$(EMPTY)"}}
	command, args := Argv(c, []string{"TO=a=b", "EMPTY="})
	if got := strings.Join(append(command, args...), "|"); got != "/app|--to=a=b|$(TO)|$(NONE)|" {
		t.Error(got)
	}
	if command, args = Argv(&corev1.Container{}, nil); command != nil || args != nil {
		t.Error("what is not set is the image's own, which an empty list would replace")
	}
}

func TestField(t *testing.T) {
	p := environmentPod(t, `{name: app, image: a}`)
	for path, want := range map[string]string{
		"metadata.name": "web-uid-1", "metadata.namespace": "dev", "metadata.uid": "uid-1",
		"metadata.labels": "app=\"web\"\ntier=\"a \\\"b\\\"\"", "metadata.labels['tier']": `a "b"`, "metadata.labels['none']": "",
		"metadata.annotations": `note="two\nlines"`, "metadata.annotations['note']": "two\nlines",
		"spec.nodeName": "n1", "spec.serviceAccountName": "robot",
		"status.podIP": "10.80.0.7", "status.podIPs": "10.80.0.7", "status.hostIP": "192.0.2.1", "status.hostIPs": "192.0.2.1",
		"status.phase": `error: fieldRef "status.phase" is not supported`,
	} {
		got, err := Field(p, path)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	p.Spec.HostNetwork = true
	if got, _ := Field(p, "status.podIP"); got != "192.0.2.1" {
		t.Errorf("podIP on the host's network: %s", got)
	}
}

func TestResourceField(t *testing.T) {
	p := environmentPod(t, `{name: app, image: a, resources: {limits: {cpu: 1500m}, requests: {cpu: 250m, memory: 100Mi}}}`)
	for _, tt := range []struct{ container, resource, divisor, want string }{
		{"", "limits.cpu", "", "2"}, // rounded up
		{"", "limits.cpu", "1m", "1500"},
		{"", "requests.cpu", "1m", "250"},
		{"", "requests.memory", "", "104857600"},
		{"", "requests.memory", "1Mi", "100"},
		{"", "requests.memory", "1Gi", "1"},
		{"", "limits.memory", "1Gi", "8"}, // not set: the node's
		{"other", "limits.memory", "1Gi", "1"},
		{"other", "limits.cpu", "", "4"},
		{"other", "requests.cpu", "1m", "0"},
		{"other", "limits.hugepages-2Mi", "", "0"},
		{"none", "limits.cpu", "", `error: resourceFieldRef: container "none" does not exist`},
		{"", "limits.gpu", "", `error: resourceFieldRef: resource "limits.gpu" is not supported`},
		{"", "cpu", "", `error: resourceFieldRef: resource "cpu" is not supported`},
	} {
		ref := &corev1.ResourceFieldSelector{ContainerName: tt.container, Resource: tt.resource}
		if tt.divisor != "" {
			ref.Divisor = resource.MustParse(tt.divisor)
		}
		got, err := ResourceField(p, &p.Spec.Containers[0], ref)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}
