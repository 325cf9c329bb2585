package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// A repository that several could follow names the one ring that runs it, by a claim (source.ClaimRef). A second ring, born of
// a lost disk say, has the same flags as the first and would start everything a second time: it finds the claim, renders and
// plans, and activates nothing until somebody says so (shoal ring claim).
//
//   - The leader claims a repository that nobody has claimed before it activates the first commit of it. A host that does not
//     let it is no reason not to run: most rings read with a key that may do nothing else. It is said, and tried again.
//   - A ring that finds another's claim, or something there that names no ring, goes on with what it runs and activates and
//     retires nothing. No majority, no leader and no restart changes that: what was read last is on each node's disk.
//   - What cannot be read changes nothing. A ring that has its claim goes on without its host.

// ClaimedRepository is what the claims need of a mirror. It says what it has read last without asking its host.
type ClaimedRepository interface {
	Claim() source.Claim
	// ReadClaim asks the host.
	ReadClaim(ctx context.Context) (source.Claim, error)
	// TakeClaim takes over what another node has read.
	TakeClaim(c source.Claim) error
	// PushClaim claims the repository for a ring, if before is still what stands there. An error with a method Refused is the
	// host's last word; after any other the claim may be anybody's.
	PushClaim(ctx context.Context, ring, by string, when time.Time, before source.Claim) (source.Claim, error)
}

// ClaimsOptions are what Claims are made of; all are required.
type ClaimsOptions struct {
	Ring       string // identity of this one
	By         string // who claims: this node, in words
	URL        string // of the repository, for people: without secrets
	Repository ClaimedRepository
	Leading    func() bool
	Runs       func() bool // the ring runs something already
	// Others are what the other nodes that answer have read.
	Others func(ctx context.Context) []source.Claim
	// Changed is called when the ring stands otherwise to its repository than before: commits are to be looked at again, and
	// here says that it was this node's doing, so that the others are to fetch.
	Changed func(ctx context.Context, here bool)
	Log     *slog.Logger
}

const (
	// claimWithin bounds one attempt to claim.
	claimWithin = 30 * time.Second
	// claimPatience is how long a ring that runs nothing yet waits with its first commit for a host that takes no claim and
	// does not say no.
	claimPatience = time.Minute
	// claimAgain is when a claim that the host refused is tried again, and claimLook how often the leader thinks of it.
	claimAgain = 10 * time.Minute
	claimLook  = time.Minute
)

// Claims say whether this ring may run what it finds in its repository. A nil *Claims is of a ring whose repository is its
// own Git server: that is nobody else's.
type Claims struct {
	opt  ClaimsOptions
	wake chan struct{}

	work sync.Mutex // held over an attempt to claim

	mu      sync.Mutex // guards what follows
	failing error      // why the last attempt did not succeed
	since   time.Time  // of the first of those attempts
	tried   time.Time  // the last of them
	refused bool       // the host said no
}

// NewClaims makes them; Run tells of changes.
func NewClaims(opt ClaimsOptions) *Claims { return &Claims{opt: opt, wake: make(chan struct{}, 1)} }

func (c *Claims) standing() (source.Claim, source.Standing) {
	claim := c.opt.Repository.Claim()
	return claim, claim.Standing(c.opt.Ring)
}

// Held says why nothing may be activated now, or "". On the leader it claims what nobody has; an error says that this has to be
// tried again first.
func (c *Claims) Held(ctx context.Context) (why string, err error) {
	if c == nil {
		return "", nil
	}
	claim, standing := c.standing()
	if standing == source.Free && c.opt.Leading() {
		if err := c.claim(ctx); err != nil {
			return "", err
		}
		claim, standing = c.standing()
	}
	if standing == source.Unread && !c.opt.Runs() {
		return unreadText, nil
	}
	return heldText(claim, c.opt.Ring), nil
}

// claim claims a repository that nobody has. It returns nil when that is over, whichever way, and when it need not be waited
// for.
func (c *Claims) claim(ctx context.Context) error {
	c.work.Lock()
	defer c.work.Unlock()
	claim, standing := c.standing()
	if standing != source.Free || !c.due() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, claimWithin)
	defer cancel()
	for _, theirs := range c.opt.Others(ctx) {
		if theirs.Standing(c.opt.Ring).Holds() { // this node is new, and has not seen whose it was
			return c.opt.Repository.TakeClaim(theirs)
		}
	}
	_, err := c.opt.Repository.PushClaim(ctx, c.opt.Ring, c.opt.By, time.Now(), claim)
	if err != nil {
		if _, e := c.opt.Repository.ReadClaim(ctx); e == nil { // another ring may have been quicker, or the answer was lost
			if _, standing = c.standing(); standing != source.Free {
				err = nil
			}
		}
	}
	return c.settle(err)
}

// due says whether an attempt is to be made.
func (c *Claims) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failing == nil || !c.refused || time.Since(c.tried) >= claimAgain
}

// settle notes how an attempt went, and returns what has to be waited for.
func (c *Claims) settle(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.failing = nil
		return nil
	}
	now := time.Now()
	if c.failing == nil {
		c.since = now
	}
	_, c.refused = errors.AsType[refusal](err)
	c.failing, c.tried = err, now
	if c.refused || c.opt.Runs() || now.Sub(c.since) >= claimPatience {
		return nil
	}
	return fmt.Errorf("claim the repository before its first commit runs: %w", err)
}

// refusal is the error of a host that does not let us write.
type refusal interface {
	error
	Refused() bool
}

// Wake has Run look: the repository was read.
func (c *Claims) Wake() {
	if c != nil {
		signal(c.wake)
	}
}

// Run has the leader claim what nobody has, and says when the ring stands otherwise to its repository, until ctx ends.
func (c *Claims) Run(ctx context.Context) error {
	if c == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	look := time.NewTicker(claimLook)
	defer look.Stop()
	known, standing := c.standing()
	said := ""
	for {
		if _, err := c.Held(ctx); err != nil && ctx.Err() == nil {
			c.opt.Log.WarnContext(ctx, "the repository is not claimed yet, will retry", "err", err)
		}
		now, stands := c.standing()
		s := c.statusOf(now, stands)
		if now != known || stands != standing {
			c.opt.Changed(ctx, stands == source.Own && standing == source.Free && c.opt.Leading())
		}
		switch {
		case stands == source.Unread: // that is said where the fetch fails
		case s.Held != "" && s.Held != said:
			c.opt.Log.WarnContext(ctx, "this ring activates nothing", "why", s.Held)
		case s.Warning != "" && s.Warning != said && c.opt.Leading():
			c.opt.Log.WarnContext(ctx, "the repository is not claimed", "why", s.Warning)
		case stands == source.Own && (now.ID != known.ID || said != ""):
			c.opt.Log.InfoContext(ctx, "the repository is claimed for this ring", "claim", now.ID.Short())
		}
		known, standing = now, stands
		said = s.Held + s.Warning
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.wake:
		case <-look.C:
		}
	}
}

// Status is how the ring stands to its repository, as was read last; nil if that is its own.
func (c *Claims) Status() *api.Claim {
	if c == nil {
		return nil
	}
	return c.statusOf(c.standing())
}

func (c *Claims) statusOf(claim source.Claim, standing source.Standing) *api.Claim {
	out := &api.Claim{
		URL: c.opt.URL, Ref: source.ClaimRef, Ring: c.opt.Ring, Standing: standing.String(), Own: standing == source.Own, Held: heldText(claim, c.opt.Ring),
		ID: string(claim.ID), Gone: claim.Gone, Holder: claim.Ring, By: claim.By, Flaw: claim.Flaw,
	}
	if claim.When != 0 {
		out.Since = time.Unix(claim.When, 0).UTC()
	}
	if standing == source.Unread && !c.opt.Runs() {
		out.Held = unreadText
	}
	if standing == source.Free {
		c.mu.Lock()
		out.Warning = freeText(c.failing)
		c.mu.Unlock()
	}
	return out
}

// Read asks the host whose the repository is.
func (c *Claims) Read(ctx context.Context) (api.Claim, error) {
	if c == nil {
		return api.Claim{}, errOwnServer
	}
	ctx, cancel := context.WithTimeout(ctx, claimWithin)
	defer cancel()
	_, err := c.opt.Repository.ReadClaim(ctx)
	c.Wake()
	return *c.Status(), err
}

var errOwnServer = errors.New("this ring's repository is its own Git server: no other ring can follow it, and nobody needs to claim it")

// Take claims the repository for this ring, whoever has it, if what stands there is still what the caller was shown: the id of
// a commit, "" for nothing.
func (c *Claims) Take(ctx context.Context, shown string) (api.Claim, error) {
	if c == nil {
		return api.Claim{}, errOwnServer
	}
	c.work.Lock()
	defer c.work.Unlock()
	ctx, cancel := context.WithTimeout(ctx, claimWithin)
	defer cancel()
	claim, err := c.opt.Repository.ReadClaim(ctx)
	switch {
	case err != nil:
		return api.Claim{}, err
	case claim.Standing(c.opt.Ring) == source.Own:
		return *c.Status(), nil
	case claim.Gone:
		claim = source.Unclaimed
	}
	if shown != string(claim.ID) {
		return api.Claim{}, fmt.Errorf("the claim was moved meanwhile, to %s: look again", claim.ID)
	}
	_, err = c.opt.Repository.PushClaim(ctx, c.opt.Ring, c.opt.By, time.Now(), claim)
	if err != nil {
		if now, e := c.opt.Repository.ReadClaim(ctx); e == nil && !now.Gone && now.ID != claim.ID && now.Ring != c.opt.Ring {
			return api.Claim{}, fmt.Errorf("the claim was moved meanwhile, to %s: look again", now.ID)
		}
	}
	if _, refused := errors.AsType[refusal](err); refused {
		return api.Claim{}, fmt.Errorf("%w; somebody who may write there says what shoal ring claim --print prints", err)
	}
	if err != nil {
		return api.Claim{}, err
	}
	c.mu.Lock()
	c.failing = nil
	c.mu.Unlock()
	c.Wake()
	c.opt.Changed(ctx, true)
	return *c.Status(), nil
}
