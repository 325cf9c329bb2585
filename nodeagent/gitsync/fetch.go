package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// RefChange is a followed branch or an approval that is elsewhere than before; New is "" for an approval that was withdrawn. The mirror's ref is at New already: it says what
// the host has. Whether an environment goes along is for source.Policy to judge by Relation to the commit that was
// accepted last.
type RefChange struct {
	Ref      string
	Old, New source.ID       // Old is "" for a branch that is new here
	Relation source.Relation // of New to Old; 0 for a new branch
}

// GoneError says that the host no longer has branches that are followed. The mirror keeps them where they were:
// nothing is ever taken away because something could not be read.
type GoneError struct{ Refs []string }

func (e *GoneError) Error() string {
	return fmt.Sprintf("the host has no %s; the last known commits stay", strings.Join(e.Refs, ", "))
}

// errNoURL is returned by Fetch of a mirror that only takes pushes.
var errNoURL = errors.New("the mirror has no URL to fetch from")

// Fetch brings the followed branches up to the host's and says which moved. With an error the mirror is as it
// was, but for a *GoneError, beside which the other branches did move. One Fetch runs at a time.
func (m *Mirror) Fetch(ctx context.Context) ([]RefChange, error) {
	if m.opt.URL == "" {
		return nil, errNoURL
	}
	m.fetching.Lock()
	defer m.fetching.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, m.opt.Timeout, fmt.Errorf("not done after %s", m.opt.Timeout))
	defer cancel()
	m.incoming.RLock()
	changes, err := m.fetch(ctx)
	if errors.Is(err, ErrMoved) { // by what was taken from another node meanwhile
		changes, err = m.fetch(ctx)
	}
	m.incoming.RUnlock()
	if err != nil {
		if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
			err = context.Cause(ctx) // what the end of the context broke is of no interest
		}
		err = fmt.Errorf("fetch %s: %w", redacted(m.opt.URL), err)
	}
	m.compactIfNeeded()
	return changes, err
}

func (m *Mirror) fetch(ctx context.Context) ([]RefChange, error) {
	r, err := m.dial()
	if err != nil {
		return nil, err
	}
	defer func() { r.Close() }()
	begun := deadline.Now()
	a, err := advertised(ctx, r)
	if err != nil {
		return nil, err
	}
	changes, err := m.fetchBranches(ctx, &r, a, begun)
	if _, gone := errors.AsType[*GoneError](err); err == nil || gone {
		changes = append(changes, m.approvals(ctx, a)...)
	}
	return changes, err
}

// fetchBranches does it for the branches that are followed, by what the host says of its refs. r is another one after a
// conversation that had to begin anew.
func (m *Mirror) fetchBranches(ctx context.Context, at *remote, a *advert, begun int64) (_ []RefChange, err error) {
	r := *at
	defer func() { *at = r }()
	if err := m.noteClaim(ctx, a, begun); err != nil { // first: a commit is never known without whose it is
		return nil, err
	}
	var moves []bare.Move
	var gone []string
	want := map[bare.Hash]bool{}
	for _, name := range *m.follow.Load() {
		tip, there := a.refs[name]
		now, known := m.repo.Ref(name)
		switch {
		case !there && !known && name != m.opt.Branch: // declared before its first push: nothing is gone
		case !there:
			gone = append(gone, name)
		case tip != now:
			moves = append(moves, bare.Move{Name: name, Old: now, New: tip})
			if !m.repo.Has(tip) {
				want[tip] = true
			}
		}
	}
	var goneErr error
	if len(gone) > 0 {
		goneErr = &GoneError{gone}
	}
	if len(moves) == 0 {
		return nil, goneErr
	}
	if len(want) > 0 {
		ask := bare.Ask{Want: slices.Collect(maps.Keys(want)), Have: m.haves(), Shallow: m.repo.Shallow()}
		fresh := len(ask.Have) == 0
		if fresh {
			ask = m.freshAsk(ask.Want, a)
		}
		if err := m.take(ctx, r, a, ask); err != nil {
			// A branch rewritten beyond where our history ends may be more than the limits allow, or more than the
			// host can say: then its last commits alone are taken, as at first.
			if fresh || !retryFresh(ctx, err) {
				return nil, err
			}
			m.opt.Log.InfoContext(ctx, "fetch of what is new did not work, taking the branch afresh", "err", err)
			r.Close()
			if r, err = m.dial(); err != nil {
				return nil, err
			}
			if a, err = advertised(ctx, r); err != nil {
				return nil, err
			}
			for i, mv := range moves {
				if tip, ok := a.refs[mv.Name]; !ok || tip != mv.New {
					return nil, fmt.Errorf("%s moved while it was fetched", moves[i].Name)
				}
			}
			if err := m.take(ctx, r, a, m.freshAsk(ask.Want, a)); err != nil {
				return nil, err
			}
		}
	}
	for _, mv := range moves {
		if _, err := m.repo.ReadKind(mv.New, bare.Commit); err != nil {
			return nil, fmt.Errorf("%s: %w", mv.Name, err)
		}
	}
	if err := m.repo.UpdateRefs(moves); err != nil {
		return nil, err
	}
	changes := make([]RefChange, len(moves))
	for i, mv := range moves {
		changes[i] = RefChange{Ref: mv.Name, New: source.ID(mv.New.String())}
		if mv.Old.IsZero() {
			continue
		}
		changes[i].Old = source.ID(mv.Old.String())
		if changes[i].Relation, err = m.Relation(ctx, changes[i].Old, changes[i].New); err != nil {
			m.opt.Log.WarnContext(ctx, "cannot tell how a branch moved", "ref", mv.Name, "err", err)
			changes[i].Relation = source.Unrelated
		}
	}
	return changes, goneErr
}

// advertTime is how long a host may take to connect and list its refs.
const advertTime = time.Minute

func advertised(ctx context.Context, r remote) (*advert, error) {
	late := fmt.Errorf("the host did not list its refs within %s", advertTime)
	ctx, cancel := context.WithTimeoutCause(ctx, advertTime, late)
	defer cancel()
	a, err := r.Advertised(ctx)
	return a, cause(ctx, err)
}

// maxHaves bounds the commits a fetch names as known.
const maxHaves = 256

// haves lists what the mirror has: tips of branches, then pins.
func (m *Mirror) haves() []bare.Hash {
	refs := m.repo.Refs()
	maps.DeleteFunc(refs, func(name string, _ bare.Hash) bool { return strings.HasPrefix(name, trust.ApprovalRefs) })
	names := slices.Collect(maps.Keys(refs))
	slices.SortFunc(names, func(a, b string) int {
		if pa, pb := strings.HasPrefix(a, hiddenRefs), strings.HasPrefix(b, hiddenRefs); pa != pb {
			if pb {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var list []bare.Hash
	seen := map[bare.Hash]bool{}
	for _, name := range names {
		if h := refs[name]; !seen[h] && len(list) < maxHaves {
			seen[h] = true
			list = append(list, h)
		}
	}
	return list
}

// freshAsk asks for the last commits alone, as if nothing were known.
func (m *Mirror) freshAsk(want []bare.Hash, a *advert) bare.Ask {
	ask := bare.Ask{Want: want}
	if a.caps["shallow"] {
		ask.Depth = m.opt.Depth
	}
	return ask
}

// retryFresh says whether an incremental fetch failed for what the host sent, rather than for how.
func retryFresh(ctx context.Context, err error) bool {
	var status *statusError
	var stalled *stalledError
	return ctx.Err() == nil && !errors.As(err, &status) && !errors.As(err, &stalled)
}

// take asks for a pack, receives it within the limits of size and time, and makes it part of the mirror.
func (m *Mirror) take(ctx context.Context, r remote, a *advert, ask bare.Ask) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pace := newPace(m.opt.MinRate, m.opt.RateWindow, cancel)
	defer pace.stop()
	d, err := r.Fetch(ctx, ask)
	if err != nil {
		return cause(ctx, err)
	}
	defer d.close()
	pace.r = d.pack
	ends := slices.Concat(d.ends, a.shallow)
	in, err := m.repo.Receive(ctx, pace, ends)
	if err != nil {
		return cause(ctx, err)
	}
	for _, h := range ask.Want {
		if k, err := in.Kind(h); err != nil || k != bare.Commit && k != bare.Tag {
			in.Discard()
			return fmt.Errorf("the host sent a pack without commit %s", h)
		}
	}
	ends = slices.DeleteFunc(ends, m.hasParents)
	if err := m.repo.SetShallow(ends, d.goesOn); err != nil {
		in.Discard()
		return err
	}
	return in.Publish()
}

// hasParents says whether a commit and what it names as parents are in the mirror already.
func (m *Mirror) hasParents(h bare.Hash) bool {
	c, err := m.Commit(context.Background(), source.ID(h.String()))
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(c.Parents, func(p source.ID) bool { return !m.Has(p) })
}

// cause prefers the reason a context was ended for to what its end broke.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// dial makes a remote for the mirror's URL, of which to read; nothing is sent yet.
func (m *Mirror) dial() (remote, error) { return m.dialFor(reading) }

func (m *Mirror) dialFor(what service) (remote, error) {
	u, err := parseURL(m.opt.URL)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "ssh":
		return &sshRemote{what: what, url: u, auth: m.opt.Auth}, nil
	case "file":
		return &localRemote{path: u.Path, limit: m.opt.Limits.Object}, nil
	}
	m.clientOnce.Do(func() { m.client, m.clientErr = newHTTPClient(m.opt.Auth) })
	if m.clientErr != nil {
		return nil, m.clientErr
	}
	base := *u
	base.User = nil
	return &httpRemote{what: what, base: &base, user: u.User, auth: m.opt.Auth, client: m.client}, nil
}

// stalledError says that a host sends too slowly.
type stalledError struct {
	rate   int64
	window time.Duration
}

func (e *stalledError) Error() string {
	return fmt.Sprintf("the host stalls: less than %d bytes a second over %s", e.rate, e.window)
}

// firstByte is how long a host may take to prepare a pack.
const firstByte = 4 // windows

// pace ends a transfer that is slower than rate over a window.
type pace struct {
	r     io.Reader
	n     atomic.Int64
	timer *time.Ticker
	done  chan struct{}
}

func newPace(rate int64, window time.Duration, cancel context.CancelCauseFunc) *pace {
	p := &pace{timer: time.NewTicker(window), done: make(chan struct{})}
	go func() {
		last, waited := int64(0), 0
		for {
			select {
			case <-p.done:
				return
			case <-p.timer.C:
			}
			n := p.n.Load()
			if waited++; n == 0 && waited < firstByte {
				continue
			}
			if float64(n-last) < float64(rate)*window.Seconds() {
				cancel(&stalledError{rate, window})
				return
			}
			last = n
		}
	}()
	return p
}

func (p *pace) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n.Add(int64(n))
	return n, err
}

func (p *pace) stop() {
	p.timer.Stop()
	close(p.done)
}
