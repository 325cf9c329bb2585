package enginetest

import (
	"math"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// mixed is a ring whose machines are upgraded one by one, over all the time that is under faults: the first begins with a binary
// of today's engine version, the others with ones of the version before, which decode nothing that came later (Fields). Those
// of today's ask for what only they know from the first. Whose agent starts steps for itself, from a snapshot that members of
// either version have stepped to.
type mixed struct {
	fields Fields
	due    []int64 // when each machine is exchanged: at the next start of its agent, true time, µs
	Stats  MixedStats
}

// MixedStats is what happened while there were members of two versions.
type MixedStats struct {
	Older, Newer int // leaders of either version
	Early        int // inputs that say what the ring's version does not know
	Replayed     int // entries that a member of the older version stepped for itself
}

// Mix has the ring begin with members of two versions, all of which but the last are upgraded within so many ms.
func (w *World) Mix(fields Fields, within int64) *MixedStats {
	w.mixed = &mixed{fields: fields}
	for i, m := range w.nodes {
		due := w.between(0, within*millisecond)
		switch i {
		case 0:
			due = 0
		case len(w.nodes) - 1:
			due = math.MaxInt64
		}
		w.mixed.due = append(w.mixed.due, due)
		m.up.Engine = cluster.EngineVersion - 1
		w.mixed.started(m)
	}
	return &w.mixed.Stats
}

// Upgrade exchanges those that are still of the older version.
func (w *World) Upgrade() {
	for _, m := range w.nodes {
		w.mixed.due[m.n] = 0
		if m.alive && m.up.Engine < cluster.EngineVersion {
			m.stop()
			w.faults.restart(m, second)
		}
	}
}

// first is the version that the ring begins with.
func (x *mixed) first() int {
	if x == nil {
		return cluster.EngineVersion
	}
	return cluster.EngineVersion - 1
}

// started exchanges the binary of a machine whose agent starts, if it is time.
func (x *mixed) started(m *machine) {
	if x == nil || m.up.Engine == cluster.EngineVersion || m.w.now < x.due[m.n] {
		return
	}
	m.w.note("%s: it has a newer binary", m.up.Name)
	up := *m.up
	up.Engine = cluster.EngineVersion
	m.up = &up
}

// read is an entry as a member whose binary is of a version has it.
func (x *mixed) read(e cluster.Entry, version int) (cluster.Entry, error) {
	if x == nil || version == cluster.EngineVersion {
		return reread(e)
	}
	x.Stats.Replayed++
	return x.fields.Older(e, version)
}

// check holds a State against what members of the older version can read.
func (x *mixed) check(s *cluster.State) error {
	if x == nil {
		return nil
	}
	return x.fields.CheckRecords(s)
}

// stepped sees that the ring's version is one that all members know.
func (x *mixed) stepped(w *World, head *cluster.State, e cluster.Entry, out cluster.Outcome) {
	if x == nil {
		return
	}
	ring, _ := head.Ring()
	if a := e.Input.Activate; a != nil && a.Tree != "" && ring.Engine < cluster.EngineVersion {
		x.Stats.Early++
	}
	if e.Input.Lead != nil && out.Rejected == "" && ring.Engine < cluster.EngineVersion {
		if w.find(e.Input.From.Node).up.Engine < cluster.EngineVersion {
			x.Stats.Older++
		} else {
			x.Stats.Newer++
		}
	}
	if e.Input.SetEngine == nil || out.Rejected != "" {
		return
	}
	for _, m := range w.nodes {
		if m.up.Engine < ring.Engine {
			w.violated("I2", "the ring goes to engine version %d, and node %s knows %d", ring.Engine, m.up.Name, m.up.Engine)
		}
	}
}
