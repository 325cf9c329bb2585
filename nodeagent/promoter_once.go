package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// What is asked twice is done once: a command that is repeated because an agent died over it, two people at the same time, a leader and the
// one before it. And what is done is what was shown, not what goes by the same name meanwhile.

// made tells whether what is asked is on the branch already. Who allows deletions asks for more than who did not.
func (m *motion) made(req api.PromoteRequest) bool {
	if !promote.Made(req.Environment, m.asked.ask, m.tip, m.of) {
		return false
	}
	said, _ := m.tip.Trailer(source.TrailerAllowDelete)
	return req.AllowDelete == "" || said == promote.Line(req.AllowDelete, 20)
}

// found is the answer where it is.
func (m *motion) found(out api.Promoted) api.Promoted {
	out.Commit, out.Found = string(m.tip.ID), true
	if ask, err := promote.Read(m.tip.Message); err == nil {
		out.By = ask.By
	}
	return out
}

// stale says that the branch is not where it was when what is asked was shown; nil if it is, or was not shown.
func (m *motion) stale(req api.PromoteRequest) error {
	at := cmp.Or(string(m.tip.ID), api.OverNothing)
	if req.Over == "" || req.Over == at || req.Act == promote.Pin || req.Act == promote.Unpin {
		return nil
	}
	was := "had no commit"
	if req.Over != api.OverNothing {
		was = "stood at " + source.ID(req.Over).Short()
	}
	return fmt.Errorf("%s %s when this was shown, and %s; look again", branch(m.env.Ref), was, m.now())
}

// now says where the branch is, and who has brought it there.
func (m *motion) now() string {
	if m.tip.ID == "" {
		return "is gone now"
	}
	who, what := promote.Line(m.tip.Author.Name, 100), "a commit"
	if ask, err := promote.Read(m.tip.Message); err == nil && ask.Act != promote.Plain {
		who, what = cmp.Or(ask.By, who), "a "+string(ask.Act)
	}
	return fmt.Sprintf("stands at %s now, %s by %s", m.tip.ID.Short(), what, cmp.Or(who, "somebody"))
}

// movedWithin bounds how long a node waits to hear where a branch is that somebody else has moved.
const movedWithin = 5 * time.Second

// overtaken is the answer to who came second: what is on the branch may be what he has asked for.
func (d *Deployer) overtaken(ctx context.Context, m *motion, req api.PromoteRequest, out api.Promoted, failed error) (api.Promoted, error) {
	ctx, cancel := context.WithTimeout(ctx, movedWithin)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		tip, _, err := d.opt.Source.Head(ctx, m.env.Ref)
		if err == nil && tip != m.tip.ID {
			break
		}
		select {
		case <-ctx.Done():
			return out, failed
		case <-look.C:
		}
	}
	now, err := d.motion(ctx, req)
	switch {
	case err != nil:
		return out, failed
	case now.made(req):
		return now.found(out), nil
	case now.answer.Already:
		out.Already = true
		return out, nil
	}
	return out, fmt.Errorf("%w: %s %s; look again", failed, branch(m.env.Ref), now.now())
}
