package enginetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
)

// Sim is a ring of one node under faults, driven by one seed: a run with the same seed is the same run. The true
// Step makes the State; disk, clock, agent and pods are models:
//
//   - The ledger appends entries to a tail and syncs it some milliseconds later; only synced entries are stepped.
//     A crash loses the tail, or a part of it, and the State is made anew from the last snapshot and the log.
//   - The clock jumps. Ring time is max(previous, clock).
//   - The agent reports what its pods do, twice now and then, and again after a crash, with another boot.
//   - Pods start, become ready, crash, end and stop after delays; some never become ready. They live on when the
//     agent dies, and are gone after a reboot.
//   - A user commits manifests, good and bad ones, some on top of a render that is no longer active.
type Sim struct {
	Seed    uint64
	Content Store
	State   *cluster.State
	Log     []cluster.Entry // synced, stepped
	Stats   Stats

	// Plant breaks something of the models or of what they do with the State, to show that it is found.
	Plant Plant

	rng      *rand.Rand
	now      int64 // true time, ms
	skew     int64 // of the clock, ms
	calm     bool  // no more faults
	tail     []cluster.Entry
	syncAt   int64 // of the tail; 0: it is empty
	snapshot []byte
	boot     int
	seq      uint64
	node     *nodeModel
	user     *userModel
	faultAt  int64
	tickAt   int64 // no Tick before
	runs     map[string]string
}

// Stats is what a run did.
type Stats struct {
	Simulated int64 // ms
	Entries   int
	Rejected  int
	Crashes   int
	Reboots   int
	Jumps     int // of the clock
	Commits   int
	Started   int // pods
	Runs      int // of CronJobs
}

// Plant names a bug that is planted in a run.
type Plant string

// The bugs that can be planted.
const (
	NoPlant      Plant = ""
	EarlyRemoved Plant = "the agent reports a pod as gone while it still runs"
	LostEntry    Plant = "an entry that was acknowledged is lost with a crash"
	OtherTime    Plant = "replayed entries have another time"
	TwoStarts    Plant = "the agent forgets what it started when it crashes"
	Deaf         Plant = "the agent does not stop pods that are to stop"
)

// NewSim begins a run.
func NewSim(seed uint64) *Sim {
	s := &Sim{
		Seed: seed, Content: Store{}, State: cluster.NewState(), rng: rand.New(rand.NewPCG(seed, 0x5A0A1)),
		now: Epoch, runs: map[string]string{},
	}
	s.node = &nodeModel{s: s, procs: map[string]*process{}}
	s.user = &userModel{s: s}
	s.faultAt = s.now + s.between(5_000, 60_000)
	return s
}

// Run lives through d ms under faults, then through a calm in which everything must come to rest. It returns the
// first violation of an invariant.
func (s *Sim) Run(d int64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		s.Stats.Simulated = s.now - Epoch
		s.Stats.Entries = len(s.Log)
	}()
	s.boot = 1
	s.append(cluster.Input{Genesis: Genesis()}, 1)
	s.append(cluster.Input{NodeUp: Node(1)}, 1)
	if err := s.until(Epoch + d); err != nil {
		return err
	}
	s.calm, s.skew = true, 0
	s.user.last()
	// Ring time may have run ahead of the clock: nothing that waits for it happens before the clock is there.
	end := max(s.now, s.State.Time()) + 3_600_000
	if err := s.until(end); err != nil {
		return err
	}
	if err := s.rested(); err != nil {
		return fmt.Errorf("I7: an hour after the last fault: %w", err)
	}
	return s.replays()
}

// until lives through events up to a true time.
func (s *Sim) until(end int64) error {
	for {
		at := s.next()
		if at > end {
			s.now = end
			return nil
		}
		s.now = max(s.now, at)
		if err := s.event(); err != nil {
			return fmt.Errorf("at %s, entry %d: %w", Clock(s.now), len(s.Log), err)
		}
	}
}

// Clock is a time of a run, for people.
func Clock(ms int64) string {
	d := ms - Epoch
	return fmt.Sprintf("%d:%02d:%02d.%03d", d/3_600_000, d/60_000%60, d/1000%60, d%1000)
}

// next is the true time of the next event.
func (s *Sim) next() int64 {
	at := min(s.node.next(), s.user.at())
	if s.syncAt != 0 {
		at = min(at, s.syncAt)
	}
	if !s.calm {
		at = min(at, s.faultAt)
	}
	if wake := s.State.Wake(); wake != 0 {
		at = min(at, max(s.tickAt, wake-s.skew, s.now))
	}
	return at
}

// event does what is due.
func (s *Sim) event() error {
	if s.syncAt != 0 && s.syncAt <= s.now {
		if err := s.sync(); err != nil {
			return err
		}
	}
	if !s.calm && s.faultAt <= s.now {
		s.faultAt = s.now + s.between(2_000, 120_000)
		if err := s.fault(); err != nil {
			return err
		}
	}
	if err := s.node.run(); err != nil {
		return err
	}
	if s.user.at() <= s.now {
		s.user.commit()
	}
	if wake := s.State.Wake(); wake != 0 && s.tickAt <= s.now && wake <= max(s.now+s.skew, s.State.Time()) {
		s.tickAt = s.now + 250
		s.submit(cluster.Input{Tick: &cluster.Tick{}})
	}
	return nil
}

// submit appends an input of the agent, numbered; now and then it comes twice.
func (s *Sim) submit(in cluster.Input) {
	s.seq++
	in.From = cluster.From{Node: Node(1).ID, Boot: fmt.Sprintf("boot-%d", s.boot), Seq: s.seq}
	times := 1
	if s.chance(10) {
		times = 2
	}
	s.append(in, times)
}

func (s *Sim) append(in cluster.Input, times int) {
	for range times {
		e := cluster.Entry{Index: uint64(len(s.Log)+len(s.tail)) + 1, Time: max(s.now+s.skew, 1), Input: in}
		s.tail = append(s.tail, e)
	}
	if s.syncAt == 0 {
		s.syncAt = s.now + s.between(1, 20)
	}
}

// sync makes the tail durable, then steps it.
func (s *Sim) sync() error {
	entries := s.tail
	s.tail, s.syncAt = nil, 0
	for _, e := range entries {
		if err := s.step(e); err != nil {
			return err
		}
	}
	if len(entries) > 0 {
		s.node.look()
	}
	if s.chance(5) {
		var b bytes.Buffer
		if err := s.State.Encode(&b); err != nil {
			return err
		}
		s.snapshot = b.Bytes()
	}
	return nil
}

func (s *Sim) step(e cluster.Entry) error {
	e, err := reread(e)
	if err != nil {
		return err
	}
	before := s.State.Hash()
	pods := s.State.Pods().Len()
	out := cluster.Step(s.State, e, s.Content)
	s.Log = append(s.Log, e)
	if out.Stalled != "" {
		return fmt.Errorf("%s stalled: %s", e.Input, out.Stalled)
	}
	if out.Rejected != "" {
		s.Stats.Rejected++
		if s.State.Pods().Len() != pods || before == s.State.Hash() {
			return fmt.Errorf("%s was rejected, and pods came or went, or nothing was recorded", e.Input)
		}
		if ph := e.Input; ph.Phase == nil && ph.Activate == nil {
			return fmt.Errorf("%s was rejected: %s", ph, out.Rejected)
		}
	}
	for f := range s.State.Faults().Values() {
		return fmt.Errorf("%s: its rule failed: %s", f.Key, f.Reason)
	}
	if err := Invariants(s.State); err != nil {
		return fmt.Errorf("after %s: %w", e.Input, err)
	}
	return s.cronRuns()
}

// cronRuns: a run of a schedule is one job, however often it is thought of.
func (s *Sim) cronRuns() error {
	for j := range s.State.Jobs().Values() {
		if j.Owner.UID == "" {
			continue
		}
		key := fmt.Sprintf("%s %s", j.Owner.UID, j.Key)
		if uid, ok := s.runs[key]; !ok {
			s.runs[key] = j.UID
			s.Stats.Runs++
		} else if uid != j.UID {
			return fmt.Errorf("I2: run %s started twice", j.Key)
		}
	}
	return nil
}

// fault does one thing that goes wrong.
func (s *Sim) fault() error {
	switch s.rng.IntN(6) {
	case 0, 1:
		return s.crash()
	case 2:
		s.Stats.Reboots++
		s.node.procs = map[string]*process{}
		return s.crash()
	case 3, 4:
		s.Stats.Jumps++
		switch s.rng.IntN(4) {
		case 0:
			s.skew += s.between(1_000, 7_200_000)
		case 1:
			s.skew = -s.between(1_000, 365*86_400_000)
		default:
			s.skew = s.between(-5_000, 5_000)
		}
	default: // a node of the same key reports again, after its addresses changed
		up := Node(1)
		up.Address = up.Address.Next()
		s.submit(cluster.Input{NodeUp: up})
	}
	return nil
}

// crash kills the agent: of the tail a part may have reached the disk; the State is made anew.
func (s *Sim) crash() error {
	s.Stats.Crashes++
	kept := s.tail[:s.rng.IntN(len(s.tail)+1)]
	s.tail, s.syncAt = nil, 0
	if s.Plant == LostEntry && len(s.Log) > 10 {
		s.Log = s.Log[:len(s.Log)-1]
	}
	was := s.State.Hash()
	state, err := s.restore()
	if err != nil {
		return err
	}
	if state.Hash() != was {
		return fmt.Errorf("I4: after a crash the State has another hash")
	}
	s.State = state
	for _, e := range kept { // on disk, though nobody was told
		if err := s.step(e); err != nil {
			return err
		}
	}
	s.boot++
	s.seq = 0
	s.node.restart()
	return nil
}

// restore makes the State from the last snapshot and the log after it.
func (s *Sim) restore() (*cluster.State, error) {
	state := cluster.NewState()
	if s.snapshot != nil {
		var err error
		if state, err = cluster.DecodeState(bytes.NewReader(s.snapshot)); err != nil {
			return nil, err
		}
	}
	for _, e := range s.Log[min(int(state.Index()), len(s.Log)):] {
		cluster.Step(state, e, s.Content)
	}
	return state, nil
}

// replays: the whole log, and the log after a snapshot, give the State there is.
func (s *Sim) replays() error {
	if err := Reload(s.State); err != nil {
		return err
	}
	log := slices.Clone(s.Log)
	if s.Plant == OtherTime {
		for i := range log {
			log[i].Time++
		}
	}
	if err := Replay(s.State, log, s.Content); err != nil {
		return err
	}
	state, err := s.restore()
	if err != nil {
		return err
	}
	if state.Hash() != s.State.Hash() {
		return fmt.Errorf("a snapshot and the rest of the log give another hash")
	}
	return nil
}

// between is from lo up to hi.
func (s *Sim) between(lo, hi int64) int64 { return lo + s.rng.Int64N(hi-lo+1) }

// chance is true in n of 100 cases.
func (s *Sim) chance(n int) bool { return s.rng.IntN(100) < n }

// active is the digest of an environment's active render.
func (s *Sim) active(environment string) desired.Digest {
	env, _ := s.State.Environments().Get(environment)
	if env == nil {
		return ""
	}
	return env.D
}

func reread(e cluster.Entry) (cluster.Entry, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return e, err
	}
	var out cluster.Entry
	err = json.Unmarshal(b, &out)
	return out, err
}
