package enginetest

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// runner is what an agent does to its machine: the true plan.Steps says what, the processes are a model.
type runner struct {
	procs    map[control.PodID]*proc // on the machine: they outlive the agent
	guarding bool                    // the guard's timer runs; it outlives the agent, too

	wants   map[control.PodID]*plan.Pod // made from the State's records, kept as long as those are the same
	busy    map[control.PodID]bool
	gone    map[control.PodID]bool // taken down and reported, not yet out of the ledger
	told    map[control.PodID]report
	pending []control.PodID // to be reported, in order
	telling int             // reports under way
	reports bool            // a report is to be sent soon
	looks   bool            // a look is to come
	waits   bool            // the last look waits for entries that it has heard of
	wakeAt  int             // counts timers
}

// proc is a pod on a machine. Its one container is "main".
type proc struct {
	m    *machine
	pod  *control.Pod // as it was when it was made
	seen *plan.Seen
	box  *plan.Container // nil: not started yet
	life int             // counts its containers
	once string          // of what only so many may run; "": any number
	most int
	ends bool // it has been told to stop
	ok   bool // ready
}

type report struct {
	phase    corev1.PodPhase
	ready    bool
	restarts int
	removed  bool
}

// begin is an agent that starts: it knows nothing of what was under way.
func (r *runner) begin(*machine) {
	r.wants, r.busy, r.gone = map[control.PodID]*plan.Pod{}, map[control.PodID]bool{}, map[control.PodID]bool{}
	r.told, r.pending, r.telling = map[control.PodID]report{}, nil, 0
	r.reports, r.looks, r.waits = false, false, false
}

// lookAtPods has the agent look at its machine soon; several reasons make one look.
func (m *machine) lookAtPods() {
	if m.looks {
		return
	}
	m.looks = true
	m.after(m.w.between(100, 5*millisecond), m.look)
}

// want is what the node must run, as plan.Wants makes it, without what only a real container needs.
func (m *machine) want() plan.Want {
	want := plan.Want{}
	for record := range m.state.PodsOn(m.id) {
		p := m.wants[record.ID]
		if p == nil || p.Deleting != record.Deleting || p.Finished != record.Finished || p.Epoch != record.Epoch {
			t, err := m.state.TemplateOf(record.Object, m.w.Content)
			if err != nil {
				panic(err)
			}
			p = &plan.Pod{Pod: *record, Spec: &t.Spec}
			m.wants[record.ID] = p
		}
		want[record.ID] = p
	}
	for e := range m.state.Ended().Values() {
		if e.Node == m.id {
			p := &plan.Pod{Spec: &corev1.PodSpec{}, GivenUp: true}
			p.ID, p.Node, p.Epoch, p.Namespace, p.Name = e.Pod, e.Node, e.Epoch, e.Namespace, e.Name
			p.Deleting, p.Grace, p.Why = 1, e.Grace, "it was given up while its node was lost"
			want[e.Pod] = p
		}
	}
	for id := range m.wants {
		if want[id] == nil {
			delete(m.wants, id)
		}
	}
	for id := range m.gone {
		if want[id] == nil {
			delete(m.gone, id)
			delete(m.told, id)
		}
	}
	return want
}

// look observes, decides and sets going what is to be done.
func (m *machine) look() {
	m.looks = false
	want := m.want()
	have := plan.Have{}
	for id, p := range m.procs {
		have[id] = p.seen
	}
	busy := map[control.PodID]bool{}
	for id := range m.busy {
		busy[id] = true
	}
	for id := range m.gone {
		busy[id] = true
	}
	allowed := m.allowed()
	m.waits = allowed.NoStart && !allowed.Stop
	steps, wake := plan.Steps(want, have, plan.Facts{Images: m.w.team.images, Busy: busy, Now: m.wall(), Lease: allowed})
	if m.w.Plant == Quitter && allowed.Stop {
		for _, id := range m.ids() {
			if p := m.procs[id]; !m.busy[id] && p.running() && !p.ends && want[id] != nil {
				steps = append(steps, plan.Action{Op: plan.Stop, Pod: id, Container: "main"})
			}
		}
	}
	for len(steps) > 0 {
		n := 1
		for n < len(steps) && steps[n].Pod == steps[0].Pod {
			n++
		}
		m.busy[steps[0].Pod] = true
		m.do(want[steps[0].Pod], steps[:n:n])
		steps = steps[n:]
	}
	for _, id := range m.ids() {
		if w := want[id]; w != nil && !w.GivenUp && !m.gone[id] {
			m.tell(w, m.procs[id])
		}
	}
	for id, w := range want {
		if !w.GivenUp && w.Deleting == 0 && w.Finished == 0 && m.procs[id] == nil && !m.gone[id] && w.Vanished(nil) {
			m.tellEnd(id)
		}
	}
	if wake != 0 {
		m.wakeAt++
		at := m.wakeAt
		m.after(max(wake-m.wall(), 1)*millisecond, func() {
			if at == m.wakeAt {
				m.lookAtPods()
			}
		})
	}
}

// ids are the pods on the machine, sorted.
func (m *machine) ids() []control.PodID {
	ids := make([]control.PodID, 0, len(m.procs))
	for id := range m.procs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// do carries out the actions of one pod, one after the other.
func (m *machine) do(p *plan.Pod, steps []plan.Action) {
	w := m.w
	if len(steps) == 0 {
		delete(m.busy, p.ID)
		m.lookAtPods()
		return
	}
	s := steps[0]
	wait := w.between(1*millisecond, 30*millisecond)
	switch s.Op {
	case plan.Sandbox:
		wait = w.between(10*millisecond, 100*millisecond)
	case plan.Start:
		wait = w.between(20*millisecond, 300*millisecond)
		if w.faults.on && w.chance(cmp.Or(w.Weather.Pulls, 20)) { // its image is to come first
			wait = w.between(5*second, 60*second)
		}
	case plan.Stop:
		m.stopProc(p, s)
		return
	}
	m.after(wait, func() {
		q := m.procs[p.ID]
		switch s.Op {
		case plan.Sandbox:
			if q == nil {
				q = newProc(m, p)
				m.procs[p.ID] = q
				w.seen.linked(q)
			}
			q.seen.Namespaces, q.seen.Linked = true, true
		case plan.Start:
			if w.Plant != BlindStart && !m.mayStill(p) {
				break
			}
			if !w.pass(beforeStart, m, &p.Pod) {
				return
			}
			if q != nil && q.seen.Namespaces {
				q.launch(s.Attempt, s.Streak)
				if !w.pass(afterStart, m, &p.Pod) {
					return
				}
			}
		case plan.Release:
			if q != nil {
				q.seen.Namespaces, q.seen.Linked = false, false
				w.seen.unlinked(q)
			}
		case plan.Teardown:
			if q != nil {
				if q.running() {
					w.violated("I2", "pod %s/%s is taken down on node %s while it runs", p.Namespace, p.Name, m.up.Name)
					return
				}
				w.seen.unlinked(q)
				delete(m.procs, p.ID)
			}
			m.removed(p)
		}
		m.do(p, steps[1:])
	})
}

// mayStill tells whether a pod that was to be started may be, now that it has come to that.
func (m *machine) mayStill(p *plan.Pod) bool {
	now, _ := m.state.Pod(p.ID)
	return p.MayStill(now, m.allowed())
}

// stopProc asks a process to end, and kills it after its grace.
func (m *machine) stopProc(p *plan.Pod, s plan.Action) {
	w := m.w
	q := m.procs[p.ID]
	if q == nil || !q.running() {
		m.do(p, nil)
		return
	}
	if !p.Fenced && p.Deleting == 0 && !p.GivenUp && p.Finished == 0 {
		w.violated("I1", "pod %s/%s is stopped on node %s (%s), and nobody wants it stopped", p.Namespace, p.Name, m.up.Name, s.Why)
		return
	}
	if w.Plant == EarlyGone && p.Deleting != 0 {
		m.removed(p)
	}
	if w.Plant == Leftovers && !p.Fenced {
		m.removed(p)
		return
	}
	if w.Plant == Deafness {
		m.after(30*second, func() { m.do(p, nil) })
		return
	}
	q.ends = true
	life := q.life
	end := func() {
		if q.life == life && q.running() {
			q.exit(0)
		}
	}
	if !w.chance(50) { // the others do not listen
		m.outside(w.between(millisecond, 5*second), end)
	}
	m.after(s.Grace*second+w.between(millisecond, 50*millisecond), end)
	var wait func()
	wait = func() {
		if q.running() && q.life == life {
			m.after(50*millisecond, wait)
			return
		}
		m.do(p, nil)
	}
	m.after(50*millisecond, wait)
}

func newProc(m *machine, p *plan.Pod) *proc {
	pod := p.Pod
	q := &proc{m: m, pod: &pod, seen: &plan.Seen{Epoch: p.Epoch, Containers: map[string]*plan.Container{}}}
	q.once, q.most = m.w.team.once(&pod)
	return q
}

func (q *proc) running() bool { return q.box != nil && q.box.State == plan.Running }

// launch starts the container.
func (q *proc) launch(attempt, streak int) {
	m, w := q.m, q.m.w
	q.life++
	q.ends, q.ok = false, false
	life := q.life
	q.box = &plan.Container{ID: fmt.Sprintf("%s-%d", q.pod.ID, q.life), Attempt: attempt, Streak: streak, State: plan.Running, Started: m.wall()}
	q.seen.Containers["main"] = q.box
	w.Stats.Started++
	w.seen.started(q)
	image := w.team.image(q.pod)
	during := func(wait int64, fn func()) {
		m.outside(wait, func() {
			if q.life == life && q.running() {
				fn()
			}
		})
	}
	switch {
	case image == "bad":
	case q.pod.Owner.Key.Kind == "Job":
		code := int32(0)
		if image == "flaky" && w.chance(400) {
			code = 1
		}
		wait := w.between(500*millisecond, 50*second)
		if w.lasts != nil {
			wait = cmp.Or(w.lasts(q.pod)*millisecond, wait)
		}
		during(wait, func() { q.exit(code) })
	default:
		during(w.between(50*millisecond, 5*second), func() {
			q.ok = true
			m.noticed()
		})
		if w.faults.on && w.chance(200) {
			during(w.between(second, 600*second), func() { q.exit(1) })
		}
	}
	m.noticed()
}

// exit is the end of a container.
func (q *proc) exit(code int32) {
	q.box.State, q.box.ExitCode, q.box.Finished = plan.Exited, code, max(q.m.wall(), q.box.Started)
	q.ok = false
	q.m.w.seen.stopped(q)
	q.m.noticed()
}

// noticed has the agent look, if there is one.
func (m *machine) noticed() {
	if m.alive {
		m.lookAtPods()
	}
}

// killFenced is what the guard does.
func (m *machine) killFenced() {
	for _, id := range m.ids() {
		if q := m.procs[id]; q.running() && q.pod.Fenced && !q.pod.Kept {
			m.w.Stats.Killed++
			q.exit(137)
		}
	}
}

// killAll is a machine without power.
func (m *machine) killAll() {
	for _, id := range m.ids() {
		q := m.procs[id]
		if q.running() {
			q.exit(137)
		}
		m.w.seen.unlinked(q)
		delete(m.procs, id)
	}
}

// tell has a pod's state reported where it is another one than the ledger has, or was last told.
func (m *machine) tell(p *plan.Pod, q *proc) {
	if q.box == nil {
		return
	}
	now := report{phase: corev1.PodRunning, ready: q.ok && p.Deleting == 0, restarts: q.box.Attempt}
	if q.box.State == plan.Exited {
		switch policy := p.Spec.RestartPolicy; {
		case policy != corev1.RestartPolicyNever:
		case q.box.ExitCode == 0:
			now.phase = corev1.PodSucceeded
		default:
			now.phase = corev1.PodFailed
		}
		if p.Deleting != 0 {
			return
		}
	}
	known, ok := m.told[p.ID]
	if !ok {
		record, there := m.state.Pod(p.ID)
		if !there {
			return
		}
		known = report{phase: record.Status.Phase, ready: record.Ready != 0, restarts: int(record.Restarts())}
	}
	if known == now {
		return
	}
	m.told[p.ID] = now
	m.queueReport(p.ID)
}

// tellEnd reports that a pod has failed of which nothing is left.
func (m *machine) tellEnd(id control.PodID) {
	if now := (report{phase: corev1.PodFailed}); m.told[id] != now {
		m.told[id] = now
		m.queueReport(id)
	}
}

// removed reports that nothing is left of a pod.
func (m *machine) removed(p *plan.Pod) {
	if m.gone[p.ID] {
		return
	}
	m.gone[p.ID] = true
	m.told[p.ID] = report{removed: true}
	m.queueReport(p.ID)
}

func (m *machine) queueReport(id control.PodID) {
	if !slices.Contains(m.pending, id) {
		m.pending = append(m.pending, id)
	}
	if !m.reports {
		m.reports = true
		m.after(m.w.between(millisecond, 100*millisecond), m.sendReports)
	}
}

// sendReports appends what is to be reported, all at once, and the rest when that is done.
func (m *machine) sendReports() {
	m.reports = false
	if m.telling > 0 {
		return
	}
	ids := m.pending
	m.pending = nil
	for _, id := range ids {
		now := m.told[id]
		epoch := uint64(0)
		if p, ok := m.state.Pod(id); ok {
			epoch = p.Epoch
		} else if e, ok := m.state.Ended().Get(id); ok {
			epoch = e.Epoch
		} else {
			continue
		}
		in := cluster.Phase{Pod: id, Epoch: epoch, Removed: now.removed}
		if !now.removed {
			in.Status = corev1.PodStatus{Phase: now.phase, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", RestartCount: int32(now.restarts)}}}
			if now.ready {
				in.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			}
		}
		m.telling++
		m.submit(cluster.Input{Phase: &in}, func(cluster.Outcome) {
			if m.telling--; m.telling == 0 && len(m.pending) > 0 {
				m.sendReports()
			}
		})
	}
}
