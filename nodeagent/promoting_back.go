package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// takeBack goes back, where shoal.cue says so, from promotions that were not healthy in time, to what was. Nothing that was healthy once is
// taken back, nor what people have changed by hand, and the ring does not promote again what it has taken back.
func (p *Promoting) takeBack(ctx context.Context) {
	rules, s := p.rules()
	for _, e := range rules {
		if e.RollbackAfter == 0 {
			continue
		}
		last, ok := runOf(s, e.Name, "")
		if !ok || last.Act != promote.Promotion || last.Proven != 0 || p.opt.Node.Deployer.ringTime() < last.Since+e.RollbackAfter.Millis() {
			continue
		}
		good, ok := lastGood(s, e.Name)
		if !ok {
			p.tell(ctx, e.Name, last.Commit, fmt.Errorf("not healthy after %s, and nothing that ran before it ever was", e.RollbackAfter))
			continue
		}
		texts, _ := s.Ill(e.Name, 3)
		why := fmt.Sprintf("not healthy %s after it came in: %s", e.RollbackAfter, cmp.Or(strings.Join(texts, ", "), "it was not seen to be"))
		req := api.PromoteRequest{Act: promote.Rollback, Environment: e.Name, Source: string(good.Commit), By: promote.Automatic, Reason: why}
		out, err := p.opt.Node.Promote(ctx, req)
		if err == nil && out.Commit == "" && !out.Already {
			err = fmt.Errorf("not gone back to %s: %s", good.Commit.Short(), strings.TrimSpace(out.Verdict.String()))
		}
		if err != nil {
			p.tell(ctx, e.Name, last.Commit, err)
		}
	}
}

// lastGood is the newest run before the one that runs that was healthy, is another render, and that nobody went back from.
func lastGood(s *cluster.State, environment string) (cluster.Run, bool) {
	runs := slices.Collect(s.History(environment))
	for i := len(runs) - 2; i >= 0; i-- {
		if r := runs[i]; r.Render != runs[len(runs)-1].Render && r.Undone == "" && r.Proven != 0 {
			return *r, true
		}
	}
	return cluster.Run{}, false
}
