package source

// Relation is how a new commit stands to the one that was accepted last.
type Relation uint8

const (
	Same      Relation = iota + 1
	Forward            // the new one descends from the old one
	Backward           // the new one is an ancestor of the old one: an old tip is replayed
	Diverged           // neither: the branch was rewritten
	Unrelated          // neither is known to descend from the other, since history ends at a shallow boundary
)

// String is a word for people.
func (r Relation) String() string {
	return [...]string{"unknown", "same", "forward", "backward", "diverged", "unrelated"}[min(r, 5)]
}

// Policy says which moves of a ref an environment follows.
type Policy string

const (
	Refuse Policy = "refuse" // forward only; going back is an explicit act
	Accept Policy = "accept" // as the forge has it: previews and personal branches
)

// Judge says whether a move of this kind is followed, and why not. Every policy but Accept refuses.
func (p Policy) Judge(r Relation) (ok bool, why string) {
	switch r {
	case Same, Forward:
		return true, ""
	}
	if p == Accept {
		return true, ""
	}
	switch r {
	case Backward:
		return false, "the new tip is older than the accepted commit; refs move forward only"
	case Diverged:
		return false, "the branch was rewritten: the new tip does not descend from the accepted commit"
	}
	return false, "the new tip is not known to descend from the accepted commit"
}
