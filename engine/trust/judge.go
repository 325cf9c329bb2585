package trust

import (
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
)

// Commit is one commit of a range.
type Commit struct {
	ID  source.ID
	Raw []byte // the object's exact bytes, without Git's header
	// Paths are those that differ from the first parent: what the commit changes on its line, a merge too.
	// For a commit without parents they are all its files.
	Paths []string
	// Keys is keys/ at this commit; nil if it is the same as at the first parent.
	Keys *Keys
}

// Range is what is to be judged.
type Range struct {
	// Environment is the one that the tip is for; "" if it is for none, so that only keys and paths count.
	Environment string
	// Last is the commit that was trusted last, Active its keys/. With Last "" there is none yet, and Active is what somebody vouches for.
	Last   source.ID
	Active *Keys
	// Known are the ancestors of Last that are parents of commits in the range, with their keys/.
	Known map[source.ID]*Keys
	// Commits are all that the tip reaches and Last does not, on all lines, each after its parents; the last is the tip.
	Commits []Commit
	Now     time.Time
	// Late is for how long after a key has expired commits still count that it signed before, by their own time, if they come in
	// by a merge or a promotion that a good key has signed. Promotions of old commits need it. Zero is the strict choice.
	Late time.Duration
}

// By says who signed a commit.
type By struct {
	Commit    source.ID
	Principal string // "" if it is not signed by a key that counts, and need not be
	Key       string // Key.ID
}

// Verdict is what Judge says.
type Verdict struct {
	Trusted bool
	By      []By  // every commit of the range, in its order, up to the one that is not trusted
	Keys    *Keys // keys/ at the tip, if it is trusted
	// Commit is the first that is not trusted, and Flaw says why; Commit is "" if the range as a whole is at fault.
	Commit source.ID
	Flaw   *Flaw
}

// String is a line for people.
func (v Verdict) String() string {
	switch {
	case v.Trusted:
		return fmt.Sprintf("trusted: %d commits", len(v.By))
	case v.Commit == "":
		return "not trusted: " + v.Flaw.Text
	}
	return fmt.Sprintf("not trusted: commit %s: %s", v.Commit.Short(), v.Flaw.Text)
}

// Judge says whether the tip of r is trusted. It depends on r alone; the package comment has the rules.
func Judge(r Range) Verdict {
	switch {
	case len(r.Active.Problems()) > 0:
		return Verdict{Flaw: &Flaw{BrokenKeys, "keys/ of the active tree: " + r.Active.Problems()[0].Error()}}
	case len(r.Commits) > MaxCommits:
		return Verdict{Flaw: &Flaw{Incomplete, fmt.Sprintf("%d commits since the last that was trusted; at most %d", len(r.Commits), MaxCommits)}}
	case len(r.Commits) == 0 && r.Last == "":
		return Verdict{Flaw: &Flaw{Incomplete, "there is no commit"}}
	case len(r.Commits) == 0:
		return Verdict{Trusted: true, Keys: r.Active}
	}
	j := judge{Range: r}
	if at, flaw := j.read(); flaw != nil {
		return j.no(at, flaw)
	}
	if flaw := j.relate(); flaw != nil {
		return Verdict{Flaw: flaw}
	}
	if at, flaw := j.signatures(); flaw != nil {
		return j.no(at, flaw)
	}
	v := Verdict{Trusted: true, Keys: j.nodes[len(j.nodes)-1].keys}
	for i := range j.nodes {
		by, flaw := j.counts(i)
		if flaw != nil {
			v = j.no(i, flaw)
			break
		}
		j.by = append(j.by, by)
	}
	v.By = j.by
	return v
}

// judge is a range while it is looked at.
type judge struct {
	Range
	nodes   []node
	changes []change
	by      []By
}

// node is one commit of the range.
type node struct {
	signedCommit
	parents []int   // those in the range
	before  []*Keys // keys/ at every parent
	keys    *Keys   // keys/ here
	fresh   bool    // keys/ here is what a commit of the range made it
	line    bool    // on the environment's own line: the tip, and first parents
	signer  *Key    // who signed it, if anybody that is heard of did
	flaw    *Flaw   // why the signature is worth nothing; matters only where one is required
}

// change is a commit of the range that changed keys/.
type change struct {
	at      int
	added   map[string]bool // keys that no parent knew
	removed map[string]bool // keys that some parent knew
	past    []bool          // by index: an ancestor
	future  []bool          // by index: a descendant
}

func (j *judge) no(at int, flaw *Flaw) Verdict {
	return Verdict{By: j.by, Commit: j.Commits[at].ID, Flaw: flaw}
}

// read parses the commits and joins them with their parents and keys.
func (j *judge) read() (int, *Flaw) {
	index := make(map[source.ID]int, len(j.Commits))
	j.nodes = make([]node, len(j.Commits))
	tip := len(j.Commits) - 1
	for i, c := range j.Commits {
		n := &j.nodes[i]
		var err error
		if n.signedCommit, err = parseCommit(c.ID, c.Raw); err != nil {
			return i, &Flaw{Malformed, err.Error()}
		}
		if _, twice := index[c.ID]; twice || c.ID == j.Last {
			return i, &Flaw{Incomplete, "stands twice in the range"}
		}
		for _, p := range n.Parents {
			keys, known := j.Known[p]
			if at, ok := index[p]; ok {
				n.fresh = n.fresh || len(n.before) == 0 && j.nodes[at].fresh
				n.parents = append(n.parents, at)
				keys, known = j.nodes[at].keys, true
			} else if p == j.Last {
				keys, known = j.Active, true
			}
			if !known {
				return i, &Flaw{Incomplete, fmt.Sprintf("its parent %s was not looked at", p.Short())}
			}
			if len(keys.Problems()) > 0 {
				keys = nil // of an old commit whose keys/ were broken nothing is known
			}
			n.before = append(n.before, keys)
		}
		if len(n.before) == 0 {
			n.before = []*Keys{j.Active}
		}
		switch n.keys = n.before[0]; {
		case c.Keys == nil:
		case len(c.Keys.Problems()) == 0:
			n.fresh = n.fresh || c.Keys.digested() != n.keys.digested()
			n.keys = c.Keys
		case i == tip: // a later commit may mend them; until then those of the parent hold
			return i, &Flaw{BrokenKeys, c.Keys.Problems()[0].Error()}
		}
		index[c.ID] = i
	}
	for i := tip; ; {
		j.nodes[i].line = true
		if len(j.nodes[i].Parents) == 0 {
			break
		}
		next, ok := index[j.nodes[i].Parents[0]]
		if !ok {
			break
		}
		i = next
	}
	return 0, nil
}

// relate finds the commits that changed keys/ on their line, and what lies before and behind each.
func (j *judge) relate() *Flaw {
	for i := range j.nodes {
		n := &j.nodes[i]
		if n.keys.digested() == n.before[0].digested() {
			continue
		}
		c := change{at: i, added: map[string]bool{}, removed: map[string]bool{}}
		for _, b := range n.before {
			for _, key := range b.Keys() {
				if len(n.Parents) > 0 && n.keys.key(key.ID) == nil {
					c.removed[key.ID] = true
				}
			}
		}
		for _, key := range n.keys.Keys() {
			if n.known(key.ID) == nil {
				c.added[key.ID] = true
			}
		}
		if len(j.changes) == MaxChanges {
			return &Flaw{Incomplete, fmt.Sprintf("more than %d commits change keys/", MaxChanges)}
		}
		j.changes = append(j.changes, c)
	}
	for k := range j.changes {
		c := &j.changes[k]
		c.past, c.future = make([]bool, len(j.nodes)), make([]bool, len(j.nodes))
		for _, p := range j.nodes[c.at].parents {
			c.past[p] = true
		}
		for i := c.at - 1; i >= 0; i-- {
			for _, p := range j.nodes[i].parents {
				c.past[p] = c.past[p] || c.past[i]
			}
		}
		for i := c.at + 1; i < len(j.nodes); i++ {
			for _, p := range j.nodes[i].parents {
				c.future[i] = c.future[i] || p == c.at || c.future[p]
			}
		}
	}
	return nil
}

// known is the key as a parent knows it, or nil.
func (n *node) known(id string) *Key {
	for _, b := range n.before {
		if key := b.key(id); key != nil {
			return key
		}
	}
	return nil
}

// signatures verifies every signature, and finds the first commit without one that is worth anything where one is required.
func (j *judge) signatures() (int, *Flaw) {
	all := []*Keys{j.Active}
	for i := range j.nodes {
		all = append(all, j.nodes[i].before...)
		all = append(all, j.nodes[i].keys)
	}
	r := newRing(distinct(all))
	for i := range j.nodes {
		n := &j.nodes[i]
		if n.signature == "" {
			n.flaw = &Flaw{Unsigned, "is not signed"}
		} else {
			n.signer, n.flaw = r.signer(n.payload, n.signature)
		}
		if n.flaw != nil && j.required(i) {
			return i, n.flaw
		}
	}
	return 0, nil
}

func distinct(all []*Keys) []*Keys {
	seen := map[*Keys]bool{}
	var out []*Keys
	for _, k := range all {
		if !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	return out
}

// rules are the keys/ that commit i has to satisfy: the active ones, and of those that the range made, the ones it stands on and
// the ones beside it.
func (j *judge) rules(i int) []*Keys {
	rules := []*Keys{j.Active}
	for _, p := range j.nodes[i].parents {
		if j.nodes[p].fresh {
			rules = append(rules, j.nodes[p].keys)
		}
	}
	for _, c := range j.changes {
		if c.at != i && !c.past[i] && !c.future[i] {
			rules = append(rules, j.nodes[c.at].keys)
		}
	}
	return rules
}

func (j *judge) required(i int) bool {
	for _, k := range j.rules(i) {
		if k.Require() {
			return true
		}
	}
	return false
}

// counts says who signed commit i, or why it is not trusted.
func (j *judge) counts(i int) (By, *Flaw) {
	n := &j.nodes[i]
	by := By{Commit: n.ID}
	flaw := n.flaw
	if flaw == nil {
		flaw = j.standing(i)
	}
	switch {
	case flaw == nil:
		by.Principal, by.Key = n.signer.Principal, n.signer.ID
	case j.required(i):
		return By{}, flaw
	}
	return by, nil
}

// standing says why the key that signed commit i does not count for it, or nil.
func (j *judge) standing(i int) *Flaw {
	n := &j.nodes[i]
	id := n.signer.ID
	if n.known(id) == nil && j.Active.key(id) == nil {
		return j.missing(i)
	}
	if j.Active.key(id) == nil && !j.added(id, -1, i) {
		return &Flaw{Revoked, fmt.Sprintf("key %s of %s is no longer in keys/", id, n.signer.Principal)}
	}
	for _, c := range j.changes {
		if c.removed[id] && c.at != i && !c.past[i] && !j.added(id, c.at, i) {
			return &Flaw{Revoked, fmt.Sprintf("key %s of %s was removed from keys/ by commit %s", id, n.signer.Principal, j.nodes[c.at].ID.Short())}
		}
	}
	late := j.Late
	if n.line {
		late = 0
	}
	for _, k := range j.rules(i) {
		key := k.key(id)
		if key == nil {
			continue
		}
		if flaw := key.good(n.Committer.When, j.Now, late); flaw != nil {
			return flaw
		}
		if err := k.allows(key.Principal, j.Environment, !n.line || j.Environment == "", j.Commits[i].Paths); err != nil {
			return &Flaw{Rights, err.Error()}
		}
	}
	return nil
}

// missing tells a key that was taken away from one that comes later or elsewhere.
func (j *judge) missing(i int) *Flaw {
	key := j.nodes[i].signer
	for _, c := range j.changes {
		if c.removed[key.ID] && !c.past[i] {
			return &Flaw{Revoked, fmt.Sprintf("key %s of %s was removed from keys/ by commit %s", key.ID, key.Principal, j.nodes[c.at].ID.Short())}
		}
	}
	return &Flaw{UnknownKey, fmt.Sprintf("key %s of %s is not in keys/ before this commit", key.ID, key.Principal)}
}

// added says whether a commit before i added the key, and did so after commit from; -1 stands for the active tree.
func (j *judge) added(id string, from, i int) bool {
	for _, c := range j.changes {
		if c.added[id] && c.future[i] && (from < 0 || c.past[from]) {
			return true
		}
	}
	return false
}
