package source

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// A repository names the ring that runs it: ClaimRef stands for a commit whose trailer Shoal-Ring is that ring's identity.
// It is made and moved by compare-and-swap alone, so of two rings that begin on one repository one has it, and a ring
// that was born of a lost disk finds the name of the one that still runs.

// ClaimRef is the ref that names a repository's ring.
const ClaimRef = "refs/shoal/ring"

// MaxClaim bounds the bytes of what is read of a claim.
const MaxClaim = 64 << 10

// EmptyTree is the tree of a commit without files.
const EmptyTree ID = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

// Claim is what is known of ClaimRef. The zero Claim says that it was not read yet.
type Claim struct {
	Read bool   `json:"read"`
	ID   ID     `json:"id,omitempty"`   // what the ref stands for; "": there is no such ref
	Ring string `json:"ring,omitempty"` // identity of the ring it names; "" if it names none
	By   string `json:"by,omitempty"`   // who made it, a name
	When int64  `json:"when,omitempty"` // since when, by the clock of who made it; s since 1970
	Flaw string `json:"flaw,omitempty"` // why it names no ring, if there is a ref and it does not
	Gone bool   `json:"gone,omitempty"` // the ref is there no longer; the rest says what it was
}

// Unclaimed is what is known of a repository that was read and has no ClaimRef.
var Unclaimed = Claim{Read: true}

// ParseClaim reads the raw bytes of the commit that ClaimRef stands for. What is no claim has a Flaw.
func ParseClaim(id ID, raw []byte) Claim {
	if len(raw) > MaxClaim {
		return FlawedClaim(id, fmt.Sprintf("it is longer than %d bytes", MaxClaim))
	}
	c, err := ParseCommit(id, raw)
	if err != nil {
		return FlawedClaim(id, err.Error())
	}
	ring, ok := c.Trailer(TrailerRing)
	switch {
	case !ok:
		return FlawedClaim(id, "its commit has no trailer "+TrailerRing)
	case CheckRing(ring) != nil:
		return FlawedClaim(id, TrailerRing+": "+CheckRing(ring).Error())
	}
	return Claim{Read: true, ID: id, Ring: ring, By: plain(c.Committer.Name), When: c.Committer.When.Unix()}
}

// FlawedClaim is of a ref that stands for something else than a claim; flaw says what is wrong with it.
func FlawedClaim(id ID, flaw string) Claim { return Claim{Read: true, ID: id, Flaw: plain(flaw)} }

// EncodeClaim is the raw bytes of a commit that claims a repository for a ring. before is the claim that it replaces: it
// becomes the parent if it is one, so that the history of a claim says who had it.
func EncodeClaim(ring, by string, when time.Time, before Claim) []byte {
	who := Person{Name: by, Email: "ring@shoal.local", When: when.UTC()}
	c := Commit{Tree: EmptyTree, Author: who, Committer: who, Message: ClaimSubject(ring) + "\n\n" + ClaimTrailer(ring) + "\n"}
	if before.Ring != "" && !before.Gone {
		c.Parents = []ID{before.ID}
	}
	return EncodeCommit(c)
}

// ClaimSubject is the first line of a claim's message, and ClaimTrailer the last.
func ClaimSubject(ring string) string { return "Claimed for ring " + ring[:min(len(ring), 8)] }

// ClaimTrailer is the line of a claim that counts.
func ClaimTrailer(ring string) string { return TrailerRing + ": " + ring }

// CheckRing says what is wrong with the identity of a ring, which is 32 hex digits.
func CheckRing(ring string) error {
	if len(ring) != 32 || strings.Trim(ring, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is no ring's identity; expected 32 hex digits", cut(ring))
	}
	return nil
}

// ErrNoClaim is of bytes that were kept and are no Claim.
var ErrNoClaim = errors.New("not a claim that was kept")

// Check says whether a claim that another node gives, or that was kept, hangs together.
func (c Claim) Check() error {
	switch {
	case c.ID != "" && !c.ID.Valid(), c.ID == "" && c != (Claim{Read: c.Read}), c.Ring != "" && CheckRing(c.Ring) != nil:
		return ErrNoClaim
	case c.ID != "" && (c.Ring == "") == (c.Flaw == ""), c.ID != "" && !c.Read:
		return ErrNoClaim
	case c.By != plain(c.By), c.Flaw != plain(c.Flaw):
		return ErrNoClaim
	}
	return nil
}

// Then is what is known once a claim was read again. A ref that is gone does not undo what it said: a repository that was
// put back from a backup without it is claimed again by the ring that had it, and not by one that waits.
func (c Claim) Then(now Claim) Claim {
	if now == Unclaimed && c.ID != "" {
		c.Gone = true
		return c
	}
	return now
}

// Standing is how a ring stands to its repository.
type Standing uint8

const (
	Unread  Standing = iota // the repository was not read yet
	Free                    // nobody has claimed it
	Own                     // it names this ring
	Foreign                 // it names another
	Unclear                 // what it names is no ring: it may be another's
	Orphan                  // it named another, or none, and the ref is gone: nobody has said that this ring may have it
)

// String is a word for people.
func (s Standing) String() string {
	return [...]string{"unread", "unclaimed", "claimed", "claimed by another ring", "claimed in vain", "given up"}[min(s, Orphan)]
}

// Holds says whether a ring that stands so activates nothing, because another may run the repository.
func (s Standing) Holds() bool { return s == Foreign || s == Unclear || s == Orphan }

// Standing is how a ring stands to the repository of which this is known.
func (c Claim) Standing(ring string) Standing {
	switch {
	case !c.Read:
		return Unread
	case c.ID == "", c.Gone && c.Ring == ring:
		return Free
	case c.Gone:
		return Orphan
	case c.Ring == "":
		return Unclear
	case c.Ring == ring:
		return Own
	}
	return Foreign
}

// plain makes what a stranger wrote fit for a line on a terminal: at most 200 bytes, nothing that cannot be printed.
func plain(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > most {
		s = string(bytes.ToValidUTF8([]byte(s[:most]), nil))
	}
	return strings.TrimSpace(s)
}
