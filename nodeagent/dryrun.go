package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/internal/wallclock"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// dryRunSteps bounds a dry run: a roll-out of n pods takes about 4n steps.
const dryRunSteps = 100_000

// Plan forks the ring's state, steps the fork with the manifest as the active one, lets a model of the nodes
// carry everything out, and says what became another than it was.
func (n *Node) Plan(_ context.Context, req api.PlanRequest) (api.Plan, error) {
	content := overlay{blobs: map[desired.Digest][]byte{}, below: n.Agent.opt.Content}
	for digest, b := range req.Blobs {
		if desired.DigestOf(b) != desired.Digest(digest) {
			return api.Plan{}, fmt.Errorf("blob %s: the bytes are others", digest)
		}
		content.blobs[desired.Digest(digest)] = b
	}
	var s *cluster.State
	n.Agent.opt.Ledger.View(func(now *cluster.State) { s = now.Snapshot() })
	if len(req.Manifest) == 0 && len(req.Without) > 0 {
		losses, err := n.losses(s, content, req.Without)
		return api.Plan{Unchanged: s.Pods().Len(), Losses: losses}, err
	}
	next, err := desired.DecodeSet(req.Manifest)
	if err != nil {
		return api.Plan{}, err
	}
	content.blobs[next.D] = req.Manifest
	before := s.Snapshot()

	out := api.Plan{Environment: req.Environment, To: string(next.D)}
	if c := n.Claims.Status(); c != nil {
		out.Note = c.Held
	}
	activate := cluster.Activate{Environment: req.Environment, Namespace: req.Namespace, Ref: "plan", Commit: "0000000000000000000000000000000000000000", D: next.D, Held: req.Held, Ungated: true}
	var previous *desired.Set
	if e, ok := s.Environments().Get(req.Environment); ok {
		activate.Previous, activate.Ref, activate.Commit, activate.Images = e.D, e.Ref, e.Commit, e.Images
		out.From = string(e.D)
		b, err := content.Get(e.D)
		if err != nil {
			return api.Plan{}, err
		}
		if previous, err = desired.DecodeSet(b); err != nil {
			return api.Plan{}, err
		}
	}
	if out.Objects, err = objectChanges(previous, next, content); err != nil {
		return api.Plan{}, err
	}
	if out.From == out.To {
		for range before.Pods().All() {
			out.Unchanged++
		}
		out.Losses, err = n.losses(s, content, req.Without)
		return out, err
	}
	run := dryRun{s: s, content: content, now: max(wallclock.Now().UnixMilli(), s.Time())}
	if err := run.step(cluster.Input{Activate: &activate}); err != nil {
		return api.Plan{}, err
	}
	out.Actions = n.actions(run.s, content)
	if err := run.settle(); err != nil {
		return api.Plan{}, err
	}
	out.Pods, out.Unchanged = podChanges(before, run.s, reasons(previous, next, out.Objects))
	out.Losses, err = n.losses(run.s, content, req.Without)
	return out, err
}

// overlay is the content store with what a plan brings along.
type overlay struct {
	blobs map[desired.Digest][]byte
	below desired.Content
}

func (o overlay) Get(d desired.Digest) ([]byte, error) {
	if b, ok := o.blobs[d]; ok {
		return b, nil
	}
	return o.below.Get(d)
}

func objectChanges(previous, next *desired.Set, content desired.Content) ([]api.Change, error) {
	if previous == nil {
		previous = &desired.Set{Environment: next.Environment}
	}
	changes, err := desired.Diff(previous, next, content)
	if err != nil {
		return nil, err
	}
	var out []api.Change
	for _, c := range changes {
		change := api.Change{Op: string(c.Op), Name: c.Key.String()}
		for _, f := range c.Fields {
			change.Fields = append(change.Fields, f.String())
		}
		out = append(out, change)
	}
	return out, nil
}

// dryRun is a fork of the ring with nodes that do everything at once and well.
type dryRun struct {
	s       *cluster.State
	content desired.Content
	now     int64
	steps   int
	silent  map[place.NodeID]bool // nodes that do nothing: they are lost
	saw     func(*cluster.State)  // is called after each step; nil: nobody looks
}

// lost is what the leader would say of a node that is lost, or whose lease is over.
func (d *dryRun) lost(node place.NodeID, fenced bool) cluster.Input {
	ring, _ := d.s.Ring()
	return cluster.Input{NodeDown: &cluster.NodeDown{ID: node, Fenced: fenced, Term: ring.Term}}
}

func (d *dryRun) step(in cluster.Input) error {
	d.steps++
	out := cluster.Step(d.s, cluster.Entry{Index: d.s.Index() + 1, Time: d.now, Input: in}, d.content)
	if out.Rejected != "" {
		return errors.New(out.Rejected)
	}
	if d.saw != nil {
		d.saw(d.s)
	}
	return nil
}

// settle reports every placed pod as ready and every stopped one as gone until nothing moves any more. Time that
// rules wait for passes at once, an hour at most: schedules do not fire.
func (d *dryRun) settle() error {
	end := d.now + time.Hour.Milliseconds()
	for moved := true; moved; {
		moved = false
		var reports []cluster.Phase
		for p := range d.s.Pods().Values() {
			switch {
			case p.Node == "" || d.silent[p.Node]:
			case p.Deleting != 0:
				reports = append(reports, cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Status: p.Status, Removed: true})
			case p.Status.Phase == "" || p.Status.Phase == corev1.PodPending || p.Status.Phase == corev1.PodRunning && !plan.Ready(&p.Status):
				reports = append(reports, cluster.Phase{Pod: p.ID, Epoch: p.Epoch, Status: readyStatus(d.now)})
			}
		}
		for _, r := range reports {
			if d.steps >= dryRunSteps {
				return errors.New("the plan does not come to rest")
			}
			p, ok := d.s.Pod(r.Pod)
			if !ok {
				continue
			}
			// As its node would say it, in a boot that no node ever has.
			from := cluster.From{Node: p.Node, Boot: "plan", Seq: uint64(d.steps + 1)}
			if err := d.step(cluster.Input{From: from, Phase: &r}); err != nil {
				return err
			}
			moved = true
		}
		if wake := d.s.Wake(); !moved && wake != 0 && wake <= end && d.rollingOut() {
			d.now = max(d.now, wake)
			if err := d.step(cluster.Input{Tick: &cluster.Tick{}}); err != nil {
				return err
			}
			moved = d.steps < dryRunSteps
		}
	}
	return nil
}

func (d *dryRun) rollingOut() bool {
	for dep := range d.s.Deployments().Values() {
		if dep.State == control.Progressing {
			return true
		}
	}
	return false
}

func readyStatus(now int64) corev1.PodStatus {
	t := metav1.NewTime(time.UnixMilli(now).UTC())
	return corev1.PodStatus{
		Phase:      corev1.PodRunning,
		StartTime:  &t,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: t}},
	}
}

// reasons says why pods of an object change, by the object's name.
func reasons(previous, next *desired.Set, changes []api.Change) func(object string) string {
	templates := func(s *desired.Set) map[string]desired.Digest {
		out := map[string]desired.Digest{}
		if s != nil {
			for _, e := range s.Entries {
				out[e.Key.String()] = e.Template
			}
		}
		return out
	}
	was, is := templates(previous), templates(next)
	changed := map[string]api.Change{}
	for _, c := range changes {
		changed[c.Name] = c
	}
	return func(object string) string {
		c, ok := changed[object]
		switch {
		case !ok:
			return "because of other objects"
		case c.Op == string(desired.Create):
			return "it is new"
		case c.Op == string(desired.Delete):
			return "it is taken away"
		case was[object] != is[object]:
			return "its pod template changed"
		}
		for _, f := range c.Fields {
			if strings.HasPrefix(f, "spec.replicas: ") {
				return strings.TrimPrefix(f, "spec.")
			}
		}
		return "it changed"
	}
}

// podChanges compares the pods before and after by the workload they belong to.
func podChanges(before, after *cluster.State, why func(object string) string) (changes []api.Change, unchanged int) {
	type count struct {
		gone, made int
		waits      map[string]int // pods that find no node, by reason
	}
	counts := map[desired.Key]*count{}
	at := func(k desired.Key) *count {
		if counts[k] == nil {
			counts[k] = &count{waits: map[string]int{}}
		}
		return counts[k]
	}
	for id, p := range before.Pods().All() {
		if p.Deleting != 0 {
			continue
		}
		if now, ok := after.Pod(id); ok && now.Deleting == 0 {
			unchanged++
		} else {
			at(workload(before, p)).gone++
		}
	}
	for id, p := range after.Pods().All() {
		if _, ok := before.Pod(id); !ok {
			if c := at(workload(after, p)); p.Node == "" {
				c.waits[p.Reason]++
			} else {
				c.made++
			}
		}
	}
	for key, c := range counts {
		replaced := min(c.gone, c.made)
		add := func(op string, n int, one, many string) {
			if n > 0 {
				changes = append(changes, api.Change{Op: op, Name: key.String(), Why: plural(n, one, many) + ": " + why(key.String())})
			}
		}
		add("restart", replaced, "pod is replaced", "pods are replaced")
		add("create", c.made-replaced, "pod starts", "pods start")
		add("remove", c.gone-replaced, "pod stops", "pods stop")
		for reason, n := range c.waits {
			changes = append(changes, api.Change{Op: "wait", Name: key.String(), Why: plural(n, "pod finds no node", "pods find no node") + ": " + reason})
		}
	}
	order := map[string]int{"restart": 0, "remove": 1, "create": 2, "wait": 3}
	slices.SortFunc(changes, func(a, b api.Change) int {
		return cmp.Or(cmp.Compare(order[a.Op], order[b.Op]), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Why, b.Why))
	})
	return changes, unchanged
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// workload is the object in Git that a pod was made for, over the ReplicaSet or the run between them.
func workload(s *cluster.State, p *control.Pod) desired.Key {
	if rs, ok := s.ReplicaSets().Get(p.Owner.Key); ok && rs.Owner.UID != "" {
		return rs.Owner.Key
	}
	if run, ok := s.Jobs().Get(p.Owner.Key); ok && run.Owner.UID != "" {
		return run.Owner.Key
	}
	return p.Owner.Key
}

// actions are this node's first steps towards s.
func (n *Node) actions(s *cluster.State, content desired.Content) []api.Action {
	wants := plan.NewWants()
	wants.Update(s, n.Agent.opt.Node, content)
	facts := plan.Facts{Now: wallclock.Now().UnixMilli(), Images: map[string]bool{}}
	for _, p := range wants.Want {
		for c := range p.Containers() {
			facts.Images[p.ImageOf(c)] = n.Agent.opt.Containers.Present(c.Image, p.Images[c.Image])
		}
	}
	have := plan.Have{}
	if last := n.Agent.Last(); last != nil {
		have = last.Have
	}
	steps, _ := plan.Steps(wants.Want, have, facts)
	name := string(n.Agent.opt.Node)
	if node, ok := s.Nodes().Get(n.Agent.opt.Node); ok {
		name = node.Name
	}
	var out []api.Action
	for _, step := range steps {
		out = append(out, api.Action{Node: name, Action: step})
	}
	return out
}
