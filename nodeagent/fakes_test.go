package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/wire"
)

// machine is a node in memory: the ring's one, its containers, and a diary of what the agent did to them.
type machine struct {
	t       testing.TB
	ring    *enginetest.Ring
	changes chan struct{}
	events  chan struct{}
	begun   time.Time
	took    time.Duration // of a look

	mu        sync.Mutex // guards what follows, and the ring
	have      plan.Have
	images    map[string]bool
	pullErr   map[string]error
	pullTime  time.Duration
	stopErr   error
	exec      func(id control.PodID, container string, o ExecOptions) (int, error)
	looks     int
	spins     bool // many looks are a fault
	excess    map[control.PodID]string
	endpoints int   // in the tables of the firewall
	rulesErr  error // of the firewall
	linked    map[control.PodID]bool
	diary     []string
	reports   []cluster.Phase
}

// newMachine is called in a bubble, whose clock it sets to the time at which test rings begin.
func newMachine(t testing.TB) *machine {
	time.Sleep(time.Until(time.UnixMilli(enginetest.Epoch)))
	m := &machine{
		t: t, ring: enginetest.NewRing(t), changes: make(chan struct{}, 1), events: make(chan struct{}, 1), begun: time.Now(),
		have: plan.Have{}, images: map[string]bool{}, pullErr: map[string]error{}, spins: true, excess: map[control.PodID]string{}, linked: map[control.PodID]bool{},
	}
	m.ring.Up(1)
	return m
}

// run starts the agent of the machine and stops it when the test ends.
func (m *machine) run() *Agent {
	a := m.agent()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	m.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			m.t.Error("run:", err)
		}
	})
	return a
}

// agent makes the agent of the machine.
func (m *machine) agent() *Agent {
	return New(Options{
		Node: enginetest.Node(1).ID, Ledger: (*memLedger)(m), Content: memContent{Store: m.ring.Content}, Containers: (*memContainers)(m),
		Links: (*memLinks)(m), Firewall: (*memFirewall)(m), Names: (*memFirewall)(m), Volumes: (*memVolumes)(m), Probes: (*memProbes)(m),
		Log: slog.New(slog.DiscardHandler),
	}, NewJournal())
}

// commit makes the objects of a text the desired state, and lets all settle that needs no waiting.
func (m *machine) commit(text string) {
	m.mu.Lock()
	m.ring.Now = time.Now().UnixMilli()
	m.ring.Commit("dev", text)
	m.mu.Unlock()
	nudge(m.changes)
	synctest.Wait()
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// exit lets the container of a pod that runs an image end.
func (m *machine) exit(image string, code int32) {
	m.mu.Lock()
	for _, seen := range m.have {
		for _, c := range seen.Containers {
			if c.State == plan.Running && c.Image == image {
				c.State, c.ExitCode, c.Finished = plan.Exited, code, time.Now().UnixMilli()
			}
		}
	}
	m.mu.Unlock()
	nudge(m.events)
	synctest.Wait()
}

func (m *machine) note(format string, args ...any) {
	m.diary = append(m.diary, fmt.Sprintf("%-6s ", time.Since(m.begun).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// did takes the diary: what was done since it was last asked for.
func (m *machine) did() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := strings.Join(m.diary, "\n") + "\n"
	m.diary = nil
	return s
}

type memLedger machine

func (l *memLedger) Append(_ context.Context, in cluster.Input) (cluster.Outcome, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.Phase != nil {
		l.reports = append(l.reports, *in.Phase)
	}
	in.From.Node = enginetest.Node(1).ID
	l.ring.Now = time.Now().UnixMilli()
	out := l.ring.Step(in)
	nudge(l.changes)
	return out, nil
}

func (l *memLedger) View(f func(*cluster.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.ring.State)
}

func (l *memLedger) Changes() <-chan struct{} { return l.changes }

type memContent struct{ enginetest.Store }

type memContainers machine

func (c *memContainers) List(context.Context) (plan.Have, error) {
	time.Sleep(c.took)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looks++; c.looks > 5000 && c.spins {
		panic("the loop spins")
	}
	out := plan.Have{}
	for id, seen := range c.have {
		s := *seen
		s.Containers = map[string]*plan.Container{}
		for name, got := range seen.Containers {
			copied := *got
			s.Containers[name] = &copied
		}
		out[id] = &s
	}
	return out, nil
}

func (c *memContainers) Events() <-chan struct{}       { return c.events }
func (c *memContainers) Past(*plan.Pod) map[string]int { return nil }
func (c *memContainers) Netns(id control.PodID) string { return "/run/netns/" + string(id) }

func (c *memContainers) CreateSandbox(_ context.Context, p *plan.Pod) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have[p.ID] == nil {
		c.have[p.ID] = &plan.Seen{Epoch: p.Epoch, Namespaces: true, Containers: map[string]*plan.Container{}}
	}
	return "/run/netns/" + string(p.ID), nil
}

func (c *memContainers) RemoveSandbox(_ context.Context, id control.PodID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have[id] != nil {
		(*machine)(c).note("gone")
	}
	delete(c.have, id)
	return nil
}

func (c *memContainers) Release(_ context.Context, id control.PodID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	(*machine)(c).note("release")
	c.have[id].Namespaces = false
	return nil
}

func (c *memContainers) Present(ref, _ string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.images[ref]
}

func (c *memContainers) Pull(ctx context.Context, _ *plan.Pod, ref, _ string) error {
	c.mu.Lock()
	wait := c.pullTime
	c.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	(*machine)(c).note("pull %s", ref)
	if err := c.pullErr[ref]; err != nil {
		return err
	}
	c.images[ref] = true
	return nil
}

func (c *memContainers) Start(_ context.Context, l plan.Launch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	(*machine)(c).note("start %s #%d", l.Image, l.Attempt)
	c.have[l.Pod.ID].Containers[l.Container.Name] = &plan.Container{
		ID: fmt.Sprintf("%s-%s-%d", l.Pod.ID, l.Container.Name, l.Attempt), Attempt: l.Attempt, Streak: l.Streak, State: plan.Running,
		Image: l.Image, Started: time.Now().UnixMilli(),
	}
	return nil
}

func (c *memContainers) Stop(_ context.Context, id control.PodID, container string, grace int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.have[id].Containers[container]
	(*machine)(c).note("stop %s, %d s", got.Image, grace)
	if c.stopErr != nil {
		return c.stopErr
	}
	got.State, got.Finished = plan.Exited, time.Now().UnixMilli()
	return nil
}

func (c *memContainers) Remove(context.Context, control.PodID, string, int) error { return nil }

func (c *memContainers) Exec(_ context.Context, id control.PodID, container string, o ExecOptions) (int, error) {
	return c.exec(id, container, o)
}

type memLinks machine

func (l *memLinks) Ensure(_ context.Context, p *plan.Pod, _ string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.linked[p.ID] = true
	return nil
}

func (l *memLinks) Check(_ context.Context, p *plan.Pod, _ string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.linked[p.ID] {
		return []string{"link is missing"}, nil
	}
	return nil, nil
}

func (l *memLinks) Remove(context.Context, control.PodID) error { return nil }
func (l *memLinks) EnsureNode(context.Context) error            { return nil }
func (l *memLinks) CheckNode(context.Context) ([]string, error) { return nil, nil }
func (l *memLinks) Routes(context.Context, wire.Tables) error   { return nil }
func (l *memLinks) Events() <-chan struct{}                     { return nil }

type memFirewall machine

func (f *memFirewall) Apply(_ context.Context, t wire.Tables) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rulesErr != nil {
		return f.rulesErr
	}
	n := 0
	for _, p := range t.Ports {
		n += len(p.Endpoints)
	}
	if n != f.endpoints {
		(*machine)(f).note("%d endpoints", n)
	}
	f.endpoints = n
	return nil
}

func (f *memFirewall) Verify(context.Context) ([]string, error) { return nil, nil }
func (f *memFirewall) Set(wire.Tables)                          {}

type memVolumes machine

func (v *memVolumes) Prepare(context.Context, *plan.Pod) error { return nil }

func (v *memVolumes) Mounts(context.Context, *plan.Pod, *corev1.Container, []string) ([]plan.Mount, error) {
	return nil, nil
}

func (v *memVolumes) Remove(_ context.Context, id control.PodID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.excess, id)
	return nil
}

func (v *memVolumes) Excess() map[control.PodID]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.excess)
}

func (v *memVolumes) Events() <-chan struct{} { return v.events }

type memProbes machine

func (*memProbes) Set([]ProbeTarget)              {}
func (*memProbes) Health() map[string]plan.Health { return map[string]plan.Health{} }
func (*memProbes) Events() <-chan struct{}        { return nil }

// Hook sleeps; a command of "false" fails.
func (p *memProbes) Hook(ctx context.Context, _ *plan.Pod, container string, h *corev1.LifecycleHandler) (err error) {
	p.mu.Lock()
	(*machine)(p).note("hook of %s", container)
	p.mu.Unlock()
	if h.Exec != nil {
		if h.Exec.Command[0] == "false" {
			return errors.New("exit code 1: ")
		}
		return nil
	}
	select {
	case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	(*machine)(p).note("hook of %s is over: %v", container, err)
	return err
}

func (c memContent) Has(d desired.Digest) bool { return c.Store[d] != nil }

func (c memContent) Put(_ context.Context, blobs ...[]byte) error {
	for _, b := range blobs {
		c.Store.Put(b)
	}
	return nil
}
