package nodeagent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
)

// activate puts the bytes on disk, fixes the tags of images and appends the entry. It returns why the ring refused it,
// or "": an object or a node port that another environment has, say. v.held says that it takes no commits now.
func (d *Deployer) activate(ctx context.Context, env render.Environment, pass *passage, active *cluster.Environment, next *desired.Built, apps []Rendered, v *Verdict) (refused string, err error) {
	commit, held := v.Commit, v.Held
	in := cluster.Activate{
		Environment: env.Name, Namespace: env.Namespace, Ref: env.Ref, Commit: commit, D: next.Set.D, Held: held,
		Tree: pass.tree, Policy: pass.policy, Verify: pass.verify,
	}
	if active != nil {
		in.Previous = active.D
		if active.Commit == commit && active.D == in.D && slices.Equal(active.Held, held) {
			return "", d.keep(ctx, next.Set, apps) // others were quicker
		}
	}
	if v.held, err = d.held(ctx, env.Name, commit); v.held != "" || err != nil {
		return "", err
	}
	if err := d.keep(ctx, next.Set, apps, next.Manifest); err != nil {
		return "", err
	}
	if err := d.compare(env, pass, next.Set); err != nil || !pass.open() {
		return "", err
	}
	gates, err := pass.digest()
	if err != nil {
		return "", err
	}
	in.Claim = pass.claim
	if active != nil {
		d.unpin(ctx, env.Name, active.Commit)
	}
	if err := d.opt.Source.Pin(ctx, env.Name, commit); err != nil {
		return "", fmt.Errorf("pin commit: %w", err)
	}
	decision, decided, err := d.agreed(ctx, Vote{Environment: env.Name, Commit: commit, D: in.D, Held: held, Gates: gates})
	if err != nil {
		return "", err
	}
	if decided && decision.Activated && decision.D != in.D {
		return fmt.Sprintf("RenderMismatch: this node's render of it is %.12s, the ring runs %.12s", in.D, decision.D), nil
	}
	if decided && decision.Held && pass.claim != nil {
		pass.verdict, pass.byLeader = heldByLeader(decision.Refused), true
		return "", nil
	}
	if decided && decision.Held {
		return "", fmt.Errorf("the leader activates nothing: %s", decision.Refused)
	}
	if decided {
		return decision.Refused, d.await(ctx, env.Name, decision)
	}
	in.Images = d.fix(ctx, v, active, d.ranWith(env.Name, pass.claim))
	if v.held, err = d.held(ctx, env.Name, commit); v.held != "" || err != nil { // the repository was read since
		return "", err
	}
	out, err := d.opt.Ledger.Append(ctx, cluster.Input{Activate: &in})
	if err != nil {
		return "", fmt.Errorf("append to the ledger: %w", err)
	}
	if out.Rejected != "" && pass.claim != nil {
		if d.judge(env.Name, pass); !pass.open() { // a gate has closed meanwhile
			return "", nil
		}
	}
	if d.opt.Votes != nil {
		d.opt.Votes.decide(env.Name, commit, Decision{Activated: out.Rejected == "", D: in.D, Refused: out.Rejected})
	}
	return out.Rejected, nil
}

// held says why the ring activates nothing, or "". Who waits for the leader's word on the commit is told.
func (d *Deployer) held(ctx context.Context, environment string, commit source.ID) (string, error) {
	why, err := d.opt.Claims.Held(ctx)
	if why != "" && d.opt.Votes != nil {
		d.opt.Votes.decide(environment, commit, Decision{Refused: why, Held: true})
	}
	return why, err
}

// await returns once what the leader has activated is applied here too.
func (d *Deployer) await(ctx context.Context, environment string, decision Decision) error {
	if !decision.Activated {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, agreeFor)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		if active := d.active(environment); active != nil && active.D == decision.D {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("the ring has activated it, this node has not heard of it yet: %w", context.Cause(ctx))
		}
	}
}

// unpin lets go of what an environment accepted before its active commit, which descends from it and so keeps it: the
// pins of an environment do not grow with its history.
func (d *Deployer) unpin(ctx context.Context, environment string, active source.ID) {
	for _, old := range d.opt.Source.Pins(environment) {
		if relation, err := d.opt.Source.Relate(ctx, old, active); err != nil || relation != source.Forward {
			continue
		}
		if err := d.opt.Source.Unpin(ctx, environment, old); err != nil {
			d.opt.Log.WarnContext(ctx, "old commit not unpinned", "environment", environment, "commit", old.Short(), "err", err)
		}
	}
}

// keep stores what of a set is not on this node, from the apps that have it, and more. The ledger asks for the bytes of few
// objects; the next commit is compared with those of all that run.
func (d *Deployer) keep(ctx context.Context, set *desired.Set, apps []Rendered, more ...[]byte) error {
	put, err := d.missing(set, apps)
	if err != nil {
		return err
	}
	if put = append(put, more...); len(put) == 0 {
		return nil
	}
	if err := d.opt.Content.Put(ctx, put...); err != nil {
		return fmt.Errorf("store objects: %w", err)
	}
	return nil
}

// missing are the bytes of a set that the store does not have yet.
func (d *Deployer) missing(next *desired.Set, apps []Rendered) (put [][]byte, err error) {
	lacking := map[string]map[desired.Digest]bool{} // by app
	for _, e := range next.Entries {
		if !d.opt.Content.Has(e.Digest) {
			if lacking[e.App] == nil {
				lacking[e.App] = map[desired.Digest]bool{}
			}
			lacking[e.App][e.Digest] = true
		}
	}
	for _, a := range apps {
		if lacking[a.Name] == nil || a.Blobs == nil {
			continue
		}
		blobs, err := a.Blobs()
		if err != nil {
			return nil, err
		}
		for _, b := range blobs {
			if lacking[a.Name][b.Digest] {
				put = append(put, b.Bytes)
			}
		}
	}
	return put, nil
}

// ranWith is what the tags of images stood for where what comes in has run: what is promoted or gone back to is what ran, though its tags
// have moved since, and also where nobody can be asked for them now.
func (d *Deployer) ranWith(environment string, c *cluster.Claim) (known map[string]string) {
	if c == nil || c.Ask.Act != promote.Promotion && c.Ask.Act != promote.Rollback {
		return nil
	}
	from := environment
	if c.Ask.Act == promote.Promotion {
		from = c.Ask.From
	}
	d.opt.Ledger.View(func(s *cluster.State) {
		if run, ok := runOf(s, from, c.Ask.Source); ok {
			known = run.Images
		}
	})
	return known
}

// fix resolves the tags of images once for the whole ring, so that all replicas run one digest. What is known of them stays; so does what an app
// has that did not change. A reference that cannot be resolved now is left to the nodes.
func (d *Deployer) fix(ctx context.Context, v *Verdict, active *cluster.Environment, known map[string]string) map[string]string {
	images := map[string]string{}
	if active != nil && len(v.Held) > 0 {
		maps.Copy(images, active.Images) // what held apps run is not among the new references
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	limit := make(chan struct{}, 8)
	for _, ref := range v.images {
		if strings.Contains(ref, "@sha256:") {
			continue
		}
		has := known[ref]
		if has == "" && active != nil {
			has = active.Images[ref]
		}
		if has != "" {
			mu.Lock() // others are being resolved
			images[ref] = has
			mu.Unlock()
			continue
		}
		limit <- struct{}{}
		group.Go(func() {
			defer func() { <-limit }()
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			digest, err := d.opt.Images.Resolve(ctx, ref)
			if err != nil {
				d.opt.Log.WarnContext(ctx, "tag not resolved, left to the nodes", "image", ref, "err", err)
				return
			}
			mu.Lock()
			images[ref] = digest
			mu.Unlock()
		})
	}
	group.Wait()
	return images
}

// images lists the image references of all apps, sorted, each once.
func images(apps []desired.App) []string {
	var out []string
	for _, a := range apps {
		for _, item := range a.Items {
			out = append(out, item.Images...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
