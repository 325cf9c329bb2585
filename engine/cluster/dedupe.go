package cluster

import "slices"

const (
	maxBoots = 8  // boots remembered of a submitter
	window   = 64 // inputs of a boot that may overtake each other
)

// fresh tells whether an input was not taken before, and remembers it. Inputs without a sequence number are
// always fresh. Of each boot the last 64 numbers are known one by one, so that inputs on their way at the same
// time may arrive in any order; an older number counts as taken.
func (t *tx) fresh(f From) bool {
	if f.Seq == 0 {
		return true
	}
	f.Node, f.Boot = f.Node[:min(len(f.Node), 64)], f.Boot[:min(len(f.Boot), 64)]
	old, ok := t.s.seen.Get(f.Node)
	now := &Seen{Node: f.Node}
	if ok {
		now.Boots = slices.Clone(old.Boots)
	}
	i := slices.IndexFunc(now.Boots, func(b Boot) bool { return b.Boot == f.Boot })
	if i < 0 {
		now.Boots = append(now.Boots, Boot{Boot: f.Boot, Last: f.Seq, Window: 1})
		if len(now.Boots) > maxBoots {
			now.Boots = now.Boots[1:]
		}
		t.s.seen.set(&t.s, now)
		return true
	}
	b := &now.Boots[i]
	switch {
	case f.Seq > b.Last:
		if ahead := f.Seq - b.Last; ahead < window {
			b.Window = b.Window<<ahead | 1
		} else {
			b.Window = 1
		}
		b.Last = f.Seq
	case b.Last-f.Seq >= window || b.Window>>(b.Last-f.Seq)&1 == 1:
		return false
	default:
		b.Window |= 1 << (b.Last - f.Seq)
	}
	t.s.seen.set(&t.s, now)
	return true
}
