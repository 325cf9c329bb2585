package nodeagent

import (
	"cmp"
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

// target is what would be activated.
type target struct {
	environment, namespace string
	next                   *desired.Set
	manifest               []byte
	held                   []string
	without                []string // nodes that are lost then
}

// carriedOut is what became of a dry run.
type carriedOut struct {
	refused   string // the ring would not take it; nothing else is known then
	pods      []api.Change
	unchanged int
	actions   []api.Action
	losses    []api.Loss
}

// carryOut forks the ring's state, steps the fork with the target as the active set, lets a model of the nodes carry
// everything out, and says what became another than it was.
func (n *Node) carryOut(s *cluster.State, content overlay, t target) (out carriedOut, err error) {
	content.blobs[t.next.D] = t.manifest
	activate := cluster.Activate{Environment: t.environment, Namespace: t.namespace, Ref: "plan", Commit: "0000000000000000000000000000000000000000", D: t.next.D, Held: t.held, Ungated: true}
	var previous *desired.Set
	if e, ok := s.Environments().Get(t.environment); ok {
		activate.Previous, activate.Ref, activate.Commit, activate.Images = e.D, e.Ref, e.Commit, e.Images
		if previous, err = readSet(content, e.D); err != nil {
			return out, err
		}
	}
	if activate.Previous == t.next.D {
		out.unchanged = s.Pods().Len()
		out.losses, err = n.losses(s.Snapshot(), content, t.without)
		return out, err
	}
	return n.carryOn(s, content, cluster.Input{Activate: &activate}, previous, t.next, t.without)
}

// retired is carryOut of the entry that takes an environment away, whose set is running.
func (n *Node) retired(s *cluster.State, content overlay, environment string, running *desired.Set, without []string) (carriedOut, error) {
	return n.carryOn(s, content, cluster.Input{Retire: &cluster.Retire{Environment: environment, Why: "plan"}}, running, nil, without)
}

// carryOn steps a fork with an input that takes an environment from one set to another, and lets nodes carry it out.
func (n *Node) carryOn(before *cluster.State, content overlay, in cluster.Input, from, to *desired.Set, without []string) (out carriedOut, err error) {
	changes, err := desired.Diff(from, to, content)
	if err != nil {
		return out, err
	}
	s := before.Snapshot()
	run := dryRun{s: s, content: content, now: max(wallclock.Now().UnixMilli(), s.Time())}
	if err := run.step(in); err != nil {
		if why, ok := errors.AsType[rejected](err); ok {
			return carriedOut{refused: string(why), unchanged: before.Pods().Len()}, nil
		}
		return out, err
	}
	out.actions = n.actions(run.s, content)
	if err := run.settle(); err != nil {
		return out, err
	}
	out.pods, out.unchanged = podChanges(before, run.s, reasons(changes))
	out.losses, err = n.losses(run.s, content, without)
	return out, err
}

func readSet(content desired.Content, d desired.Digest) (*desired.Set, error) {
	b, err := content.Get(d)
	if err != nil {
		return nil, err
	}
	return desired.DecodeSet(b)
}

// overlay is the content store with what a plan brings along.
type overlay struct {
	blobs map[desired.Digest][]byte
	below Content
}

func newOverlay(below Content) overlay {
	return overlay{blobs: map[desired.Digest][]byte{}, below: below}
}

// bring adds the bytes of rendered apps that the store does not have.
func (o overlay) bring(apps []Rendered) error {
	for _, a := range apps {
		lacking := slices.ContainsFunc(a.Items, func(i desired.Item) bool { return o.blobs[i.Digest] == nil && !o.below.Has(i.Digest) })
		if a.Blobs == nil || !lacking {
			continue
		}
		blobs, err := a.Blobs()
		if err != nil {
			return err
		}
		for _, b := range blobs {
			o.blobs[b.Digest] = b.Bytes
		}
	}
	return nil
}

func (o overlay) Get(d desired.Digest) ([]byte, error) {
	if b, ok := o.blobs[d]; ok {
		return b, nil
	}
	return o.below.Get(d)
}

// rejected is why Step did not take an input.
type rejected string

func (r rejected) Error() string { return string(r) }

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
		return rejected(out.Rejected)
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
func reasons(changes []desired.Change) func(object string) string {
	changed := map[string]desired.Change{}
	for _, c := range changes {
		changed[c.Key.String()] = c
	}
	return func(object string) string {
		c, ok := changed[object]
		switch {
		case !ok:
			return "because of other objects"
		case c.Op == desired.Create:
			return "it is new"
		case c.Op == desired.Delete:
			return "it is taken away"
		case c.Template:
			return "its pod template changed"
		}
		for _, f := range c.Fields {
			if f.Path == "spec.replicas" {
				return strings.TrimPrefix(f.String(), "spec.")
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
