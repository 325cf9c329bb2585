package cluster

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/promote"
)

// PromotionSince is the engine version from which environments are promoted into: the ledger knows what ran where and was
// healthy since when, and what its gates say decides whether a commit is activated.
const PromotionSince = 9

// maxClaim bounds what is said of one commit, in bytes of JSON.
const maxClaim = 256 << 10

// Judge says what the gates of an environment make of a claim at ring time now, ms. The facts of the claim are what Git and
// signatures tell; what ran, and what was found on it, is the State's.
func (s *State) Judge(environment string, c Claim, now int64) promote.Verdict {
	rules := s.Rules(environment, c.Declared)
	facts := c.Facts
	facts.Runs, facts.Evidence = nil, nil
	for _, from := range rules.After {
		for r := range s.History(from) {
			run := r.Run
			if run.Until == 0 && run.Healthy == 0 {
				run.Ill = s.illText(from)
			}
			facts.Runs = append(facts.Runs, run)
			for e := range s.EvidenceOn(from, run.Render) {
				facts.Evidence = append(facts.Evidence, promote.Evidence{
					Gate: e.Gate, Environment: from, Render: e.Render, Since: e.Since, Expires: e.Expires, OK: e.OK, Signer: s.nodeName(e), Text: e.Text,
				})
			}
		}
	}
	facts.Past = s.Past(environment)
	return promote.Judge(rules, c.Ask, facts, now)
}

// Rules is what rules in an environment, where the default branch says declared of it.
func (s *State) Rules(environment string, declared promote.Environment) promote.Environment {
	var active *promote.Environment
	if env, ok := s.environments.Get(environment); ok {
		active = env.Policy
	}
	return promote.Govern(declared, active)
}

func (s *State) nodeName(e *EvidenceValue) string {
	if n, ok := s.nodes.Get(e.Node); ok {
		return n.Name
	}
	return string(e.Node)
}

// illText is why an environment is not healthy, in a line.
func (s *State) illText(environment string) string {
	texts, more := s.Ill(environment, 3)
	if more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, ", ")
}

// pass holds back what the environment's gates do not let in.
func (t *tx) pass(a *Activate) error {
	if a.Ungated {
		return nil
	}
	if a.Claim == nil {
		rules := t.s.Rules(a.Environment, promote.Environment{Name: a.Environment, Ref: a.Ref})
		if rules.Gated() {
			return fmt.Errorf("environment %s: gates rule what comes in, and nothing is said of commit %s", a.Environment, a.Commit.Short())
		}
		return nil
	}
	c := *a.Claim
	switch b, err := json.Marshal(c); {
	case err != nil:
		return fmt.Errorf("environment %s: claim: %w", a.Environment, err)
	case len(b) > maxClaim:
		return fmt.Errorf("environment %s: its claim has %d bytes, at most %d may be", a.Environment, len(b), maxClaim)
	case c.Facts.Candidate.ID != a.Commit || c.Facts.Candidate.Tree != a.Tree:
		return fmt.Errorf("environment %s: the claim is not of commit %s", a.Environment, a.Commit.Short())
	}
	if env, ok := t.s.environments.Get(a.Environment); ok && c.Facts.Active.ID != env.Commit {
		return fmt.Errorf("environment %s: the claim is on top of commit %s, and %s is active", a.Environment, c.Facts.Active.ID.Short(), env.Commit.Short())
	}
	c.Declared.Name, c.Declared.Ref = a.Environment, a.Ref
	if v := t.s.Judge(a.Environment, c, t.now); v.State != promote.Open {
		return fmt.Errorf("environment %s: commit %s is held: %s", a.Environment, a.Commit.Short(), heldBy(v))
	}
	return nil
}

// heldBy is what holds a commit back, in a line.
func heldBy(v promote.Verdict) string {
	var texts []string
	for _, g := range v.Blocks() {
		texts = append(texts, g.Why())
	}
	return strings.Join(texts, "; ")
}
