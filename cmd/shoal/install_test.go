package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// files lists the files below a directory.
func files(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, path)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What install writes below a directory, uninstall takes away; both may be done twice.
func TestInstall(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	root := t.TempDir()
	o := installOptions{root: root, prefix: "/opt/shoal", start: true, grace: defaultGrace}
	for _, wrote := range []int{4, 3} {
		var out bytes.Buffer
		if err := install(&out, o, []string{"--run-dir", "/run/a b", `100%`}); err != nil {
			t.Fatal(err)
		}
		if got := files(t, root); !slices.Equal(got, []string{
			"etc/systemd/system/shoal-shutdown.service", "etc/systemd/system/shoal.service", "opt/shoal/bin/shoal", "opt/shoal/lib/shoal/proven", "opt/shoal/lib/shoal/trial.json",
		}) {
			t.Errorf("files %q", got)
		}
		if n := strings.Count(out.String(), "wrote "); n != wrote || !strings.Contains(out.String(), "systemctl enable --now shoal shoal-shutdown") {
			t.Errorf("said:\n%s", &out)
		}
	}
	unit, err := os.ReadFile(filepath.Join(root, "etc/systemd/system/shoal.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`ExecStart=/opt/shoal/lib/shoal/proven launch /opt/shoal/bin/shoal agent --run-dir "/run/a b" 100%%`, "StartLimitIntervalSec=0", "KillMode=process", "Delegate=yes", "WantedBy=multi-user.target",
	} {
		if !slices.Contains(strings.Split(string(unit), "\n"), line) {
			t.Errorf("the unit has no line %s:\n%s", line, unit)
		}
	}
	down, err := os.ReadFile(filepath.Join(root, "etc/systemd/system/shoal-shutdown.service"))
	if err != nil {
		t.Fatal(err)
	}
	if line := `ExecStop=/opt/shoal/lib/shoal/proven shutdown --grace 10s --server "/run/a b/agent.sock"`; !slices.Contains(strings.Split(string(down), "\n"), line) {
		t.Errorf("the unit has no line %s:\n%s", line, down)
	}
	if info, err := os.Stat(filepath.Join(root, "opt/shoal/bin/shoal")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the binary: %v, %v", info, err)
	}
	for range 2 {
		if err := uninstall(&bytes.Buffer{}, o); err != nil {
			t.Fatal(err)
		}
		if got := files(t, root); len(got) > 0 {
			t.Errorf("left behind: %q", got)
		}
	}
}

func TestSystemdQuote(t *testing.T) {
	for in, want := range map[string]string{
		"--a=b": "--a=b", "": `""`, "a b": `"a b"`, `"`: `"\""`, "$HOME": "$$HOME", "50%": "50%%", `a\b`: `"a\\b"`, "a;b": `"a;b"`,
	} {
		if got := systemdQuote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestPullSecrets(t *testing.T) {
	secret := func(kind corev1.SecretType, key, value string) *corev1.Secret {
		return &corev1.Secret{Type: kind, Data: map[string][]byte{key: []byte(value)}}
	}
	const jsonKind, cfgKind = corev1.SecretTypeDockerConfigJson, corev1.SecretTypeDockercfg
	for _, tt := range []struct {
		name   string
		secret *corev1.Secret
		want   string // host user password token
	}{
		{"none", nil, ""},
		{"user and password", secret(jsonKind, ".dockerconfigjson", `{"auths":{"https://registry.example/v1/":{"username":"u","password":"p"}}}`), "registry.example u p "},
		{"auth", secret(jsonKind, ".dockerconfigjson", `{"auths":{"registry.example:5000":{"auth":"dTpwOnE="}}}`), "registry.example:5000 u p:q "},
		{"Docker Hub", secret(jsonKind, ".dockerconfigjson", `{"auths":{"https://index.docker.io/v1/":{"identitytoken":"t"}}}`), "docker.io   t"},
		{"dockercfg", secret(cfgKind, ".dockercfg", `{"registry.example":{"auth":"dTpw"}}`), "registry.example u p "},
		{"not JSON", secret(jsonKind, ".dockerconfigjson", `hunter2`), "error: secret dev/pull: not a docker configuration"},
		{"not base64", secret(jsonKind, ".dockerconfigjson", `{"auths":{"r.example":{"auth":"hunter2!"}}}`), "error: secret dev/pull: auth of r.example is not base64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &plan.Pod{Pod: control.Pod{Namespace: "dev"}, Spec: &corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}}}
			if tt.secret != nil {
				p.Secrets = map[string]*corev1.Secret{"pull": tt.secret}
			}
			auths, err := pullSecrets(p)
			var got string
			for _, a := range auths {
				got += strings.Join([]string{a.Host, a.Username, a.Password, a.Token}, " ")
			}
			if err != nil {
				got = "error: " + err.Error()
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
