package nodeagent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/sealed"
)

// memSecrets opens what it has a key for, by environment.
type memSecrets struct {
	keys   map[string]bool
	opened int
	gave   []map[string][]byte
}

func (m *memSecrets) Events() <-chan struct{} { return nil }

func (m *memSecrets) Open(s *corev1.Secret) (map[string][]byte, error) {
	m.opened++
	environment := s.Annotations[sealed.AnnotationEnvironment]
	if !m.keys[environment] {
		return nil, &sealed.NoIdentityError{Environment: environment, Why: errors.New("why")}
	}
	out := map[string][]byte{}
	for k := range s.Data {
		out[k] = []byte("plain " + k)
	}
	m.gave = append(m.gave, out)
	return out, nil
}

func sealedSecret(environment string) *corev1.Secret {
	s := &corev1.Secret{Data: map[string][]byte{"password": []byte("sealed")}}
	s.Namespace, s.Name, s.Annotations = "shop", "db", map[string]string{sealed.AnnotationEnvironment: environment}
	return s
}

func podWith(id control.PodID, environment string, s *corev1.Secret) *plan.Pod {
	p := &plan.Pod{Secrets: map[string]*corev1.Secret{"db": s}, Spec: &corev1.PodSpec{}}
	p.ID, p.Environment, p.Namespace = id, environment, "shop"
	return p
}

// TestFeature_G11_Waits: a pod whose Secret does not open is not begun, with a reason; others are. It is tried at each look until it opens, and
// not any more then.
func TestFeature_G11_Waits(t *testing.T) {
	m := &memSecrets{keys: map[string]bool{"dev": true}}
	a := New(Options{Secrets: m, Ledger: &memLedger{ring: enginetest.NewRing(t)}}, NewJournal())
	dev, prod := sealedSecret("dev"), sealedSecret("prod")
	a.wants.Want = plan.Want{
		"a": podWith("a", "dev", dev), "b": podWith("b", "prod", prod), "c": podWith("c", "prod", prod), "d": podWith("d", "dev", prod),
		"e": podWith("e", "dev", &corev1.Secret{}),
	}
	for range 2 {
		m.opened = 0
		got := a.unopened(map[control.PodID]plan.Trouble{"e": {Reason: notRendered}})
		var lines []string
		for id, why := range got {
			lines = append(lines, fmt.Sprintf("%s %s %s", id, why.Reason, why.Message))
		}
		slices.Sort(lines)
		want := []string{
			"b SecretNotOpened secret shop/db: this node has no key of environment prod: why",
			"c SecretNotOpened secret shop/db: this node has no key of environment prod: why",
			"d SecretNotOpened secret shop/db: is one of environment prod, the pod of dev",
			"e NotRendered ",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("got %q\nwant %q", lines, want)
		}
	}
	if m.opened != 1 {
		t.Errorf("opened %d times: what opens does, and what never will, never will", m.opened)
	}
	m.keys["prod"] = true
	a.unopened(nil)
	m.opened = 0
	if got := a.unopened(nil); got["b"] != (plan.Trouble{}) || m.opened > 1 {
		t.Errorf("%v, and opened %d times", got, m.opened)
	}
}

// TestFault_A9_OpenedForOneAction: what is opened is a copy that is overwritten; what others see of the pod stays sealed.
func TestFault_A9_OpenedForOneAction(t *testing.T) {
	m := &memSecrets{keys: map[string]bool{"dev": true}}
	a := New(Options{Secrets: m, Ledger: &memLedger{ring: enginetest.NewRing(t)}}, NewJournal())
	p := podWith("a", "dev", sealedSecret("dev"))
	open, forget, err := a.opened(p)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(open.Secrets["db"].Data["password"]); got != "plain password" {
		t.Errorf("it has %q", got)
	}
	if got := string(p.Secrets["db"].Data["password"]); got != "sealed" || sealed.IsObject(open.Secrets["db"].Annotations) {
		t.Errorf("the pod that others see has %q", got)
	}
	forget()
	if b := m.gave[0]["password"]; strings.Trim(string(b), "\x00") != "" {
		t.Errorf("left is %q", b)
	}
	p.Environment = "prod"
	if _, _, err := a.opened(p); err == nil {
		t.Error("a pod of another environment has it")
	}
	a.opt.Secrets = nil
	p.Environment = "dev"
	if _, _, err := a.opened(p); err == nil || !strings.Contains(err.Error(), "opens no secrets") {
		t.Error(err)
	}
}

// TestFault_A9_PathsHoldNoSecrets: variables with a Secret's value in them make no paths, however they came by it.
func TestFault_A9_PathsHoldNoSecrets(t *testing.T) {
	p := podWith("a", "dev", &corev1.Secret{Data: map[string][]byte{"password": []byte("swordfish")}})
	ref := corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "db"}, Key: "password"}
	c := &corev1.Container{
		Name:    "main",
		EnvFrom: []corev1.EnvFromSource{{Prefix: "DB_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref.LocalObjectReference}}},
		Env: []corev1.EnvVar{
			{Name: "PLAIN", Value: "yes"},
			{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &ref}},
			{Name: "URL", Value: "db://$(PASSWORD)@db"},
		},
	}
	env, err := plan.Environ(p, c)
	if err != nil || len(env) != 4 {
		t.Fatal(env, err)
	}
	if got := publicVars(p, c, env); !slices.Equal(got, []string{"PLAIN=yes"}) {
		t.Errorf("got %q", got)
	}
}

// TestFeature_V4_ForksHaveNoSecrets: previews have the secrets of their class, and of no environment; those of forks have none, though a render
// brought them some; where an environment is called as the class is, they are its alone.
func TestFeature_V4_ForksHaveNoSecrets(t *testing.T) {
	r := enginetest.NewRing(t)
	r.Up(1)
	id := source.ID(strings.Repeat("a", 40))
	for name, s := range map[string]preview.Sandbox{"pr-1": {}, "pr-2": {NoSecrets: true}} {
		r.Must(cluster.Input{Preview: &cluster.Preview{Set: &preview.Environment{Name: name, Branch: "x", Head: id, Commit: id, Sandbox: s}}})
	}
	a := New(Options{Secrets: &memSecrets{keys: map[string]bool{"dev": true, "preview": true, "pr-1": true, "pr-2": true}}, Ledger: &memLedger{ring: r}}, NewJournal())
	opens := func(want string) {
		t.Helper()
		var got []string
		for _, of := range []string{"dev", "preview", "pr-1", "pr-2"} {
			for _, environment := range []string{"dev", "pr-1", "pr-2", "preview"} {
				if _, _, err := a.opened(podWith("p", environment, sealedSecret(of))); err == nil {
					got = append(got, of+" in "+environment)
				}
			}
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("opened are %s\nwant %s", s, want)
		}
	}
	opens("dev in dev, preview in pr-1, preview in preview")
	r.Commit("preview", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n")
	opens("dev in dev, preview in preview")
	for name, want := range map[string]string{"pr-1": "preview false", "pr-2": "preview true"} {
		p, _ := r.State.Previews().Get(name)
		if env := PreviewEnvironment(p.Environment); fmt.Sprint(env.SecretsOf, " ", env.NoSecrets) != want {
			t.Errorf("%s renders with %+v", name, env)
		}
	}
}
