package trust

import "strconv"

// Reason is why a commit or an approval does not count.
type Reason uint8

const (
	Malformed    Reason = iota + 1 // could be read two ways, is too large, or is not the object it is said to be
	Unsigned                       // and must be signed
	BadSignature                   // does not cover the bytes, or is of a form that is not accepted
	UnknownKey                     // no key that counts here
	Expired                        // or not good yet
	Revoked                        // removed from keys/, or revoked by its owner
	Rights                         // the signer may not do this here
	BrokenKeys                     // keys/ cannot be read at the tip, or in the active tree
	Incomplete                     // the range is not whole, or too long to judge
)

// String is a word for people.
func (r Reason) String() string {
	switch r {
	case Malformed:
		return "malformed"
	case Unsigned:
		return "unsigned"
	case BadSignature:
		return "bad signature"
	case UnknownKey:
		return "unknown key"
	case Expired:
		return "expired key"
	case Revoked:
		return "revoked key"
	case Rights:
		return "outside its rights"
	case BrokenKeys:
		return "broken keys"
	case Incomplete:
		return "incomplete range"
	}
	return "reason " + strconv.Itoa(int(r))
}

// Flaw says why something does not count, for programs and for people.
type Flaw struct {
	Reason Reason
	Text   string
}

// Error is the text alone.
func (f *Flaw) Error() string { return f.Text }
