package nodeagent

import (
	"context"
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/engine/preview"
)

// leaving is a preview that is gone, and whose pull request does not say so yet.
type leaving struct {
	gone  preview.Gone
	tries int
}

// maxLeave is how often a forge is told that a preview is gone. It may have deleted the pull request.
const maxLeave = 20

// show tells the pull requests what became of them. What a forge does not take is of that pull request alone, and tried again.
func (p *Previewing) show(ctx context.Context, res preview.Result, pulls []OpenPull) {
	forge := p.opt.Forge()
	if forge == nil {
		return
	}
	heads := map[int]OpenPull{}
	for _, o := range pulls {
		heads[o.Number] = o
	}
	say := func(number int, tell func() error) (ok bool) {
		if number == 0 || ctx.Err() != nil || time.Now().Before(p.later) {
			return false
		}
		err := tell()
		p.complain(ctx, fmt.Sprintf("pull request %d does not show what became of it, will retry", number), err)
		return err == nil
	}
	for _, e := range res.Environments {
		o, ok := heads[e.Number]
		if !ok {
			continue
		}
		say(e.Number, func() error {
			s := Shown{Number: e.Number, Head: o.Head, Branch: e.Branch, Environment: e.Name}
			s.State, s.Line, s.URL, s.Comment = p.opt.Comment(e)
			return forge.Show(ctx, s)
		})
	}
	for _, w := range res.Waiting {
		o, ok := heads[w.Number]
		if !ok || !o.Head.Valid() {
			continue
		}
		state := "pending"
		if m := o.Merge; m.Head == o.Head && (len(m.Conflicts) > 0 || m.Why != "") {
			state = "failure"
		}
		line := w.Why
		if w.Place > 0 { // where it stands changes with each that is closed
			line = "all previews are taken; it is in the queue for the next free one"
		}
		say(w.Number, func() error {
			return forge.Show(ctx, Shown{Number: w.Number, Head: o.Head, Branch: w.Branch, State: state, Line: line})
		})
	}
	for name, l := range p.leave {
		told := say(l.gone.Number, func() error { return forge.Hide(ctx, l.gone.Number, name, p.opt.Farewell(l.gone)) })
		if l.tries++; told || l.tries >= maxLeave {
			delete(p.leave, name)
		}
	}
}
