package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// DeployOptions are what a Deployer is made of; all but Ring, Renders and Claims are required.
type DeployOptions struct {
	Node     place.NodeID
	Ring     Ring        // nil: this node is the only one
	Renders  *OwnRenders // nil: nobody asks what this node has rendered itself
	Claims   *Claims     // nil: the repository is this ring's alone
	Votes    *Votes
	Ledger   Ledger
	Content  Content
	Source   Source
	Renderer Renderer
	Images   Images
	Lander   Lander
	Merger   Merger
	// Sign puts the ring's signature into the raw bytes of a commit; nil: the ring has no key.
	Sign    func(raw []byte) ([]byte, error)
	Branch  string // the default branch, "refs/heads/main": environments are declared there
	Journal *Journal
	Log     *slog.Logger
}

// Deployer makes commits the desired state: one at a time, the newest first to be seen. A commit that was
// overtaken while it waited is passed over.
type Deployer struct {
	opt DeployOptions

	work sync.Mutex // held while a commit is rendered and activated

	searched map[string]source.ID // by vanished environment: no word retires it in this commit and those before it
	rendered map[string]string    // by environment: what was tried last to render all that it runs, in vain

	lastList atomic.Pointer[list] // that was read last
	listed   chan struct{}        // it is of another commit

	judgements map[string]judgement // of who signed commits

	mu       sync.Mutex // guards what follows
	verdicts map[string]Verdict
	keys     map[source.Item]*trust.Keys     // by what stands under keys/ in a tree
	gone     map[string]string               // vanished environments: what is to be done, in words
	places   map[string]map[desired.Key]spot // of each object, by environment, as last rendered
}

// Verdict is what became of the newest commit that was looked at for an environment.
type Verdict struct {
	Environment string
	Ref         string
	Commit      source.ID
	Accepted    bool // it was activated, or nothing differs
	Changed     bool // the desired state is another one now
	Held        []string
	Problems    render.Problems
	Warnings    render.Problems // allowed, and probably not meant
	Err         error           // it could not be judged: the next look tries again
	D           desired.Digest
	Apps        int
	Objects     int
	Begun       time.Time
	Rendered    time.Time
	Activated   time.Time
	Gates       promote.Verdict // what holds it, if its environment's gates do

	images   []string // references, sorted
	against  string   // what ran when the ring refused it; "" if it did not
	standing string   // what it was judged from, if those who signed it may not; "" if they may
	held     string   // why the ring activates nothing; "" if it does
	closed   seen     // what was known when the gates were found closed
	quota    string   // by which it was refused; "" if it was not
}

// NewDeployer makes a Deployer.
func NewDeployer(opt DeployOptions) *Deployer {
	return &Deployer{opt: opt, listed: make(chan struct{}, 1), searched: map[string]source.ID{}, rendered: map[string]string{}, verdicts: map[string]Verdict{}, places: map[string]map[desired.Key]spot{}}
}

// Verdicts are the newest ones, by environment.
func (d *Deployer) Verdicts() map[string]Verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.verdicts)
}

// Look brings every environment whose ref has moved to where it points now, and says on progress what becomes
// of it. Problems of a commit are in its verdict; err is for what should be tried again.
func (d *Deployer) Look(ctx context.Context, progress io.Writer) ([]Verdict, error) {
	d.work.Lock()
	defer d.work.Unlock()
	defer d.saveRenders(ctx)
	list, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	if list == nil {
		return nil, nil // without a default branch nothing is declared, and nothing vanished
	}
	if list.early {
		return nil, d.renderActive(ctx, list)
	}
	if last := d.lastList.Swap(list); last == nil || last.commit != list.commit {
		signal(d.listed)
	}
	if len(list.problems) > 0 {
		v := Verdict{Environment: "", Ref: d.opt.Branch, Problems: list.problems}
		d.note(v)
		return []Verdict{v}, d.renderActive(ctx, list)
	}
	refs := make([]string, len(list.environments))
	for i, env := range list.environments {
		refs[i] = env.Ref
	}
	d.opt.Source.Follow(refs)
	d.forget(func(name string) bool { return name == "" || !list.declares(name) && d.active(name) == nil })
	if len(list.distrusted) > 0 {
		d.note(Verdict{Ref: d.opt.Branch, Problems: list.distrusted})
	}
	var out []Verdict
	for {
		verdicts, err := d.round(ctx, list, progress)
		out = append(out, verdicts...)
		retired, gone := d.vanished(ctx, list, progress)
		d.letGo(ctx, list)
		err = errors.Join(err, gone, d.renderActive(ctx, list))
		// What one environment gave up, another may have been refused for; and the keys that it has now may let others sign.
		if err != nil || !retired && !slices.ContainsFunc(verdicts, func(v Verdict) bool { return v.Accepted }) {
			return out, err
		}
	}
}

// round judges each environment once that is not judged yet.
func (d *Deployer) round(ctx context.Context, list *list, progress io.Writer) (out []Verdict, err error) {
	var errs []error
	for _, env := range slices.Concat(list.environments, list.previews) {
		head, ok, err := d.headOf(ctx, list, env)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", env.Name, err))
			continue
		}
		if !ok {
			d.absent(env)
			continue
		}
		d.forget(func(name string) bool { return name == env.Name && d.Verdicts()[name].Commit == "" }) // it was absent
		if d.judged(ctx, env, head) {
			continue
		}
		_, isPreview := list.shows[env.Name]
		v := d.deploy(ctx, env, head, isPreview, progress)
		d.note(v)
		out = append(out, v)
		if v.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", env.Name, v.Err))
		}
	}
	return out, errors.Join(errs...)
}

// absent notes that the ref of an environment does not exist. A ref that is gone empties nothing.
func (d *Deployer) absent(env render.Environment) {
	text := "there is no such branch yet; push it, or name another in shoal.cue"
	if d.active(env.Name) != nil {
		text = "the branch is gone; what runs goes on"
	}
	d.note(Verdict{Environment: env.Name, Ref: env.Ref, Problems: render.Problems{{File: env.Ref, Text: text}}})
}

// list is what a commit of the default branch declares.
type list struct {
	commit       source.ID
	environments []render.Environment
	problems     render.Problems
	distrusted   render.Problems // why it is not of the newest commit
	early        bool            // what is active is not here yet, and so it is not known which commit to read

	previews []render.Environment
	shows    map[string]preview.Environment // what each preview shows
}

// declares says whether an environment should be there: shoal.cue names it, or it is a preview.
func (l *list) declares(environment string) bool {
	if _, ok := l.shows[environment]; ok {
		return true
	}
	return slices.ContainsFunc(l.environments, func(e render.Environment) bool { return e.Name == environment })
}

// list reads the newest one; nil if there is no default branch.
func (d *Deployer) list(ctx context.Context) (*list, error) {
	head, ok, err := d.opt.Source.Head(ctx, d.opt.Branch)
	if err != nil || !ok {
		return nil, err
	}
	commit, problems, err := d.trustedHead(ctx, head)
	if err != nil {
		return nil, err
	}
	if commit == "" || commit == head && problems != nil {
		return &list{commit: head, problems: problems, early: commit == ""}, nil
	}
	l, err := d.listOf(ctx, commit)
	if err == nil {
		l.distrusted = problems
		l.previews, l.shows = d.previews(l.environments)
	}
	return l, err
}

func (d *Deployer) listOf(ctx context.Context, commit source.ID) (*list, error) {
	l := &list{commit: commit}
	tree, err := d.opt.Source.Tree(ctx, commit)
	if err != nil {
		if fault, ok := errors.AsType[*source.Fault](err); ok {
			l.problems = render.Problems{{File: fault.Path, Text: fault.Text}}
			return l, nil
		}
		return nil, fmt.Errorf("read %s: %w", commit.Short(), err)
	}
	l.environments, l.problems, err = d.opt.Renderer.Environments(ctx, tree)
	return l, err
}

// judged reports whether a commit needs no further look: it is active, or was found wanting. One that the ring refused is
// looked at again when something else runs than did then, one that was held when the ring stands otherwise to its repository, and one that
// was over its environment's quota when that is another.
func (d *Deployer) judged(ctx context.Context, env render.Environment, commit source.ID) bool {
	d.mu.Lock()
	v, ok := d.verdicts[env.Name]
	d.mu.Unlock()
	if ok && v.Commit == commit && v.quota != "" {
		return v.quota == quotaText(env)
	}
	if ok && v.Commit == commit && v.held != "" {
		held, err := d.opt.Claims.Held(ctx)
		return err == nil && held == v.held
	}
	if ok && v.Commit == commit && v.Gates.State != "" {
		return v.closed.still(d.see(ctx, v.Environment, v.Ref)) // time, people and checks may open what is closed
	}
	if ok && v.Commit == commit && v.standing != "" {
		return d.stillDistrusted(ctx, &v)
	}
	if ok && v.Commit == commit {
		return v.Err == nil && (v.against == "" || v.against == d.running())
	}
	var active source.ID
	d.opt.Ledger.View(func(s *cluster.State) {
		if e, ok := s.Environments().Get(env.Name); ok && len(e.Held) == 0 {
			active = e.Commit
		}
	})
	return active == commit
}

// quotaText tells quotas apart, and one from none.
func quotaText(env render.Environment) string { return fmt.Sprint("quota ", env.Quota) } // maps are printed sorted

// running names what the ring runs in all environments.
func (d *Deployer) running() string {
	var b strings.Builder
	d.opt.Ledger.View(func(s *cluster.State) {
		for e := range s.Environments().Values() {
			fmt.Fprintf(&b, "%s %s\n", e.Name, e.D)
		}
	})
	return b.String() + "."
}

func (d *Deployer) note(v Verdict) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.verdicts[v.Environment] = v
}

// forget drops the verdicts on environments that f tells.
func (d *Deployer) forget(f func(environment string) bool) {
	for name := range d.Verdicts() {
		if f(name) {
			d.mu.Lock()
			delete(d.verdicts, name)
			d.mu.Unlock()
		}
	}
}

// deploy takes one environment to one commit.
func (d *Deployer) deploy(ctx context.Context, env render.Environment, commit source.ID, isPreview bool, progress io.Writer) Verdict {
	v := Verdict{Environment: env.Name, Ref: env.Ref, Commit: commit, Begun: time.Now()}
	active := d.active(env.Name)
	if active != nil && !isPreview {
		if why, err := d.mayMove(ctx, active.Commit, commit); err != nil {
			v.Err = err
			return v
		} else if why != "" {
			v.Problems = render.Problems{{File: env.Ref, Text: why}}
			return v
		}
	}
	if d.distrusted(ctx, env, active, isPreview, &v, progress) {
		return v
	}
	meta, err := d.opt.Source.Commit(ctx, commit)
	if err != nil {
		v.Err = fmt.Errorf("read commit %s: %w", commit.Short(), err)
		return v
	}
	pass, problems := &passage{tree: meta.Tree}, render.Problems(nil)
	if !isPreview {
		pass, problems, err = d.judgeGates(ctx, env, meta, active)
	}
	if err != nil || len(problems) > 0 {
		v.Err, v.Problems = err, problems
		for _, p := range problems {
			fmt.Fprintf(progress, "%s: %s\n", env.Name, p)
		}
		return v
	}
	if !pass.open(promote.GateSame) {
		d.holdAtGates(ctx, &v, pass, progress)
		return v
	}
	next, apps, err := d.compile(ctx, env, meta, active, isPreview, &v)
	v.Rendered = time.Now()
	if err != nil {
		v.Err = err
		return v
	}
	for _, p := range v.Problems {
		fmt.Fprintf(progress, "%s: %s\n", env.Name, p)
	}
	for _, p := range v.Warnings {
		fmt.Fprintf(progress, "%s: warning: %s\n", env.Name, p)
		d.opt.Journal.Add(Event{Object: "Environment " + env.Name, Reason: "Warning", Message: p.String()})
	}
	if next == nil {
		fmt.Fprintf(progress, "%s: commit %s is not accepted; what ran goes on\n", env.Name, commit.Short())
		return v
	}
	fmt.Fprintf(progress, "%s: rendered %d apps, %d objects in %s\n", env.Name, v.Apps, v.Objects, milliseconds(v.Begun, v.Rendered))
	v.D = next.Set.D
	refused, err := d.activate(ctx, env, pass, active, next, apps, &v)
	if err != nil {
		v.Err = err
		return v
	}
	if !pass.open() {
		d.holdAtGates(ctx, &v, pass, progress)
		return v
	}
	if v.held != "" {
		v.Problems = append(v.Problems, render.Problem{File: env.Ref, Text: v.held})
		fmt.Fprintf(progress, "%s: commit %s is rendered and not activated: %s\n", env.Name, commit.Short(), v.held)
		d.opt.Journal.Add(Event{Object: "Environment " + env.Name, Reason: "NotClaimed", Message: v.held})
		d.opt.Log.InfoContext(ctx, "commit is rendered and not activated", "environment", env.Name, "commit", commit.Short())
		return v
	}
	if refused != "" {
		v.against = d.running()
		p := d.problem(env, refused)
		v.Problems = append(v.Problems, p)
		fmt.Fprintf(progress, "%s: %s\n%[1]s: commit %[3]s is not accepted; what ran goes on\n", env.Name, p, commit.Short())
		d.opt.Log.WarnContext(ctx, "the ring refused a commit", "environment", env.Name, "commit", commit.Short(), "why", refused)
		return v
	}
	v.Activated = time.Now()
	v.Accepted = true
	v.Changed = active == nil || active.D != v.D
	if !v.Changed {
		fmt.Fprintf(progress, "%s: nothing differs from what runs\n", env.Name)
	}
	d.opt.Log.InfoContext(ctx, "activated", "environment", env.Name, "commit", commit.Short(), "objects", v.Objects, "held", v.Held,
		"rendered", milliseconds(v.Begun, v.Rendered), "took", milliseconds(v.Begun, v.Activated))
	return v
}

func milliseconds(from, to time.Time) string {
	return fmt.Sprintf("%d ms", to.Sub(from).Milliseconds())
}

func (d *Deployer) active(environment string) (active *cluster.Environment) {
	d.opt.Ledger.View(func(s *cluster.State) {
		if e, ok := s.Environments().Get(environment); ok {
			c := *e
			active = &c
		}
	})
	return active
}

// mayMove says why a ref may not go from one commit to another, or "". Refs move forward only: who can replay
// an old tip cannot take the ring back.
func (d *Deployer) mayMove(ctx context.Context, from, to source.ID) (why string, err error) {
	if from == to {
		return "", nil
	}
	relation, err := d.opt.Source.Relate(ctx, from, to)
	if err != nil {
		return "", fmt.Errorf("compare %s with %s: %w", from.Short(), to.Short(), err)
	}
	if ok, why := source.Refuse.Judge(relation); !ok {
		return fmt.Sprintf("moved from %s to %s: %s", from.Short(), to.Short(), why), nil
	}
	return "", nil
}

// compile renders a commit and checks it as a whole. Nil means that it is not accepted.
func (d *Deployer) compile(ctx context.Context, env render.Environment, meta source.Commit, active *cluster.Environment, isPreview bool, v *Verdict) (*desired.Built, []Rendered, error) {
	commit := meta.ID
	tree, err := d.opt.Source.Tree(ctx, commit)
	if err != nil {
		if fault, ok := errors.AsType[*source.Fault](err); ok {
			v.Problems = render.Problems{{File: fault.Path, Text: fault.Text}}
			return nil, nil, nil
		}
		return nil, nil, fmt.Errorf("read tree of %s: %w", commit.Short(), err)
	}
	rendered, err := d.opt.Renderer.Render(ctx, tree, env)
	if err != nil {
		if problems, ok := errors.AsType[render.Problems](err); ok {
			v.Problems = problems
			return nil, nil, nil
		}
		return nil, nil, fmt.Errorf("render %s: %w", commit.Short(), err)
	}
	apps := make([]desired.App, len(rendered))
	for i := range rendered {
		apps[i] = rendered[i].App
	}
	v.Apps = len(apps)
	if d.opt.Renders != nil {
		d.opt.Renders.add(env.Name, rendered)
	}
	var previous *desired.Set
	if active != nil {
		b, err := d.opt.Content.Get(active.D)
		if err != nil {
			return nil, nil, fmt.Errorf("read what is active: %w", err)
		}
		if previous, err = desired.DecodeSet(b); err != nil {
			return nil, nil, err
		}
	}
	built, err := desired.Build(env, apps, previous, d.opt.Content)
	if err != nil {
		return nil, nil, err
	}
	v.Problems = append(v.Problems, built.Problems...)
	v.Held, v.Warnings = built.Held, built.Warnings
	v.images = images(apps)
	d.remember(env.Name, apps)
	v.Objects = len(built.Set.Entries)
	if len(built.Over) > 0 {
		v.quota = quotaText(env)
		return nil, nil, nil
	}
	allow, _ := meta.Trailer(source.TrailerAllowDelete)
	if isPreview {
		allow = "all" // nothing in a preview is kept
	}
	if refused := desired.Guard(previous, built.Set, allow); len(refused) > 0 {
		v.Problems = append(v.Problems, refused...)
		return nil, nil, nil
	}
	return &built, rendered, nil
}
