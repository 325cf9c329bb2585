package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// OpenPull is an open pull request, as a forge lists it.
type OpenPull struct {
	preview.Pull
	HeadRef string // full name of the ref that holds Head in the repository
	// MergeRef is the full name of the ref at which the forge keeps its own merge with the base; "": it keeps none.
	MergeRef string
}

// PullList is what a forge says of its pull requests.
type PullList struct {
	Open     []OpenPull
	Closed   []int     // of those that were asked about, the forge says that they are closed
	Unknown  []int     // of those, the forge neither lists nor finds them: no proof of anything
	Complete bool      // Open is all of them, and what is in none of the three is closed
	Why      string    // if it is not
	At       time.Time // when it was so, by the forge's clock
}

// Forge is what is asked of the forge that hosts the repository, and told to it. It may ask to be left alone for a time: then its errors
// have a method NotBefore() time.Time.
type Forge interface {
	// Pulls lists the open pull requests. known are the numbers of those that have a preview.
	Pulls(ctx context.Context, known []int) (PullList, error)
	// Approved says whether somebody who may write has set a label on a pull request after its head came, which was seen at a time.
	Approved(ctx context.Context, number int, label string, head source.ID, seenAt time.Time) (bool, error)
	// Show keeps what is said on a pull request up to date: a mark on its head, one comment, the environment.
	Show(ctx context.Context, s Shown) error
	// Hide says that a pull request's environment is no more.
	Hide(ctx context.Context, number int, environment, comment string) error
}

// Shown is what a pull request shows of its preview.
type Shown struct {
	Number      int
	Head        source.ID
	Branch      string
	Environment string // "" if there is none
	State       string // "pending", "success", "failure"
	Line        string // one line
	URL         string
	Comment     string // Markdown; "": what stands there stays
}

// Merger merges heads with their base, and has them fetched.
type Merger interface {
	Has(id source.ID) bool
	// Merge makes the commit that merges head into base, or says in which paths both sides cannot be had.
	Merge(ctx context.Context, base, head source.ID, c source.Commit) (id source.ID, conflicts []string, err error)
	// HostMerge makes the same of what the forge itself has merged at a ref; "": it has not, or others.
	HostMerge(ctx context.Context, ref string, base, head source.ID, c source.Commit) (id source.ID, err error)
	// Branches are those that the repository has now: all of them, or an error.
	Branches(ctx context.Context) ([]source.Ref, error)
	// Take brings commits that the repository has at refs. The error is of those that did not come.
	Take(ctx context.Context, refs []source.Ref) error
}

// PreviewingOptions are what a Previewing is made of.
type PreviewingOptions struct {
	Deployer *Deployer
	Leading  func() bool
	Forge    func() Forge // nil, or gives nil: there is none that can be asked, or no token
	// Comment is what a pull request says of its preview, and Farewell of one that is gone.
	Comment  func(e preview.Environment) (state, line, url, comment string)
	Farewell func(g preview.Gone) string
	Every    time.Duration // between looks; default 10 s
	Log      *slog.Logger
}

// Previewing keeps the ledger's previews those that the open pull requests ask for, on the leader. It remembers nothing that it could not
// find out again: what is there and not wanted goes, whatever was missed.
type Previewing struct {
	opt  PreviewingOptions
	wake chan struct{}

	merges map[[2]source.ID]merged // of base and head
	seen   map[int]seenHead
	leave  map[string]*leaving // previews that are gone, until their pull requests say so
	later  time.Time           // the forge is left alone until then
	said   map[string]string   // what was said last of what does not work, by what that is

	mu      sync.Mutex
	waiting []preview.Waiting
}

// seenHead is since when a pull request is known to have its head.
type seenHead struct {
	head source.ID
	at   time.Time
}

// previewGap is the least time between two looks, whatever happens.
const previewGap = 300 * time.Millisecond

// NewPreviewing makes one; Run starts it.
func NewPreviewing(opt PreviewingOptions) *Previewing {
	opt.Every = cmp.Or(opt.Every, 10*time.Second)
	if opt.Forge == nil {
		opt.Forge = func() Forge { return nil }
	}
	p := &Previewing{opt: opt, wake: make(chan struct{}, 1)}
	p.rest()
	return p
}

// Wake has it look at once.
func (p *Previewing) Wake() { signal(p.wake) }

// Waiting are the pull requests without a preview, as far as this node knows: it leads, or did.
func (p *Previewing) Waiting() []preview.Waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.waiting)
}

// Run works until ctx ends.
func (p *Previewing) Run(ctx context.Context) error {
	tick := time.NewTicker(p.opt.Every)
	defer tick.Stop()
	for {
		if p.opt.Leading() {
			p.complain(ctx, "previews not looked after, will retry", p.round(ctx))
		} else {
			p.rest()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(previewGap, p.opt.Every)):
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-p.wake:
		case <-p.opt.Deployer.listed:
		}
	}
}

// rest forgets what only the leader may go by.
func (p *Previewing) rest() {
	p.merges, p.seen, p.leave, p.said = map[[2]source.ID]merged{}, map[int]seenHead{}, map[string]*leaving{}, map[string]string{}
	p.mu.Lock()
	p.waiting = nil
	p.mu.Unlock()
}

// complain says what does not work, once for as long as it is so, and leaves the forge alone if it asked for that.
func (p *Previewing) complain(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil {
		delete(p.said, what)
		return
	}
	if later, ok := errors.AsType[interface {
		error
		NotBefore() time.Time
	}](err); ok {
		p.later = later.NotBefore()
	}
	if text := err.Error(); text != p.said[what] {
		p.said[what] = text
		p.opt.Log.WarnContext(ctx, what, "err", err)
	}
}

// inLedger is what the ledger says of previews.
type inLedger struct {
	have    []preview.Have
	taken   []string // names of environments that are none
	orphans []string // environments that were previews
}

func (p *Previewing) stands(l *list) (at inLedger, known bool) {
	p.opt.Deployer.opt.Ledger.View(func(s *cluster.State) {
		if ring, ok := s.Ring(); !ok || ring.Engine < cluster.PromotionSince {
			return
		}
		known = true
		for have := range s.Previews().Values() {
			at.have = append(at.have, *have)
		}
		for e := range s.Environments().Values() {
			declared := slices.ContainsFunc(l.environments, func(d render.Environment) bool { return d.Name == e.Name })
			if _, is := s.Previews().Get(e.Name); is && !declared {
				continue
			}
			if wasPreview(e) && !declared {
				at.orphans = append(at.orphans, e.Name)
			} else {
				at.taken = append(at.taken, e.Name)
			}
		}
	})
	return at, known
}

// round brings the ledger's previews to what the open pull requests ask for.
func (p *Previewing) round(ctx context.Context) error {
	d := p.opt.Deployer
	l := d.lastList.Load()
	if l == nil || len(l.problems) > 0 {
		return nil // what cannot be read closes nothing
	}
	policy, there, problems := promote.Previews(l.environments, d.opt.Branch)
	if len(problems) > 0 {
		return problems
	}
	if held, err := d.opt.Claims.Held(ctx); held != "" || err != nil {
		return err // it is another ring's repository, whose pull requests are that ring's to speak on
	}
	at, known := p.stands(l)
	if !known {
		return nil // the ring's engine knows no previews yet
	}
	for _, name := range at.orphans { // activated by who had not heard that it is gone
		if err := d.appendRetire(ctx, name, "its preview is gone"); err != nil {
			return err
		}
	}
	in := preview.Input{Policy: policy, Have: at.have, Taken: at.taken}
	for _, e := range l.environments {
		in.Taken, in.Refs = append(in.Taken, e.Name), append(in.Refs, e.Ref)
	}
	var pulls []OpenPull
	switch {
	case there && time.Now().Before(p.later):
		return nil // the forge asked for peace
	case there:
		list, err := p.pulls(ctx, in)
		if err != nil {
			return err
		}
		pulls, in.Complete, in.Closed, in.Unknown = list.Open, list.Complete, list.Closed, list.Unknown
	case len(at.have) == 0 && len(p.leave) == 0:
		return nil
	default:
		in.Complete = true // shoal.cue says nothing of previews: none is wanted
	}
	base, err := p.base(ctx, l, policy)
	if err != nil {
		return err
	}
	res := p.wanted(ctx, base, in, pulls)
	p.forget(pulls)
	p.mu.Lock()
	p.waiting = res.Waiting
	p.mu.Unlock()
	if err := p.write(ctx, at.have, res); err != nil {
		return err
	}
	p.show(ctx, res, pulls)
	return nil
}

// base is the commit that heads are merged with; "" if there is none. Of the default branch it is the one whose shoal.cue counts: who
// may not sign brings nothing into previews either.
func (p *Previewing) base(ctx context.Context, l *list, policy preview.Policy) (source.ID, error) {
	if policy.Base == "" {
		return "", nil
	}
	ref := source.FullRefName(policy.Base)
	if ref == p.opt.Deployer.opt.Branch {
		return l.commit, nil
	}
	branches, err := p.opt.Deployer.opt.Merger.Branches(ctx)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(branches, func(r source.Ref) bool { return r.Name == ref })
	if i < 0 {
		p.complain(ctx, "pull requests not merged", fmt.Errorf("previews.base: there is no branch %s", policy.Base))
		return "", nil
	}
	p.complain(ctx, "pull requests not merged", p.opt.Deployer.opt.Merger.Take(ctx, branches[i:i+1]))
	return branches[i].ID, nil
}

// write appends what is another in the ledger.
func (p *Previewing) write(ctx context.Context, have []preview.Have, res preview.Result) error {
	d := p.opt.Deployer
	was := map[string]preview.Environment{}
	for _, h := range have {
		was[h.Name] = h.Environment
	}
	for _, g := range res.Gone {
		if err := p.append(ctx, cluster.Preview{Drop: g.Name, Why: g.Why}); err != nil {
			return err
		}
		d.opt.Journal.Add(Event{Object: "Environment " + g.Name, Reason: "Gone", Message: g.Why})
		d.opt.Log.InfoContext(ctx, "preview is gone", "environment", g.Name, "why", g.Why)
		if g.Number > 0 && len(p.leave) < preview.MaxQuota {
			p.leave[g.Name] = &leaving{gone: g}
		}
	}
	for i, e := range res.Environments {
		if delete(p.leave, e.Name); reflect.DeepEqual(was[e.Name], e) || e.Commit == "" {
			continue
		}
		if err := p.append(ctx, cluster.Preview{Set: &res.Environments[i]}); err != nil {
			return err
		}
		if was[e.Name].Commit == e.Commit {
			continue
		}
		if err := d.opt.Source.Pin(ctx, e.Name, e.Commit); err != nil { // it is pinned again when it is activated
			d.opt.Log.WarnContext(ctx, "merge of a pull request not pinned", "environment", e.Name, "commit", e.Commit.Short(), "err", err)
		}
	}
	return nil
}

func (p *Previewing) append(ctx context.Context, in cluster.Preview) error {
	out, err := p.opt.Deployer.opt.Ledger.Append(ctx, cluster.Input{Preview: &in})
	if err != nil {
		return fmt.Errorf("append to the ledger: %w", err)
	}
	if out.Rejected != "" {
		p.complain(ctx, "the ring refused a preview", errors.New(out.Rejected))
	}
	return nil
}
