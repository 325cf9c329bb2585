package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/logs"
)

// Node answers people's commands about a running agent.
type Node struct {
	Agent    *Agent
	Deployer *Deployer
	Claims   *Claims // nil: the repository is this ring's own Git server
	Source   func() api.Source
	Mirror   Mirror   // what plans are made of
	Renderer Renderer // of plans; nil: the Deployer's
	Version  string
	LogDir   string
	Warnings func() []string // of the host
	Pulls    func() []api.Pull
	Facts    RingFacts
	// Previewing looks after previews; nil: nobody does.
	Previewing *Previewing
	// PeerPreviews is what the other nodes say of previews, each once; of no preview in particular (""), the one that leads. Nil: this
	// node is alone.
	PeerPreviews func(ctx context.Context, name string) []PreviewsHere
	// Down ends what runs here, in order, within grace: the machine is about to go.
	Down func(ctx context.Context, grace time.Duration) error
}

// Shutdown ends what runs here, in order, within grace; the agent goes on and starts nothing.
func (n *Node) Shutdown(ctx context.Context, grace time.Duration) error { return n.Down(ctx, grace) }

// Status is how it is going.
func (n *Node) Status(ctx context.Context) (api.Status, error) {
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	out := api.Status{
		Version: n.Version, Engine: cluster.EngineVersion, NodeID: string(n.Agent.opt.Node), Index: s.Index(),
		StateHash: fmt.Sprintf("%x", s.Hash()), Source: n.Source(), Warnings: n.Warnings(),
	}
	out.Source.Claim = n.Claims.Status()
	out.Resyncs, out.Drifts = n.Agent.Resyncs()
	if ring, ok := s.Ring(); ok {
		out.Ring, out.Engine = ring.Ring, ring.Engine
	}
	if node, ok := s.Nodes().Get(n.Agent.opt.Node); ok {
		out.Node, out.Address = node.Name, node.Address.String()
	}
	out.Environments = n.environments(ctx, s)
	troubles := map[control.PodID]map[string]plan.Trouble{}
	if last := n.Agent.Last(); last != nil {
		troubles = last.Trouble
	}
	for p := range s.Pods().Values() {
		out.Pods = append(out.Pods, n.pod(s, p, troubles[p.ID]))
	}
	slices.SortFunc(out.Pods, func(a, b api.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	out.Services = n.services(s)
	out.Rollouts = Rollouts(s)
	if n.Pulls != nil {
		out.Pulls = n.Pulls()
	}
	out.CronJobs = cronJobs(s)
	return out, nil
}

func (n *Node) environments(ctx context.Context, s *cluster.State) []api.Environment {
	verdicts, vanished := n.Deployer.Verdicts(), n.Deployer.Vanished()
	var out []api.Environment
	for e := range s.Environments().Values() {
		env := api.Environment{
			Name: e.Name, Ref: e.Ref, Namespace: e.Namespace, Commit: string(e.Commit), Digest: string(e.D), Held: e.Held,
			Activated: time.UnixMilli(e.Time), Undeclared: vanished[e.Name],
		}
		for range s.ObjectsOf(e.Name) {
			env.Objects++
		}
		if c, err := n.Deployer.opt.Source.Commit(ctx, e.Commit); err == nil {
			env.Subject, env.Author = c.Subject(), c.Author.String()
		}
		addVerdict(&env, verdicts[e.Name])
		env.Problems = append(env.Problems, n.Deployer.foreign(e)...)
		delete(verdicts, e.Name)
		out = append(out, env)
	}
	for name, v := range verdicts { // those of which nothing runs
		env := api.Environment{Name: cmp.Or(name, "repository"), Ref: v.Ref}
		addVerdict(&env, v)
		out = append(out, env)
	}
	slices.SortFunc(out, func(a, b api.Environment) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func addVerdict(env *api.Environment, v Verdict) {
	env.Problems, env.Warnings = v.Problems, v.Warnings
	if !v.Accepted || len(v.Held) > 0 {
		env.Candidate = string(v.Commit)
	}
	if v.Err != nil {
		env.Problems = append(slices.Clone(env.Problems), problemOf(v.Err))
	}
}

// pod puts one pod into kubectl's columns.
func (n *Node) pod(s *cluster.State, p *control.Pod, troubles map[string]plan.Trouble) api.Pod {
	out := api.Pod{
		Environment: p.Environment, Namespace: p.Namespace, Name: p.Name, UID: string(p.ID), Owner: p.Owner.Key.Kind + "/" + p.Owner.Key.Name,
		Status: string(p.Status.Phase), Created: time.UnixMilli(p.Created), Reason: p.Reason, Message: p.Status.Message,
	}
	if p.IP.IsValid() {
		out.IP = p.IP.String()
	}
	if node, ok := s.Nodes().Get(p.Node); ok {
		out.Node = node.Name
	}
	out.Containers = len(p.Status.ContainerStatuses)
	if t, err := s.TemplateOf(p.Object, n.Agent.opt.Content); err == nil {
		out.Containers = len(t.Spec.Containers)
	}
	for _, c := range p.Status.ContainerStatuses {
		out.Restarts += int(c.RestartCount)
		if c.Ready {
			out.Ready++
		}
	}
	for i, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		init := i < len(p.Status.InitContainerStatuses)
		reason, message := reasonOf(c)
		if reason == "" || init && reason == "Completed" || reason == "PodInitializing" && out.Status != string(corev1.PodPending) {
			continue
		}
		if init {
			reason = "Init:" + reason
		}
		out.Status, out.Message = reason, cmp.Or(message, out.Message)
		if init {
			break
		}
	}
	if p.Node == "" {
		out.Status, out.Message = "Pending", p.Reason
		if pool := n.pool(s, p); pool != "" {
			out.Message += "; " + pool
		}
	} else if out.Status == "" {
		out.Status = "Pending"
	}
	if p.Status.Reason != "" {
		out.Status = p.Status.Reason
	}
	if p.Deleting != 0 {
		out.Status, out.Message = "Terminating", p.Why
	}
	for _, t := range troubles {
		out.Message = t.Message
	}
	return out
}

func reasonOf(c corev1.ContainerStatus) (reason, message string) {
	switch {
	case c.State.Waiting != nil:
		message = c.State.Waiting.Message
		if last := c.LastTerminationState.Terminated; last != nil && message == "" {
			message = fmt.Sprintf("container %s ended with %d (%s)", c.Name, last.ExitCode, last.Reason)
			if last.Message != "" {
				message += ": " + oneLine(last.Message)
			}
		}
		return c.State.Waiting.Reason, message
	case c.State.Terminated != nil:
		return c.State.Terminated.Reason, oneLine(c.State.Terminated.Message)
	}
	return "", ""
}

// oneLine puts a container's last words into a line that fits a table: a terminal must not obey them either.
func oneLine(text string) string {
	const most = 200
	clean := strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if runes := []rune(clean); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return clean
}

func (n *Node) services(s *cluster.State) []api.Service {
	answer := answering(n.Agent.Tables())
	var out []api.Service
	for svc := range s.Services().Values() {
		item := api.Service{Namespace: svc.Key.Namespace, Name: svc.Key.Name, Endpoints: len(answer(svc))}
		if svc.ClusterIP.IsValid() {
			item.ClusterIP = svc.ClusterIP.String()
		}
		object, err := s.ServiceOf(svc.Object, n.Agent.opt.Content)
		if err == nil {
			for _, p := range object.Spec.Ports {
				text := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
				for _, given := range svc.NodePorts {
					if given.Port == p.Port && given.Name == p.Name && strings.EqualFold(given.Protocol, string(p.Protocol)) {
						text = fmt.Sprintf("%d:%d/%s", p.Port, given.NodePort, p.Protocol)
					}
				}
				item.Ports = append(item.Ports, text)
			}
		}
		out = append(out, item)
	}
	slices.SortFunc(out, func(a, b api.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// find returns the pod of a name.
func (n *Node) find(namespace, name string) (pod *control.Pod, err error) {
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		p, ok := s.PodNamed(namespace, name)
		if !ok {
			err = fmt.Errorf("pod %s/%s: %w", namespace, name, api.ErrNotFound)
			return
		}
		c := *p
		pod = &c
	})
	return pod, err
}

// elsewhere is a client of the node that a pod is on; nil if that is this one.
func (n *Node) elsewhere(p *control.Pod) (*api.Client, error) {
	switch {
	case p.Node == n.Agent.opt.Node:
		return nil, nil
	case p.Node == "":
		return nil, fmt.Errorf("pod %s/%s has no node yet: %s", p.Namespace, p.Name, p.Reason)
	case n.Facts.Dial == nil:
		return nil, fmt.Errorf("pod %s/%s is on node %s", p.Namespace, p.Name, p.Node)
	}
	return api.NewClientOver(func(ctx context.Context) (net.Conn, error) { return n.Facts.Dial(ctx, p.Node) }), nil
}

// Here is the same for other nodes: it passes nothing on.
func (n *Node) Here() *Node {
	here := *n
	here.Facts.Dial = nil
	return &here
}

// container picks the container that is meant: the named one, or the first.
func (n *Node) container(p *control.Pod, name string) (string, error) {
	var names []string
	var err error
	n.Agent.opt.Ledger.View(func(s *cluster.State) {
		var t *corev1.PodTemplateSpec
		if t, err = s.TemplateOf(p.Object, n.Agent.opt.Content); err != nil {
			return
		}
		for _, c := range t.Spec.Containers {
			names = append(names, c.Name)
		}
		for _, c := range t.Spec.InitContainers {
			names = append(names, c.Name)
		}
	})
	switch {
	case err != nil:
		return "", err
	case name == "":
		return names[0], nil
	case slices.Contains(names, name):
		return name, nil
	}
	return "", fmt.Errorf("pod %s/%s has no container %q; it has %s", p.Namespace, p.Name, name, strings.Join(names, ", "))
}

// Logs copies a container's log.
func (n *Node) Logs(ctx context.Context, namespace, pod string, o api.LogOptions, stdout, stderr io.Writer) error {
	p, err := n.find(namespace, pod)
	if err != nil {
		return err
	}
	if other, err := n.elsewhere(p); err != nil {
		return err
	} else if other != nil {
		defer other.Close()
		return other.Logs(ctx, namespace, pod, o, stdout, stderr)
	}
	name, err := n.container(p, o.Container)
	if err != nil {
		return err
	}
	instance := func() *plan.Container {
		last := n.Agent.Last()
		if last == nil || last.Have[p.ID] == nil {
			return nil
		}
		return last.Have[p.ID].Containers[name]
	}
	attempt := 0
	if c := instance(); c != nil {
		attempt = c.Attempt
	} else if !o.Follow {
		return fmt.Errorf("container %s of pod %s/%s has not started yet", name, namespace, pod)
	}
	if o.Previous {
		if attempt == 0 {
			return fmt.Errorf("container %s of pod %s/%s was never restarted: there is no previous log", name, namespace, pod)
		}
		attempt--
	}
	ended := func() bool {
		c := instance()
		if c == nil {
			_, err := n.find(namespace, pod)
			return err != nil
		}
		return c.Attempt > attempt || c.State == plan.Exited
	}
	dir := logs.Dir(n.LogDir, p.Namespace, p.Name, string(p.ID), name)
	return logs.Read(ctx, dir, attempt, logs.Options{Follow: o.Follow, Tail: o.Tail, Since: o.Since, Timestamps: o.Timestamps}, ended, stdout, stderr)
}

// Exec runs a command in a container.
func (n *Node) Exec(ctx context.Context, namespace, pod string, req api.ExecRequest, s api.Streams) (int, error) {
	p, err := n.find(namespace, pod)
	if err != nil {
		return 0, err
	}
	if other, err := n.elsewhere(p); err != nil {
		return 0, err
	} else if other != nil {
		defer other.Close()
		return other.Exec(ctx, namespace, pod, req, s)
	}
	name, err := n.container(p, req.Container)
	if err != nil {
		return 0, err
	}
	resize := make(chan Size)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case size := <-s.Resize:
				select {
				case resize <- Size(size):
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return n.Agent.opt.Containers.Exec(ctx, p.ID, name, ExecOptions{
		Args: req.Args, TTY: req.TTY, Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Resize: resize,
	})
}

// Events are what happened to an object, or to all for "", one a line.
func (n *Node) Events(_ context.Context, object string) ([]string, error) {
	var lines []string
	for _, e := range n.Agent.journal.Events(object) {
		line := e.Time.UTC().Format("15:04:05.000") + " " + e.Object + ": " + e.Reason + ": " + e.Message
		if e.Count > 1 {
			line += fmt.Sprintf(" (%d times)", e.Count)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// Manifest is what is active in an environment.
func (n *Node) Manifest(ctx context.Context, environment string) ([]byte, error) {
	active := n.Deployer.active(environment)
	if active == nil {
		return nil, fmt.Errorf("environment %s: %w", environment, api.ErrNotFound)
	}
	return n.Agent.opt.Content.Get(active.D)
}

// Blob is the bytes of a digest.
func (n *Node) Blob(_ context.Context, digest string) ([]byte, error) {
	return n.Agent.opt.Content.Get(desired.Digest(digest))
}

func problemOf(err error) render.Problem {
	return render.Problem{File: "(not judged yet)", Text: err.Error()}
}

func cronJobs(s *cluster.State) []api.CronJob {
	var out []api.CronJob
	for c := range s.CronJobs().Values() {
		item := api.CronJob{Namespace: c.Key.Namespace, Name: c.Key.Name, Schedule: c.Schedule}
		if c.Last != 0 {
			item.Last = time.UnixMilli(c.Last)
		}
		if c.Next != 0 {
			item.Next = time.UnixMilli(c.Next)
		}
		for j := range s.Jobs().Values() {
			if j.Owner.UID == c.UID && j.Finished == 0 {
				item.Active++
			}
		}
		out = append(out, item)
	}
	slices.SortFunc(out, func(a, b api.CronJob) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}
