package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// Before a node renders a commit for an environment it judges who signed it, and all that comes in with it since the commit that
// is active there, by the keys in the tree of that one: never by those that the candidate brings. The list of environments is
// what a commit of the default branch says that is judged likewise, or else the commit that is active: who may not sign
// declares, moves and retires nothing.
//
// Where nothing is active yet, an environment is judged from what is active elsewhere in the ring: from the environment that
// follows the default branch, or else from another one. In a ring that runs nothing the candidate's own keys rule: trust on first use.
//
// Where neither the active tree nor the candidate asks for signatures none is looked at.

const (
	// lateFor is for how long after its end a key counts in what it signed before, if a good one has merged or promoted that.
	lateFor = 90 * 24 * time.Hour
	// distrustFor is how long a commit is not judged again that was not trusted.
	distrustFor = time.Minute
	// maxJudged bounds what is remembered of commits that were judged.
	maxJudged = 256
)

// stand is what commits are judged from: a tree that is active.
type stand struct {
	commit source.ID // "": nothing is active
	keys   *trust.Keys
}

// judgement is what a commit came to.
type judgement struct {
	problems render.Problems // nil: it is trusted
	at       time.Time
}

// distrusted puts into v why a commit may not come in because of who signed it, and says so. It reports whether that is so, or
// could not be told.
func (d *Deployer) distrusted(ctx context.Context, env render.Environment, active *cluster.Environment, isPreview bool, v *Verdict, progress io.Writer) bool {
	if isPreview {
		active = nil // what a preview runs vouches for nothing
	}
	from, err := d.standFor(ctx, active)
	if err == nil && isPreview {
		v.Problems, err = d.judgePreview(ctx, from, env, v.Commit)
	} else if err == nil {
		v.Problems, err = d.judgeFrom(ctx, from, env.Name, env.Ref, v.Commit)
	}
	if err != nil {
		v.Err = fmt.Errorf("judge the signatures of %s: %w", v.Commit.Short(), err)
		return true
	}
	if v.Problems == nil {
		return false
	}
	v.standing = standing(from.commit) // who may sign is another question when another commit is active
	for _, p := range v.Problems {
		fmt.Fprintf(progress, "%s: %s\n", env.Name, p)
		d.opt.Journal.Add(Event{Object: "Environment " + env.Name, Reason: "NotTrusted", Message: p.String()})
	}
	fmt.Fprintf(progress, "%s: commit %s is not accepted; what ran goes on\n", env.Name, v.Commit.Short())
	d.opt.Log.WarnContext(ctx, "commit is not trusted", "environment", env.Name, "commit", v.Commit.Short(), "why", v.Problems.Error())
	return true
}

func standing(commit source.ID) string { return "judged from " + string(commit) }

// stillDistrusted says of a commit that was not trusted whether it is judged from the same tree as then.
func (d *Deployer) stillDistrusted(ctx context.Context, v *Verdict) bool {
	active := d.active(v.Environment)
	if d.shown(v.Environment) != nil {
		active = nil
	}
	from, err := d.standFor(ctx, active)
	return err == nil && v.standing == standing(from.commit)
}

// standFor is what commits of an environment are judged from.
func (d *Deployer) standFor(ctx context.Context, active *cluster.Environment) (stand, error) {
	if active == nil {
		var err error
		if active, err = d.voucher(ctx); active == nil {
			return stand{}, err
		}
	}
	keys, err := d.Keys(active.Commit)
	return stand{active.Commit, keys}, err
}

// voucher is the environment whose tree says who may declare environments and begin new ones: the one on the default branch,
// or else the first by name whose commit is here. Previews hold what strangers propose, and vouch for nothing. Nil: nothing runs.
func (d *Deployer) voucher(ctx context.Context) (*cluster.Environment, error) {
	var all []*cluster.Environment
	d.opt.Ledger.View(func(s *cluster.State) {
		for e := range s.Environments().Values() {
			if strings.HasPrefix(e.Ref, "refs/heads/") && !strings.HasPrefix(e.Name, "pr-") && !strings.HasPrefix(e.Name, "br-") {
				c := *e
				all = append(all, &c)
			}
		}
	})
	slices.SortFunc(all, func(a, b *cluster.Environment) int {
		if on := a.Ref == d.opt.Branch; on != (b.Ref == d.opt.Branch) {
			if on {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	var refs []string
	for _, e := range all {
		_, err := d.opt.Source.Commit(ctx, e.Commit)
		if err == nil {
			return e, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		refs = append(refs, e.Ref)
	}
	if len(refs) == 0 {
		return nil, nil
	}
	d.opt.Source.Follow(refs) // before it is known which branches there are
	return nil, errNotHere
}

// errNotHere says that nothing of what is active has come to this node yet. When it has, the deployer looks again.
var errNotHere = errors.New("the commits that are active are not on this node yet")

// trustedHead is the commit whose list of environments counts: the tip of the default branch, or else what is active. problems say
// why it is not the tip; with nothing active there is no other. No commit: what is active is not here yet.
func (d *Deployer) trustedHead(ctx context.Context, head source.ID) (commit source.ID, problems render.Problems, err error) {
	by, err := d.voucher(ctx)
	if err != nil {
		if errors.Is(err, errNotHere) {
			err = nil
		}
		return "", nil, err
	}
	from, name := stand{}, ""
	if by != nil {
		if from, err = d.standFor(ctx, by); err != nil {
			return "", nil, err
		}
		if by.Ref == d.opt.Branch {
			name = by.Name
		}
	}
	problems, err = d.judgeFrom(ctx, from, name, d.opt.Branch, head)
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("judge the signatures of %s: %w", head.Short(), err)
	case problems == nil || by == nil:
		return head, problems, nil
	case name != "": // its own verdict says so
		problems = nil
	}
	return by.Commit, problems, nil
}

// judgeFrom says why a commit is not trusted; nil if it is.
func (d *Deployer) judgeFrom(ctx context.Context, from stand, environment, ref string, tip source.ID) (render.Problems, error) {
	if from.commit == tip {
		return nil, nil
	}
	key := fmt.Sprint(from.commit, environment, ref, tip)
	if j, ok := d.judgements[key]; ok && (j.problems == nil || time.Since(j.at) < distrustFor) {
		return j.problems, nil
	}
	problems, err := d.judgeAnew(ctx, from, environment, ref, tip)
	if err != nil {
		return nil, err
	}
	if d.judgements == nil || len(d.judgements) >= maxJudged {
		d.judgements = map[string]judgement{}
	}
	d.judgements[key] = judgement{problems, time.Now()}
	return problems, nil
}

func (d *Deployer) judgeAnew(ctx context.Context, from stand, environment, ref string, tip source.ID) (problems render.Problems, err error) {
	keys, err := d.Keys(tip)
	if err != nil {
		return nil, err
	}
	for _, p := range keys.Problems() {
		problems = append(problems, render.Problem{File: p.File, Line: p.Line, Text: p.Text})
	}
	if len(problems) > 0 {
		return problems, nil
	}
	if opensTo(from.keys) {
		from.keys = nil
	}
	if !from.keys.Require() && !keys.Require() && len(from.keys.Problems()) == 0 {
		return nil, nil
	}
	begun := time.Now()
	r, v, cut, err := d.judgeRange(ctx, from, environment, tip, keys)
	if _, long := tooMuch(err); long || cut && err == nil && !v.Trusted { // a merge may reach back behind what was fetched of the history
		more, deep := d.opt.Source.Deepen(ctx)
		switch {
		case deep != nil:
			return nil, deep
		case more:
			r, v, cut, err = d.judgeRange(ctx, from, environment, tip, keys)
		}
	}
	why := ""
	switch text, long := tooMuch(err); {
	case long:
		why = fmt.Sprintf("commit %s is not trusted: %s, which is too much to judge at once; let it go there in steps", tip.Short(), text)
	case err != nil:
		return nil, err
	case v.Trusted:
		d.opt.Log.InfoContext(ctx, "signatures are in order", "environment", environment, "commit", tip.Short(), "commits", len(r.Commits), "took", milliseconds(begun, time.Now()))
		if from.commit == "" && environment != "" {
			d.opt.Journal.Add(Event{Object: "Environment " + environment, Reason: "TrustOnFirstUse", Message: fmt.Sprintf("nothing ran here: the keys in commit %s itself say who may sign, from now on", tip.Short())})
		}
		return nil, nil
	default:
		why = d.whyNot(ctx, v, r, cut)
	}
	return render.Problems{{File: ref, Text: why}}, nil
}

// judgeRange judges a commit from where it is to be judged.
func (d *Deployer) judgeRange(ctx context.Context, from stand, environment string, tip source.ID, keys *trust.Keys) (r trust.Range, v trust.Verdict, cut bool, err error) {
	if from.commit == "" {
		r, err = d.firstOf(environment, tip, keys)
	} else {
		r, cut, err = d.rangeOf(ctx, from, environment, tip)
	}
	if err == nil {
		v = trust.Judge(r)
	}
	return r, v, cut, err
}

// tooMuch tells what will be too long to read the next time too.
func tooMuch(err error) (text string, is bool) {
	e, is := errors.AsType[interface {
		error
		TooMuch() bool
	}](err)
	if !is || !e.TooMuch() {
		return "", false
	}
	return err.Error(), true
}

// opensTo says whether keys/ of an active tree is so broken that nobody could sign, and asks for no signatures either: the ring was of
// an older version when it was activated. As if there were none, the next commit brings them.
func opensTo(k *trust.Keys) bool {
	return len(k.Problems()) > 0 && !k.Require() && !slices.ContainsFunc(k.Problems(), func(p trust.Problem) bool { return strings.HasSuffix(p.File, "trust.yaml") })
}

// whyNot is a verdict for people: which commit, whose, and what is wrong with it.
func (d *Deployer) whyNot(ctx context.Context, v trust.Verdict, r trust.Range, cut bool) string {
	tip := r.Commits[len(r.Commits)-1].ID
	text := fmt.Sprintf("commit %s is not trusted: %s", tip.Short(), v.Flaw.Text)
	if v.Commit != "" {
		what := "commit " + v.Commit.Short()
		if c, err := d.opt.Source.Commit(ctx, v.Commit); err == nil {
			what += fmt.Sprintf(" %q by %s", promote.Line(c.Subject(), 80), promote.Line(c.Author.String(), 120))
		}
		text = fmt.Sprintf("%s is not trusted (%s): %s", what, v.Flaw.Reason, v.Flaw.Text)
		if v.Commit != tip {
			text += fmt.Sprintf("; it comes in with %s", tip.Short())
		}
	}
	if cut {
		text += "; this node's history does not reach to the beginning, and so it may be an old one that was trusted before"
	}
	return text
}
