package nodeagent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// OpenPull is an open pull request, as a forge lists it.
type OpenPull struct {
	preview.Pull
	HeadRef string // full name of the ref that holds Head in the repository
}

// PullList is what a forge says of its pull requests.
type PullList struct {
	Open     []OpenPull
	Complete bool      // Open is all of them, and what is not in it is closed
	Why      string    // if it is not
	At       time.Time // when it was so, by the forge's clock
}

// Forge is what is asked of the forge that hosts the repository, and told to it. It may ask to be left alone for a time: then its errors
// have a method NotBefore() time.Time.
type Forge interface {
	Pulls(ctx context.Context, known []int) (PullList, error)
	// Approved says whether somebody who may write has set a label on a pull request after its head came, which was seen at a time.
	Approved(ctx context.Context, number int, label string, head source.ID, seenAt time.Time) (bool, error)
	// Show keeps what is said on a pull request up to date: a mark on its head, one comment, the environment.
	Show(ctx context.Context, s Shown) error
	// Hide says that an environment is no more.
	Hide(ctx context.Context, environment string) error
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
	Comment     string // Markdown
}

// Merger merges heads with their base, and has refs fetched.
type Merger interface {
	Has(id source.ID) bool
	Merge(ctx context.Context, base, head source.ID, c source.Commit) (id source.ID, conflicts []string, err error)
	Refs() []source.Ref
	// Fetch brings what is followed from the forge.
	Fetch(ctx context.Context) error
	// Prune forgets refs below refs/pull/ and refs/merge-requests/ but those to keep.
	Prune(keep []string) error
}

// PreviewingOptions are what a Previewing is made of.
type PreviewingOptions struct {
	Deployer *Deployer
	Leading  func() bool
	Forge    func() Forge // nil, or gives nil: there is none that can be asked, or no token
	Merger   Merger
	Comment  func(e preview.Environment) (state, line, url, comment string)
	Every    time.Duration // between looks; default 10 s
	Log      *slog.Logger
}

// Previewing keeps the ledger's previews those that the open pull requests ask for, on the leader. It remembers nothing that it could not
// find out again: what is there and not wanted goes, whatever was missed.
type Previewing struct {
	opt  PreviewingOptions
	wake chan struct{}

	merges map[[2]source.ID]preview.Merged // of base and head
	seen   map[int]seenHead
	later  time.Time // the forge is left alone until then
	failed string    // what was said last of a round that failed

	mu      sync.Mutex
	waiting []preview.Waiting
}

// seenHead is since when a pull request is known to have its head.
type seenHead struct {
	head source.ID
	at   time.Time
}

// NewPreviewing makes one; Run starts it.
func NewPreviewing(opt PreviewingOptions) *Previewing {
	opt.Every = cmp.Or(opt.Every, 10*time.Second)
	return &Previewing{opt: opt, wake: make(chan struct{}, 1), merges: map[[2]source.ID]preview.Merged{}, seen: map[int]seenHead{}}
}

// Wake has it look at once.
func (p *Previewing) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

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
			if err := p.round(ctx); err != nil && ctx.Err() == nil {
				if later, ok := err.(interface{ NotBefore() time.Time }); ok {
					p.later = later.NotBefore()
				}
				if text := err.Error(); text != p.failed {
					p.failed = text
					p.opt.Log.WarnContext(ctx, "previews not looked after, will retry", "err", err)
				}
			} else {
				p.failed = ""
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-p.wake:
		}
	}
}

// round brings the ledger's previews to what the open pull requests ask for.
func (p *Previewing) round(ctx context.Context) error {
	d := p.opt.Deployer
	l := d.lastList.Load()
	if l == nil || len(l.problems) > 0 || time.Now().Before(p.later) {
		return nil // what cannot be read closes nothing
	}
	policy, there, problems := promote.Previews(l.environments, d.opt.Branch)
	if len(problems) > 0 {
		return problems
	}
	in := preview.Input{Policy: policy}
	known := 0
	d.opt.Ledger.View(func(s *cluster.State) {
		known = s.Previews().Len()
		if ring, ok := s.Ring(); !ok || ring.Engine < cluster.PromotionSince {
			there, known = false, 0
			return
		}
		for have := range s.Previews().Values() {
			in.Have = append(in.Have, *have)
		}
	})
	if !there && known == 0 {
		return nil
	}
	for _, e := range l.environments {
		in.Taken, in.Refs = append(in.Taken, e.Name), append(in.Refs, e.Ref)
	}
	var pulls []OpenPull
	if there {
		var err error
		if pulls, in.Complete, err = p.pulls(ctx, policy, in.Have); err != nil {
			return err
		}
	} else {
		in.Complete = true // shoal.cue says nothing of previews: none is wanted
	}
	base, ok, err := d.opt.Source.Head(ctx, source.FullRefName(policy.Base))
	if err != nil || there && !ok {
		return err
	}
	p.follow(ctx, pulls)
	for i := range pulls {
		p.merge(ctx, policy, base, &pulls[i].Pull)
		in.Pulls = append(in.Pulls, pulls[i].Pull)
	}
	p.forget(pulls)
	res := preview.Wanted(in, d.ringTime())
	p.mu.Lock()
	p.waiting = res.Waiting
	p.mu.Unlock()
	if err := p.write(ctx, in.Have, res); err != nil {
		return err
	}
	return p.show(ctx, res, pulls)
}

// pulls are those that are open, or the branches of the pattern.
func (p *Previewing) pulls(ctx context.Context, policy preview.Policy, have []preview.Have) ([]OpenPull, bool, error) {
	if policy.From != preview.FromPulls {
		return p.branches(ctx, policy), true, nil
	}
	var forge Forge
	if p.opt.Forge != nil {
		forge = p.opt.Forge()
	}
	if forge == nil {
		return nil, false, fmt.Errorf("previews.from is %q, and no forge can be asked for pull requests: expected a repository on GitHub, GitLab, Gitea or Forgejo and a token (--forge-token), or a pattern of branches", policy.From)
	}
	var known []int
	for _, h := range have {
		if h.Number > 0 {
			known = append(known, h.Number)
		}
	}
	list, err := forge.Pulls(ctx, known)
	if err != nil {
		return nil, false, err
	}
	for i := range list.Open {
		o := &list.Open[i]
		if was, ok := p.seen[o.Number]; !ok || was.head != o.Head {
			p.seen[o.Number] = seenHead{o.Head, list.At}
		}
		if !o.Fork || policy.Forks.Approval == "" || !slices.Contains(o.Labels, policy.Forks.Approval) {
			continue
		}
		if slices.ContainsFunc(have, func(h preview.Have) bool { return h.Number == o.Number && h.Head == o.Head }) {
			o.Approved = o.Head // it was when its preview was made; the label still stands
			continue
		}
		yes, err := forge.Approved(ctx, o.Number, policy.Forks.Approval, o.Head, p.seen[o.Number].at)
		if err != nil {
			return nil, false, err
		}
		if yes {
			o.Approved = o.Head
		}
	}
	return list.Open, list.Complete, nil
}

// branches are those of the repository that a pattern fits, as if each were a pull request.
func (p *Previewing) branches(ctx context.Context, policy preview.Policy) (out []OpenPull) {
	for _, r := range p.opt.Merger.Refs() {
		name, ok := strings.CutPrefix(r.Name, "refs/heads/")
		if !ok || name == policy.Base || !policy.Fits(name) {
			continue
		}
		c, err := p.opt.Deployer.opt.Source.Commit(ctx, r.ID)
		if err != nil {
			continue
		}
		when := c.Committer.When.UnixMilli()
		out = append(out, OpenPull{HeadRef: r.Name, Pull: preview.Pull{
			Branch: name, Author: promote.Line(c.Author.Email, 200), Base: policy.Base, Head: r.ID, Opened: when, Updated: when,
		}})
	}
	return out
}

// follow has the heads fetched that are not here, and forgets those of pull requests that are not open.
func (p *Previewing) follow(ctx context.Context, pulls []OpenPull) {
	var refs []string
	lacks := false
	for _, o := range pulls {
		if len(refs) < preview.MaxQuota && o.HeadRef != "" {
			refs = append(refs, o.HeadRef)
			lacks = lacks || !p.opt.Merger.Has(o.Head)
		}
	}
	slices.Sort(refs)
	p.opt.Deployer.watched.Store(&refs)
	if lacks {
		all := slices.Clone(refs)
		for _, e := range p.opt.Deployer.lastList.Load().environments {
			all = append(all, e.Ref)
		}
		p.opt.Deployer.opt.Source.Follow(all)
		if err := p.opt.Merger.Fetch(ctx); err != nil {
			p.opt.Log.WarnContext(ctx, "heads of pull requests not fetched, will retry", "err", err)
		}
	}
	if err := p.opt.Merger.Prune(refs); err != nil {
		p.opt.Log.WarnContext(ctx, "heads of closed pull requests not forgotten", "err", err)
	}
}

// merge merges a head with the base, if it is here.
func (p *Previewing) merge(ctx context.Context, policy preview.Policy, base source.ID, pull *preview.Pull) {
	if pull.Base != policy.Base || pull.Head == "" || pull.Fork && pull.Approved != pull.Head || !p.opt.Merger.Has(pull.Head) {
		return
	}
	key := [2]source.ID{base, pull.Head}
	if m, ok := p.merges[key]; ok {
		pull.Merge = m
		return
	}
	head, err := p.opt.Deployer.opt.Source.Commit(ctx, pull.Head)
	if err != nil {
		return
	}
	who := Person
	who.When = head.Committer.When.UTC()
	id, conflicts, err := p.opt.Merger.Merge(ctx, base, pull.Head, source.Commit{
		Author: who, Committer: who, Message: fmt.Sprintf("Merge %s into %s\n", pull.Head.Short(), base.Short()),
	})
	if err != nil {
		p.opt.Log.WarnContext(ctx, "pull request not merged", "head", pull.Head.Short(), "err", err)
		return
	}
	m := preview.Merged{Head: pull.Head, Base: base, Commit: id, Conflicts: conflicts}
	if id != "" {
		if err := p.opt.Deployer.opt.Source.Pin(ctx, preview.Name(*pull), id); err != nil {
			p.opt.Log.WarnContext(ctx, "merge of a pull request not pinned", "commit", id.Short(), "err", err)
			return
		}
	}
	p.merges[key], pull.Merge = m, m
}

// forget drops what is remembered of pull requests that are not listed.
func (p *Previewing) forget(pulls []OpenPull) {
	heads, numbers := map[source.ID]bool{}, map[int]bool{}
	for _, o := range pulls {
		heads[o.Head], numbers[o.Number] = true, true
	}
	for key := range p.merges {
		if !heads[key[1]] {
			delete(p.merges, key)
		}
	}
	for n := range p.seen {
		if !numbers[n] {
			delete(p.seen, n)
		}
	}
	if len(p.merges) > 4*preview.MaxQuota { // the base has moved often
		clear(p.merges)
	}
}

// write appends what is another in the ledger.
func (p *Previewing) write(ctx context.Context, have []preview.Have, res preview.Result) error {
	was := map[string]preview.Environment{}
	for _, h := range have {
		was[h.Name] = h.Environment
	}
	append := func(in cluster.Preview) error {
		out, err := p.opt.Deployer.opt.Ledger.Append(ctx, cluster.Input{Preview: &in})
		if err != nil {
			return fmt.Errorf("append to the ledger: %w", err)
		}
		if out.Rejected != "" {
			p.opt.Log.WarnContext(ctx, "the ring refused a preview", "why", out.Rejected)
		}
		return nil
	}
	for _, g := range res.Gone {
		if err := append(cluster.Preview{Drop: g.Name, Why: g.Why}); err != nil {
			return err
		}
		p.opt.Deployer.opt.Journal.Add(Event{Object: "Environment " + g.Name, Reason: "Gone", Message: g.Why})
		if p.opt.Forge != nil && g.Number > 0 {
			if forge := p.opt.Forge(); forge != nil {
				if err := forge.Hide(ctx, g.Name); err != nil {
					p.opt.Log.WarnContext(ctx, "forge not told that a preview is gone", "preview", g.Name, "err", err)
				}
			}
		}
	}
	for i, e := range res.Environments {
		if reflect.DeepEqual(was[e.Name], e) || e.Commit == "" {
			continue
		}
		if err := append(cluster.Preview{Set: &res.Environments[i]}); err != nil {
			return err
		}
	}
	return nil
}

// show tells the pull requests what became of them.
func (p *Previewing) show(ctx context.Context, res preview.Result, pulls []OpenPull) error {
	if p.opt.Forge == nil {
		return nil
	}
	forge := p.opt.Forge()
	if forge == nil {
		return nil
	}
	heads := map[int]OpenPull{}
	for _, o := range pulls {
		heads[o.Number] = o
	}
	for _, e := range res.Environments {
		o, ok := heads[e.Number]
		if e.Number == 0 || !ok {
			continue
		}
		s := Shown{Number: e.Number, Head: o.Head, Branch: e.Branch, Environment: e.Name}
		s.State, s.Line, s.URL, s.Comment = p.opt.Comment(e)
		if err := forge.Show(ctx, s); err != nil {
			return err
		}
	}
	for _, w := range res.Waiting {
		o, ok := heads[w.Number]
		if w.Number == 0 || !ok {
			continue
		}
		if err := forge.Show(ctx, Shown{Number: w.Number, Head: o.Head, Branch: w.Branch, State: "pending", Line: w.Why}); err != nil {
			return err
		}
	}
	return nil
}
