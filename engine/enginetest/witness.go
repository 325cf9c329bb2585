package enginetest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// witness sees everything, at the true time, and holds it to what must be.
type witness struct {
	w       *World
	running map[string][]*proc   // of what only so many may run
	links   map[netip.Addr]*proc // who uses an address
	names   map[string]control.PodID
	ips     map[netip.Addr]control.PodID
	runs    map[string]string // of CronJobs: the uid of each
	taken   map[cluster.From]bool
	steps   int
	calm    int64 // ring time from which on every scheduled run must come
}

func newWitness(w *World) *witness {
	return &witness{
		w: w, running: map[string][]*proc{}, links: map[netip.Addr]*proc{}, names: map[string]control.PodID{},
		ips: map[netip.Addr]control.PodID{}, runs: map[string]string{}, taken: map[cluster.From]bool{},
	}
}

// started: no more run of what may run so many times.
func (t *witness) started(q *proc) {
	if q.once == "" {
		return
	}
	t.w.note("%s: %s runs, pod %s/%s", q.m.up.Name, q.once, q.pod.Namespace, q.pod.Name)
	t.running[q.once] = append(t.running[q.once], q)
	if all := t.running[q.once]; len(all) > q.most {
		var where []string
		for _, q := range all {
			where = append(where, fmt.Sprintf("%s/%s on %s", q.pod.Namespace, q.pod.Name, q.m.up.Name))
		}
		t.w.violated("I2", "%d of %s run at once, %d may: %s", len(all), q.once, q.most, strings.Join(where, ", "))
	}
}

func (t *witness) stopped(q *proc) {
	if q.once == "" {
		return
	}
	t.w.note("%s: %s runs no more, pod %s/%s", q.m.up.Name, q.once, q.pod.Namespace, q.pod.Name)
	t.running[q.once] = slices.DeleteFunc(t.running[q.once], func(o *proc) bool { return o == q })
}

// linked: no address has two users.
func (t *witness) linked(q *proc) {
	if !q.pod.IP.IsValid() {
		return
	}
	if o := t.links[q.pod.IP]; o != nil && o != q {
		t.w.violated("I2", "pod %s/%s on %s takes %s, which pod %s/%s on %s still uses",
			q.pod.Namespace, q.pod.Name, q.m.up.Name, q.pod.IP, o.pod.Namespace, o.pod.Name, o.m.up.Name)
		return
	}
	t.links[q.pod.IP] = q
}

func (t *witness) unlinked(q *proc) {
	if t.links[q.pod.IP] == q {
		delete(t.links, q.pod.IP)
	}
}

// stepped holds an entry and what it made of the State to what must be. It returns which nodes' pods changed.
func (t *witness) stepped(e cluster.Entry, out cluster.Outcome, was, now *cluster.State) (touched uint32) {
	w := t.w
	switch {
	case out.Stalled != "":
		w.violated("I4", "%s stalled: %s", e.Input, out.Stalled)
	case out.Duplicate:
		w.Stats.Repeated++
	case out.Rejected != "":
		w.Stats.Rejected++
		if in := e.Input; in.Tick != nil || in.NodeUp != nil || strings.HasPrefix(out.Rejected, "panic") {
			w.violated("I3", "%s was rejected: %s", in, out.Rejected)
		}
	case e.Input.NodeDown != nil && e.Input.NodeDown.Fenced:
		w.Stats.Fenced++
	case e.Input.NodeDown != nil:
		w.Stats.Lost++
	case e.Input.Activate != nil:
		t.agreed(e.Input.Activate)
	}
	if from := e.Input.From; from.Seq != 0 && !out.Duplicate {
		if t.taken[from] {
			w.violated("I4", "%s of node %s, number %d, was taken twice", e.Input, from.Node, from.Seq)
		}
		t.taken[from] = true
	}
	bit := func(node place.NodeID) uint32 {
		if m := w.find(node); m != nil {
			return 1 << m.n
		}
		return 0
	}
	for _, c := range out.Changed {
		switch c.Table {
		case "pods":
			id := control.PodID(c.Key)
			if p, ok := was.Pod(id); ok {
				touched |= bit(p.Node)
				if t.names[p.Namespace+"/"+p.Name] == id {
					delete(t.names, p.Namespace+"/"+p.Name)
				}
				if t.ips[p.IP] == id {
					delete(t.ips, p.IP)
				}
			}
			if p, ok := now.Pod(id); ok {
				touched |= bit(p.Node)
				t.comes(p, was, now)
			}
		case "ended":
			for _, s := range []*cluster.State{was, now} {
				if p, ok := s.Ended().Get(control.PodID(c.Key)); ok {
					touched |= bit(p.Node)
				}
			}
		case "jobs":
			t.job(now, c.Key)
		case "faults":
			for f := range now.Faults().Values() {
				w.violated("I3", "%s: its rule failed: %s", f.Key, f.Reason)
			}
		}
	}
	for _, c := range out.Changed {
		if p, ok := now.Pod(control.PodID(c.Key)); ok && c.Table == "pods" {
			t.pod(p)
		}
	}
	if t.steps++; t.steps%64 == 0 {
		if err := Invariants(now); err != nil {
			w.violated("I2", "after %s: %v", e.Input, err)
		}
		if err := placed(now); err != nil {
			w.violated("I1", "after %s: %v", e.Input, err)
		}
	}
	return touched
}

// comes: no pod comes to a node whose disk is short, or whose clock is wrong.
func (t *witness) comes(p *control.Pod, was, now *cluster.State) {
	if old, there := was.Pod(p.ID); there && old.Node != "" || p.Node == "" {
		return
	}
	before, _ := was.Nodes().Get(p.Node)
	if n, _ := now.Nodes().Get(p.Node); n.DiskPressure != "" && before.DiskPressure != "" {
		t.w.violated("I8", "pod %s/%s comes to node %s, whose disk is short", p.Namespace, p.Name, n.Name)
	} else if n.ClockAhead != 0 && before.ClockAhead != 0 {
		t.w.violated("I8", "pod %s/%s comes to node %s, whose clock is wrong", p.Namespace, p.Name, n.Name)
	}
}

// placed: no pod waits for a node while there is one that it may go to, however unsteady. In a World pods ask nothing of
// their nodes but room.
func placed(s *cluster.State) error {
	for p := range s.Pods().Values() {
		if p.Node != "" {
			continue
		}
		for n := range s.Nodes().Values() {
			if n.Up && !n.Down && !n.Cordoned && n.DiskPressure == "" && n.ClockAhead == 0 && s.Used(n.ID).Plus(p.Requests, 1).MilliCPU <= n.Capacity.MilliCPU {
				return fmt.Errorf("pod %s/%s waits (%s), and node %s is there", p.Namespace, p.Name, p.Reason, n.Name)
			}
		}
	}
	return nil
}

// pod: its name and its address are its alone.
func (t *witness) pod(p *control.Pod) {
	name := p.Namespace + "/" + p.Name
	if o, ok := t.names[name]; ok && o != p.ID {
		t.w.violated("I2", "pods %s and %s are both %s", o, p.ID, name)
	}
	t.names[name] = p.ID
	if !p.IP.IsValid() {
		return
	}
	if o, ok := t.ips[p.IP]; ok && o != p.ID {
		t.w.violated("I2", "pods %s and %s both have %s", o, p.ID, p.IP)
	}
	t.ips[p.IP] = p.ID
}

// job: a run of a schedule is one job, however often it is thought of, and whoever leads.
func (t *witness) job(s *cluster.State, key string) {
	parts := strings.Split(key, "/")
	if len(parts) != 4 {
		return
	}
	for j := range s.Jobs().Values() {
		if j.Key.Namespace != parts[2] || j.Key.Name != parts[3] || j.Owner.UID == "" {
			continue
		}
		run := j.Owner.UID + " " + j.Key.String()
		if uid, ok := t.runs[run]; !ok {
			t.runs[run] = j.UID
			t.w.Stats.Runs++
		} else if uid != j.UID {
			t.w.violated("I2", "run %s started twice", j.Key)
		}
	}
}

// agreed: nothing is active that a majority of the voters did not render alike.
func (t *witness) agreed(a *cluster.Activate) {
	c := t.w.team.commits[a.Commit]
	same := 0
	for n, d := range c.renders {
		if n < t.w.voters && d == a.D {
			same++
		}
	}
	if same <= t.w.voters/2 {
		t.w.violated("I3", "commit %s of %s is active as %.12s, as %d of %d voters have rendered it", a.Commit.Short(), a.Environment, a.D, same, t.w.voters)
	}
}

// rested: long after the last fault everything is as the last commits want it, and all nodes have come to the same.
func (t *witness) rested() {
	w := t.w
	s := w.chain.head
	for _, m := range w.nodes {
		switch {
		case !m.there():
			w.violated("I7", "node %s is not there", m.up.Name)
		case m.index != uint64(len(w.chain.log)) && m.index != w.chain.end(len(w.chain.batches)):
			w.violated("I7", "node %s has applied %d of %d entries", m.up.Name, m.index, len(w.chain.log))
		case m.overdue() > 0:
			w.violated("I7", "node %s has %d inputs that wait", m.up.Name, m.overdue())
		case len(m.procs) > 60:
			w.violated("I8", "node %s has %d pods", m.up.Name, len(m.procs))
		}
		for _, id := range m.ids() {
			if p, ok := s.Pod(id); !ok || p.Node != m.id {
				w.violated("I7", "pod %s/%s is on node %s, and the ledger does not have it there", m.procs[id].pod.Namespace, m.procs[id].pod.Name, m.up.Name)
			}
		}
	}
	for n := range s.Nodes().Values() {
		if n.Down || n.Unsteady || !n.Up || n.DiskPressure != "" || n.ClockAhead != 0 {
			w.violated("I7", "the ledger has node %s as down %v, unsteady %v, with disk pressure %q, its clock %d ms ahead", n.Name, n.Down, n.Unsteady, n.DiskPressure, n.ClockAhead)
		}
	}
	if ring, _ := s.Ring(); ring.Rebalance != nil {
		w.violated("I7", "a rebalance goes on: %+v", *ring.Rebalance)
	}
	for e := range s.Ended().Values() {
		w.violated("I7", "pod %s/%s of node %s is not taken down", e.Namespace, e.Name, e.Node)
	}
	for p := range s.Pods().Values() {
		m := w.find(p.Node)
		if p.Finished != 0 || p.Deleting != 0 || m == nil {
			continue
		}
		if q := m.procs[p.ID]; (q == nil || !q.running()) && s.Time()-p.Created > 120_000 {
			w.violated("I1", "pod %s/%s does not run on node %s", p.Namespace, p.Name, m.up.Name)
		}
	}
	for _, name := range environments {
		ref, _ := s.Refs().Get(refOf(name))
		if env, ok := s.Environments().Get(name); !ok || ref == nil || env.Commit != ref.ID {
			w.violated("I7", "environment %s: active is %+v, its ref is at %+v", name, env, ref)
		}
	}
	if err := rested(s); err != nil {
		w.violated("I7", "%v", err)
	}
	if err := Invariants(s); err != nil {
		w.violated("I2", "%v", err)
	}
	t.kept()
	t.punctual()
}

// punctual: every run that a schedule names came, once it was calm. Runs that must not overlap may let one pass.
func (t *witness) punctual() {
	const minute = 60_000
	s := t.w.chain.head
	for c := range s.CronJobs().Values() {
		every := map[string]int64{"*/5 * * * * ": 5, "*/7 * * * * ": 7}[c.Schedule]
		if every == 0 || c.Key.Name == "forbid" {
			continue
		}
		for at := t.calm - t.calm%minute + 5*minute; at < s.Time()-minute; at += minute {
			run := desired.Key{Group: "batch", Kind: "Job", Namespace: c.Key.Namespace, Name: control.RunName(c.Key.Name, at)}
			if at/minute%60%every == 0 && t.runs[c.UID+" "+run.String()] == "" {
				t.w.violated("I7", "run %s did not come", run)
			}
		}
	}
}

// kept: every push that was acknowledged is in the log, once.
func (t *witness) kept() {
	found := map[string]int{}
	for i, e := range t.w.chain.log {
		if what, ok := t.w.team.acked[e.Input.From]; ok && !t.w.chain.links[i].out.Duplicate && e.Input.Push != nil {
			found[what]++
		}
	}
	for _, what := range t.w.team.acked {
		if found[what] != 1 {
			t.w.violated("I4", "push %s was acknowledged, and is %d times in the log", what, found[what])
		}
	}
}
