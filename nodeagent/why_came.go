package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// maxCame bounds the commits through which an object has come.
const maxCame = 16

// came says through which promotions, rollbacks and hotfixes an object has come, who let it in, and who wrote it.
func (n *Node) came(ctx context.Context, s *cluster.State, o *cluster.Object) (lines []string) {
	src, id := n.Deployer.opt.Source, o.Commit
	for range maxCame {
		c, err := src.Commit(ctx, id)
		if err != nil {
			return lines
		}
		ask, err := promote.Read(c.Message)
		if err != nil || ask.Act == promote.Plain || ask.Act == promote.Pin || ask.Act == promote.Unpin {
			if len(lines) == 0 {
				return nil // origin has said so
			}
			return append(lines, fmt.Sprintf("written in %s %q by %s, %s", id.Short(), promote.Line(c.Subject(), 200), promote.Line(c.Author.String(), 200), c.Author.When.UTC().Format(time.DateTime)))
		}
		by := cmp.Or(ask.By, promote.Line(c.Author.Name, 100))
		switch ask.Act {
		case promote.Promotion:
			lines = append(lines, fmt.Sprintf("promoted from %s %s by %s%s", ask.From, ask.Source.Short(), by, approvedBy(ask)))
			if there := n.counterpart(s, o, ask.From); there != "" {
				id = there
			} else {
				id = ask.Source
			}
		case promote.Rollback:
			lines = append(lines, fmt.Sprintf("rolled back to %s by %s%s", ask.Source.Short(), by, because(ask.Reason)))
			id = ask.Source
		default: // a hotfix
			lines = append(lines, fmt.Sprintf("a hotfix by %s%s%s", by, because(ask.Reason), approvedBy(ask)))
			if len(c.Parents) != 2 {
				return append(lines, fmt.Sprintf("written in %s by %s", id.Short(), promote.Line(c.Author.String(), 200)))
			}
			id = c.Parents[1]
		}
	}
	return lines
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// approvedBy is what the gate of approvals said when a commit was made.
func approvedBy(a promote.Ask) string {
	var out []string
	for _, p := range a.Evidence {
		if p.Gate == promote.GateApprovals {
			out = append(out, "; approvals "+p.Text)
		}
	}
	return strings.Join(out, "")
}

// counterpart is the commit that last changed an object in the environment it has come from, if it is there as its author wrote it here.
func (n *Node) counterpart(s *cluster.State, o *cluster.Object, from string) source.ID {
	home, ok := s.Environments().Get(o.Environment)
	theirs, there := s.Environments().Get(from)
	if !ok || !there || o.Template == "" {
		return ""
	}
	key := o.Key
	if key.Namespace == home.Namespace {
		key.Namespace = theirs.Namespace
	}
	if other, ok := s.Objects().Get(key); ok && other.Environment == from && other.Template == o.Template {
		return other.Commit
	}
	return ""
}
