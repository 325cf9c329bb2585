package bare

import "fmt"

// Limits bounds what is taken in. A zero field means its default.
type Limits struct {
	Pack     int64 // bytes of a pack; default 512 MiB
	Objects  int   // objects in a pack; default 300,000
	Object   int64 // inflated bytes of one object; default 32 MiB
	Inflated int64 // inflated bytes of all objects, the results of deltas counted; default 4 GiB
	Depth    int   // deltas upon deltas; default 512 (git writes 50, gc --aggressive 250 at most)
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	if l.Pack == 0 {
		l.Pack = 512 << 20
	}
	if l.Objects == 0 {
		l.Objects = 300_000
	}
	if l.Object == 0 {
		l.Object = 32 << 20
	}
	if l.Inflated == 0 {
		l.Inflated = 4 << 30
	}
	if l.Depth == 0 {
		l.Depth = 512
	}
	return l
}

// LimitError says which bound a pack broke.
type LimitError struct {
	What string // "the pack", "object 12 at offset 3456"
	Got  string // "is longer than 512 MiB"
}

func (e *LimitError) Error() string { return e.What + " " + e.Got }

func tooBig(what string, limit int64, unit string) error {
	return &LimitError{what, fmt.Sprintf("has more than %d %s", limit, unit)}
}
