package cluster

import (
	"slices"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/promote"
)

// A Job that a gate names (verify) runs once on each render of the environment before that gate: it begins when all else there is
// healthy, and how it ends is evidence. It runs anew for another render though nothing of the Job has changed.

// verifies is the run that a Job of Git is to verify now; nil: no gate asks for it, or there is an answer already.
func (t *tx) verifies(o *Object) *Run {
	if o.Key.Group != "batch" || o.Key.Kind != "Job" || !t.s.isVerifier(o.Environment, o.Key.Name) {
		return nil
	}
	run, ok := t.s.lastRun(o.Environment)
	if !ok {
		return nil
	}
	if _, known := t.s.evidence.Get(evidenceKey{o.Environment, run.Render, promote.GateVerify + ":" + o.Key.Name}); known {
		return nil
	}
	return run
}

// isVerifier tells whether a gate of an environment that comes after this one names a Job of it: by what is active there, or will be by the
// tree that runs here.
func (s *State) isVerifier(environment, job string) bool {
	if env, ok := s.environments.Get(environment); ok && slices.Contains(env.Verify, job) {
		return true
	}
	for e := range s.environments.Values() {
		if e.Policy != nil && slices.Contains(e.Policy.Gates.Verify, job) && slices.Contains(e.Policy.After, environment) {
			return true
		}
	}
	return false
}

// queueVerifiers has the rules of an environment's verifying Jobs run.
func (t *tx) queueVerifiers(environment string) (any bool) {
	for o := range t.s.ObjectsOf(environment) {
		if t.verifies(o) != nil {
			t.queue.add(o.Key)
			any = true
		}
	}
	return any
}

// verifyLater tells whether a Job must wait because what it is to verify is not healthy yet.
func (t *tx) verifyLater(j *control.Job) bool {
	return j.Verifies != 0 && j.Started == 0 && t.s.ill.has(j.Environment)
}

// verified notes how a verifying Job has ended.
func (t *tx) verified(j *control.Job) {
	run, ok := t.s.runs.Get(runKey{j.Environment, j.Verifies})
	if !ok {
		return // it was forgotten
	}
	e := Evidence{Environment: j.Environment, Gate: promote.GateVerify + ":" + j.Key.Name, Render: run.Render, OK: j.State == control.JobComplete}
	if !e.OK {
		e.Text = clip("the Job failed: "+j.Reason+" "+j.Message, maxText)
	}
	t.s.evidence.set(&t.s, &EvidenceValue{Evidence: e, Since: t.now})
}
