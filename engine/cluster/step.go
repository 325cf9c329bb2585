package cluster

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
)

// Outcome is what an entry made of the State.
type Outcome struct {
	// Rejected says why the input changed nothing; "" when it was taken.
	Rejected string
	// Duplicate tells that the input was taken before, so that it changed nothing now.
	Duplicate bool
	// Stalled says why this binary, or this node's content store, cannot step the entry: bytes are missing, or
	// the engine version is too new. The State is as it was, its index included: the entry is to be stepped
	// again once that was mended, and none after it before. Rejected is set too.
	Stalled string
	// Changed lists every record that is another one now, or gone, by table and key.
	Changed []Change
}

// Change names a record that changed.
type Change struct {
	Table   string
	Key     string
	Deleted bool
}

// Bounds of one Step: an input that would take more is rejected, alike everywhere.
const (
	maxWork       = 200_000   // rules run and records set
	maxChanges    = 1<<20 - 1 // the place of a change within its entry has 20 bits
	maxRejections = 256       // the newest are kept
	faultRetry    = 300_000   // ms until a rule that failed is tried again
)

var errBudget = errors.New("takes more work than one entry may")

// stall is panicked by whatever finds that the entry cannot be stepped here and now.
type stall struct{ why string }

// Step makes of s what the entry e says, reading objects from content. It depends on its arguments alone. An
// input that is wrong, or makes a rule of ours panic, changes nothing but the list of rejected inputs.
// Entries must be what their JSON decodes to, in rising order of their index.
func Step(s *State, e Entry, content desired.Content) Outcome {
	if e.Index <= s.index {
		return Outcome{Rejected: fmt.Sprintf("entry %d is not after entry %d", e.Index, s.index)}
	}
	if e.Index >= 1<<43 {
		return Outcome{Rejected: fmt.Sprintf("entry %d: the index is too large", e.Index)}
	}
	t := begin(s, e, content)
	if !t.fresh(e.Input.From) {
		return t.finish(s, Outcome{Duplicate: true})
	}
	early := ""
	if ring, ok := t.s.Ring(); ok {
		e.Input, early = e.Input.asOf(ring.Engine)
	}
	save := t.s
	err := t.apply(e.Input)
	if why, ok := errors.AsType[stallError](err); ok {
		return Outcome{Rejected: why.Error(), Stalled: why.Error()}
	}
	if err != nil {
		t.s = save
		t.s.seating = nil
		out := t.reject(e, err)
		out.Rejected = cmp.Or(early, out.Rejected) // what is recorded is what all binaries say
		return t.finish(s, out)
	}
	out := t.finish(s, Outcome{})
	if out.Rejected != "" { // a record could not be settled: as if the input had panicked
		t = begin(s, e, content)
		t.fresh(e.Input.From)
		return t.finish(s, t.reject(e, errors.New(out.Rejected)))
	}
	return out
}

// tx is one Step at work: s is a copy that becomes the State if all goes well.
type tx struct {
	s           State
	now         int64
	content     desired.Content
	work        int  // done so far
	limit       int  // of work
	strict      bool // too much work rejects the input; else it is left to a later Tick
	made        int  // objects named by this entry so far: makes their uids and names differ
	queue       queue
	unfit       map[string]string          // classes of pods that found no node in this Step, with the reason
	returned    map[string][]control.PodID // pods that resume may bring back, by owner; nil: not looked for yet
	balance     bool                       // pods may have to be told to move
	round       *round                     // that is at work; nil: none is
	room        bool                       // there may be room for pods that found none
	nextService uint32                     // from where to look for a free cluster IP
}

func begin(s *State, e Entry, content desired.Content) *tx {
	t := &tx{s: *s, content: content, limit: maxWork, strict: e.Input.Activate != nil}
	s.seating = nil // what a Step does to it is not undone: only one that succeeds gives it back
	if t.s.seating != nil {
		t.s.seating.content = content
	}
	t.s.stirred = nil
	t.s.index = e.Index
	t.s.time = max(s.time, e.Time)
	t.now = t.s.time
	for _, table := range t.s.tables() {
		table.begin()
	}
	return t
}

// finish settles hashes and versions and puts the result into s.
func (t *tx) finish(s *State, out Outcome) Outcome {
	for _, table := range t.s.tables() {
		if err := table.settle(&t.s, &out.Changed); err != nil {
			return Outcome{Rejected: err.Error()}
		}
	}
	for _, table := range t.s.tables() {
		table.forget()
	}
	*s = t.s
	return out
}

// apply runs the input, then every rule it concerns. A panic is an error.
func (t *tx) apply(in Input) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = asError(p)
		}
	}()
	if err := t.take(in); err != nil {
		return err
	}
	t.settleRules()
	for t.settleHealth() {
		t.settleRules()
	}
	planted(in)
	return nil
}

type stallError struct{ why string }

func (e stallError) Error() string { return e.why }

func asError(p any) error {
	switch p := p.(type) {
	case stall:
		return stallError(p)
	case ruleError:
		return p
	case error:
		if errors.Is(p, errBudget) {
			return p
		}
		return fmt.Errorf("panic: %w", p)
	default:
		return fmt.Errorf("panic: %v", p)
	}
}

// reject records why an input was not taken. A stale report (of a pod that is gone, say) is ordinary and is
// not recorded, so that the list keeps what people must see.
func (t *tx) reject(e Entry, err error) Outcome {
	reason := clip(err.Error(), 1024)
	if _, ok := errors.AsType[staleError](err); ok {
		return Outcome{Rejected: reason}
	}
	t.s.rejected.set(&t.s, &Rejection{Index: e.Index, Time: t.now, From: e.Input.From, Input: e.Input.String(), Reason: reason})
	for t.s.rejected.Len() > maxRejections {
		for index := range t.s.rejected.All() {
			t.s.rejected.drop(&t.s, index)
			break
		}
	}
	return Outcome{Rejected: reason}
}

// staleError is a report that came too late to matter.
type staleError struct{ error }

// spend counts work against the bound of one Step.
func (t *tx) spend(n int) {
	if t.work += n; t.work > t.limit || n < 0 {
		panic(fmt.Errorf("%w (%d rules and records)", errBudget, maxWork))
	}
}

// clip cuts s to at most n bytes, at a rune.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
