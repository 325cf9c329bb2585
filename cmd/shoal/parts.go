package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/internal/sealed"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/containers"
	"github.com/shoal-dev/shoal/nodeagent/dns"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
	"github.com/shoal-dev/shoal/nodeagent/ledger"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/probes"
	"github.com/shoal-dev/shoal/nodeagent/volumes"
)

// The parts below nodeagent/ do not know each other, nor the loop. What stands here fits each to what the loop asks for.

type ledgerPart struct {
	*ledger.Ledger[*cluster.State, cluster.Outcome]
	changes <-chan struct{}
}

func newLedgerPart(m *machine) ledgerPart {
	changes, cancel := m.ledger.Subscribe()
	m.onClose(func() error { cancel(); return nil })
	return ledgerPart{m.ledger, changes}
}

func (l ledgerPart) Changes() <-chan struct{} { return l.changes }

type containersPart struct {
	*containers.Runtime
	pulls  *pulls
	tagged func(ref string) (digest string) // what the ring's own store has for a name; "" for none
}

func (c containersPart) Present(ref, digest string) bool {
	present, _, err := c.Image(ref, digest)
	return err == nil && present
}

func (c containersPart) Pull(ctx context.Context, p *plan.Pod, ref, digest string) error {
	auth, err := pullSecrets(p)
	if err != nil {
		return err
	}
	tell, end := c.pulls.begin(ref)
	defer end()
	_, err = c.Runtime.Pull(ctx, ref, digest, auth, tell)
	return err
}

func (c containersPart) Resolve(ctx context.Context, ref string) (string, error) {
	if d := c.tagged(ref); d != "" {
		return d, nil
	}
	return c.Runtime.Resolve(ctx, ref, nil)
}

func (c containersPart) Stop(ctx context.Context, id control.PodID, container string, grace int64) error {
	return c.Runtime.Stop(ctx, id, container, time.Duration(grace)*time.Second)
}

func (c containersPart) Exec(ctx context.Context, id control.PodID, container string, o nodeagent.ExecOptions) (int, error) {
	resize := make(chan containers.TerminalSize)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case s := <-o.Resize:
				select {
				case resize <- containers.TerminalSize{Width: uint32(s.Width), Height: uint32(s.Height)}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return c.Runtime.Exec(ctx, id, container, containers.ExecOptions{
		Args: o.Args, TTY: o.TTY, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, Resize: resize,
	})
}

// pullSecrets reads the credentials of a pod's imagePullSecrets.
func pullSecrets(p *plan.Pod) ([]containers.Auth, error) {
	var out []containers.Auth
	for _, ref := range p.Spec.ImagePullSecrets {
		secret := p.Secrets[ref.Name]
		if secret == nil {
			continue // Kubernetes tries without it too; the registry's answer says what is missing
		}
		if sealed.IsObject(secret.Annotations) {
			continue // it is opened on the node that runs the pod, and this one only fetches ahead
		}
		var config struct {
			Auths map[string]struct{ Username, Password, Auth, IdentityToken string }
		}
		raw := secret.Data[corev1.DockerConfigJsonKey]
		if secret.Type == corev1.SecretTypeDockercfg {
			raw = []byte(`{"auths":` + string(secret.Data[corev1.DockerConfigKey]) + `}`)
		}
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, fmt.Errorf("secret %s/%s: not a docker configuration", p.Namespace, ref.Name) // err could quote the secret
		}
		for host, a := range config.Auths {
			auth := containers.Auth{Host: registryHost(host), Username: a.Username, Password: a.Password, Token: a.IdentityToken}
			if a.Auth != "" && auth.Username == "" {
				plain, err := base64.StdEncoding.DecodeString(a.Auth)
				if err != nil {
					return nil, fmt.Errorf("secret %s/%s: auth of %s is not base64", p.Namespace, ref.Name, host)
				}
				auth.Username, auth.Password, _ = strings.Cut(string(plain), ":")
			}
			out = append(out, auth)
		}
	}
	return out, nil
}

// registryHost is the host of a key in a docker configuration, which may be a URL.
func registryHost(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, _, _ := strings.Cut(key, "/")
	if host == "index.docker.io" {
		return "docker.io"
	}
	return host
}

type linksPart struct {
	*links.Links
	strict bool                  // nothing goes to other nodes unencrypted
	routed func(context.Context) // the ways to them may have changed
}

func (l linksPart) Routes(ctx context.Context, t wire.Tables) error {
	t.Strict = l.strict
	err := l.Links.Routes(ctx, t)
	l.routed(ctx)
	return err
}

func (l linksPart) Ensure(ctx context.Context, p *plan.Pod, netns string) error {
	return l.Links.Ensure(ctx, links.Pod{ID: p.ID, Netns: netns, IP: p.IP})
}

func (l linksPart) Check(ctx context.Context, p *plan.Pod, netns string) ([]string, error) {
	return l.Links.Check(ctx, links.Pod{ID: p.ID, Netns: netns, IP: p.IP})
}

type volumesPart struct {
	*volumes.Volumes
	files volumes.Files
}

func (v volumesPart) Prepare(ctx context.Context, p *plan.Pod) error {
	_, err := v.Volumes.Prepare(ctx, p, v.files)
	return err
}

type namesPart struct{ *dns.Server }

func (n namesPart) Set(t wire.Tables) { n.Swap(t) }

// probesPart speaks of instances where the prober speaks of containers.
type probesPart struct{ *probes.Prober }

func (p probesPart) Set(targets []nodeagent.ProbeTarget) {
	out := make(map[probes.Key]probes.Target, len(targets))
	for _, t := range targets {
		target := probes.Target{
			ID: t.Instance, Started: time.UnixMilli(t.Started), IP: addressOf(t.Pod), Container: t.Pod.Container(t.Container), Stopping: t.Pod.Deleting != 0,
		}
		for _, c := range t.Pod.Status.ContainerStatuses {
			if c.Name == t.Container && strings.HasSuffix(c.ContainerID, "//"+t.Instance) && c.State.Running != nil {
				target.Known = &probes.Result{ID: t.Instance, Started: c.Started != nil && *c.Started, Ready: c.Ready}
			}
		}
		out[probes.Key{Pod: t.Pod.ID, Container: t.Container}] = target
	}
	p.Prober.Set(out)
}

func (p probesPart) Hook(ctx context.Context, pod *plan.Pod, container string, h *corev1.LifecycleHandler) error {
	return p.Prober.Hook(ctx, probes.Key{Pod: pod.ID, Container: container}, addressOf(pod), pod.Container(container), h)
}

// addressOf is where a pod listens: its own address, or the node's.
func addressOf(p *plan.Pod) netip.Addr {
	if p.Spec.HostNetwork {
		return p.NodeIP
	}
	return p.IP
}

func (p probesPart) Health() map[string]plan.Health {
	results := p.Results()
	out := make(map[string]plan.Health, len(results))
	for _, r := range results {
		h := plan.Health{NotStarted: !r.Started, NotReady: !r.Ready, Grace: r.Grace}
		if r.Failed != "" {
			h.Failed = r.Message
		}
		out[r.ID] = h
	}
	return out
}

type sourcePart struct {
	*gitsync.Mirror
	bring    func(ctx context.Context, commit source.ID) error // from another node
	unpushed func(ref string) (source.ID, error)               // that the ring has made while its forge was away; "": none
}

// Bring has a commit here that another node has.
func (s sourcePart) Bring(ctx context.Context, commit source.ID) error {
	if s.Has(commit) {
		return nil
	}
	return s.bring(ctx, commit)
}

func (s sourcePart) Head(ctx context.Context, ref string) (source.ID, bool, error) {
	if s.unpushed != nil {
		id, err := s.unpushed(ref)
		if err != nil {
			return "", false, err
		}
		if id != "" {
			return id, true, s.Bring(ctx, id)
		}
	}
	id, err := s.Mirror.Head(ref)
	if errors.Is(err, gitsync.ErrNoRef) {
		return "", false, nil
	}
	return id, err == nil, err
}

func (s sourcePart) Relate(ctx context.Context, from, to source.ID) (source.Relation, error) {
	return s.Relation(ctx, from, to)
}
