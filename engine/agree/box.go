package agree

import (
	"slices"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/source"
)

// keepEnvironments bounds of how many environments a Box keeps votes and decisions: of those that were voted on last.
const keepEnvironments = 1000

// Box keeps who has rendered what, and what was decided, by environment; of each the newest alone. The zero Box is
// empty. It is not safe for concurrent use.
type Box struct {
	slips  map[string]*slip
	recent []string // environments, the one that was voted on last at the end
}

// slip is what is known of one environment.
type slip struct {
	cast     map[place.NodeID]Vote
	commit   source.ID // that decision is on; "": there is none
	decision Decision
}

// Cast takes the vote of a node, in place of its last one on the environment.
func (b *Box) Cast(node place.NodeID, v Vote) { b.open(v.Environment).cast[node] = v }

// Judge holds the leader's own vote to those that were cast.
func (b *Box) Judge(own Vote, voters []place.NodeID) Verdict {
	s := b.slips[own.Environment]
	if s == nil {
		s = &slip{}
	}
	return Judge(own, voters, s.cast)
}

// Begin forgets what was decided on a commit that is judged anew.
func (b *Box) Begin(environment string, commit source.ID) {
	if s := b.slips[environment]; s != nil && s.commit == commit {
		s.commit, s.decision = "", Decision{}
	}
}

// Decide notes what became of a commit.
func (b *Box) Decide(environment string, commit source.ID, d Decision) {
	s := b.open(environment)
	s.commit, s.decision = commit, d
}

// Decided returns what became of a commit, if that is known.
func (b *Box) Decided(environment string, commit source.ID) (Decision, bool) {
	s := b.slips[environment]
	if s == nil || s.commit != commit || commit == "" {
		return Decision{}, false
	}
	return s.decision, true
}

// open is the slip of an environment, which is the last one to be given up now.
func (b *Box) open(environment string) *slip {
	if i := slices.Index(b.recent, environment); i >= 0 {
		b.recent = slices.Delete(b.recent, i, i+1)
	}
	b.recent = append(b.recent, environment)
	s := b.slips[environment]
	if s != nil {
		return s
	}
	if b.slips == nil {
		b.slips = map[string]*slip{}
	}
	if len(b.recent) > keepEnvironments {
		delete(b.slips, b.recent[0])
		b.recent = slices.Delete(b.recent, 0, 1)
	}
	s = &slip{cast: map[place.NodeID]Vote{}}
	b.slips[environment] = s
	return s
}
