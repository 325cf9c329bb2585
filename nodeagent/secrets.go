package nodeagent

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/internal/sealed"
)

// Secrets that are sealed in Git are sealed in the ledger's blobs, in wants and in snapshots too. They are opened on the node that the pod
// runs on, for one action at a time: to write its volumes, to start a container, to pull an image.

// Secrets opens what is sealed.
type Secrets interface {
	// Open returns the values of a Secret, by key, which are the caller's to overwrite. The error says why it cannot, without values: a
	// sealed.NoIdentityError if that may change.
	Open(s *corev1.Secret) (map[string][]byte, error)
	Events() <-chan struct{} // some that could not be opened may be by now
}

// notOpened is of a pod that waits for the key of its environment, or whose secrets do not open.
const notOpened = "SecretNotOpened"

// opened returns p with its sealed Secrets in plain. forget overwrites them.
func (a *Agent) opened(p *plan.Pod) (open *plan.Pod, forget func(), err error) {
	var made []map[string][]byte
	forget = func() {
		for _, values := range made {
			for _, v := range values {
				clear(v)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		s := p.Secrets[name]
		if !sealed.IsObject(s.Annotations) {
			continue
		}
		values, err := a.openSecret(p, s)
		if err != nil {
			forget()
			return nil, nil, err
		}
		made = append(made, values)
		if open == nil {
			c := *p
			c.Secrets = maps.Clone(p.Secrets)
			open = &c
		}
		plain := *s
		plain.Data, plain.Annotations = values, nil // it is no more what these say
		open.Secrets[name] = &plain
	}
	if open == nil {
		open = p
	}
	return open, forget, nil
}

func (a *Agent) openSecret(p *plan.Pod, s *corev1.Secret) (map[string][]byte, error) {
	of, may := s.Annotations[sealed.AnnotationEnvironment], p.Environment
	a.opt.Ledger.View(func(st *cluster.State) { may = SecretsOf(st, p.Environment) })
	if of != may { // two environments may share a namespace
		return nil, fmt.Errorf("secret %s/%s: is one of environment %s, the pod of %s", s.Namespace, s.Name, of, p.Environment)
	}
	if a.opt.Secrets == nil {
		return nil, fmt.Errorf("secret %s/%s: this node opens no secrets", s.Namespace, s.Name)
	}
	values, err := a.opt.Secrets.Open(s)
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", s.Namespace, s.Name, err)
	}
	return values, nil
}

// SecretsOf is whose secrets the pods of an environment may have: its own; of a preview those of the class preview, which are all previews' but
// forks', and no environment's; "" if none. The ledger says what is a preview and what is a fork's, whatever a render came to.
func SecretsOf(s *cluster.State, environment string) string {
	p, isPreview := s.Previews().Get(environment)
	if !isPreview {
		return environment
	}
	if _, taken := s.Environments().Get(preview.Class); taken || p.Sandbox.NoSecrets {
		return ""
	}
	return preview.Class
}

// opening is a Secret for the pods of an environment.
type opening struct {
	secret      *corev1.Secret
	environment string
}

// unopened adds the pods to out of which a Secret cannot be opened here, and why: they are not begun, and go on if they were.
func (a *Agent) unopened(out map[control.PodID]plan.Trouble) map[control.PodID]plan.Trouble {
	out = maps.Clone(out)
	known := make(map[opening]error, len(a.opens))
	for id, p := range a.wants.Want {
		if _, withheld := out[id]; withheld || p.GivenUp || p.Deleting != 0 {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
			s := p.Secrets[name]
			if !sealed.IsObject(s.Annotations) {
				continue
			}
			as := opening{s, p.Environment}
			err, done := known[as]
			if !done {
				if err, done = a.opens[as]; !done {
					err = a.tryOpen(p, s)
				}
			}
			if known[as] = err; err != nil {
				if out == nil {
					out = map[control.PodID]plan.Trouble{}
				}
				out[id] = plan.Trouble{Reason: notOpened, Message: err.Error()}
				break
			}
		}
	}
	maps.DeleteFunc(known, func(_ opening, err error) bool {
		_, later := errors.AsType[*sealed.NoIdentityError](err)
		return later
	})
	a.opens = known
	return out
}

// tryOpen sees whether a Secret opens.
func (a *Agent) tryOpen(p *plan.Pod, s *corev1.Secret) error {
	values, err := a.openSecret(p, s)
	for _, v := range values {
		clear(v)
	}
	return err
}

// publicVars are those of a container's variables that hold nothing of a Secret: what a path or a log may be made of.
func publicVars(p *plan.Pod, c *corev1.Container, env []string) []string {
	if len(p.Secrets) == 0 {
		return env
	}
	blank := *p
	blank.Secrets = make(map[string]*corev1.Secret, len(p.Secrets))
	for name, s := range p.Secrets {
		b := corev1.Secret{Data: make(map[string][]byte, len(s.Data))}
		for key := range s.Data {
			b.Data[key] = []byte("\x00")
		}
		blank.Secrets[name] = &b
	}
	other, err := plan.Environ(&blank, c)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return !slices.Contains(other, kv) })
}
