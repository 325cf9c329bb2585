package gitsync

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/deadline"
	"github.com/shoal-dev/shoal/internal/durable"
	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// keptClaim is the file beside the mirror in which the claim lies as it was read last: a node that starts while its host is
// away knows as much as before.
type keptClaim struct {
	URL   string       `json:"url"` // sha256 of the URL: another repository is claimed by others
	Claim source.Claim `json:"claim"`
}

func (m *Mirror) claimFile() string { return m.opt.Dir + ".claim" }

func (m *Mirror) urlSum() string { return fmt.Sprintf("%x", sha256.Sum256([]byte(m.opt.URL))) }

// openClaim takes up what was kept. What cannot be read is as if nothing had been: the next fetch reads it again.
func (m *Mirror) openClaim() error {
	b, err := os.ReadFile(m.claimFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept keptClaim
	if json.Unmarshal(b, &kept) == nil && kept.Claim.Check() == nil && kept.URL == m.urlSum() {
		m.claim.Store(&kept.Claim)
	}
	return nil
}

// Claim is whose the repository at the URL is, as it was read last.
func (m *Mirror) Claim() source.Claim {
	if c := m.claim.Load(); c != nil {
		return *c
	}
	return source.Claim{}
}

// TakeClaim takes over what another node has read at a time, in ms of deadline.Now, unless this one has read it since.
func (m *Mirror) TakeClaim(c source.Claim, at int64) error {
	if err := c.Check(); err != nil || !c.Read {
		return err
	}
	m.fetching.Lock()
	defer m.fetching.Unlock()
	if at <= m.claimAt {
		return nil
	}
	m.claimAt = at
	return m.keepClaim(m.Claim().Then(c))
}

// keepClaim has c be what is known, on disk first. The caller holds fetching.
func (m *Mirror) keepClaim(c source.Claim) error {
	if c == m.Claim() {
		return nil
	}
	b, err := json.Marshal(keptClaim{m.urlSum(), c})
	if err == nil {
		err = durable.WriteFile(m.claimFile(), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keep whose the repository is: %w", err)
	}
	m.claim.Store(&c)
	return nil
}

// ReadClaim asks the host whose the repository is.
func (m *Mirror) ReadClaim(ctx context.Context) (source.Claim, error) {
	if m.opt.URL == "" {
		return source.Claim{}, errNoURL
	}
	m.fetching.Lock()
	defer m.fetching.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, advertTime, fmt.Errorf("not done after %s", advertTime))
	defer cancel()
	r, err := m.dial()
	if err != nil {
		return source.Claim{}, err
	}
	defer r.Close()
	begun := deadline.Now()
	a, err := advertised(ctx, r)
	if err == nil {
		err = m.noteClaim(ctx, a, begun)
	}
	if err != nil {
		err = fmt.Errorf("read %s of %s: %w", source.ClaimRef, redacted(m.opt.URL), err)
	}
	return m.Claim(), err
}

// noteClaim keeps the claim that a host shows among its refs, which were asked for at a time. The caller holds fetching.
func (m *Mirror) noteClaim(ctx context.Context, a *advert, at int64) (err error) {
	defer func() {
		if err == nil {
			m.claimAt = max(m.claimAt, at)
		}
	}()
	tip, there := a.refs[source.ClaimRef]
	if !there {
		return m.keepClaim(m.Claim().Then(source.Unclaimed))
	}
	id := source.ID(tip.String())
	if known := m.Claim(); known.ID == id && !known.Gone {
		return nil
	}
	c, err := m.fetchClaim(ctx, tip)
	if err != nil {
		return fmt.Errorf("%s: %w", source.ClaimRef, err)
	}
	return m.keepClaim(m.Claim().Then(c))
}

// fetchClaim reads what the ref stands for, in a conversation of its own: no more of it than a claim needs, and nothing of
// it comes into the mirror.
func (m *Mirror) fetchClaim(ctx context.Context, tip bare.Hash) (source.Claim, error) {
	id := source.ID(tip.String())
	r, err := m.dial()
	if err != nil {
		return source.Claim{}, err
	}
	defer r.Close()
	a, err := advertised(ctx, r)
	if err != nil {
		return source.Claim{}, err
	}
	var kind bare.Kind
	var raw []byte
	if l, ok := r.(*localRemote); ok {
		l.limit = source.MaxClaim
		kind, raw, err = l.Read(tip)
	} else {
		kind, raw, err = m.fetchOne(ctx, r, a, tip)
	}
	_, tooBig := errors.AsType[*bare.LimitError](err)
	switch {
	case tooBig:
		return source.FlawedClaim(id, "it is larger than a claim: "+err.Error()), nil
	case err != nil:
		return source.Claim{}, err
	case kind != bare.Commit:
		return source.FlawedClaim(id, fmt.Sprintf("it is a %s, expected a commit", kind)), nil
	}
	return source.ParseClaim(id, raw), nil
}

// claimLimits bound what comes with a claim: the commit, and a tree that somebody may have given it.
var claimLimits = bare.Limits{Pack: source.MaxClaim, Objects: 64, Object: source.MaxClaim, Inflated: 4 * source.MaxClaim, Depth: 16}

// fetchOne reads one object by way of a repository that is thrown away.
func (m *Mirror) fetchOne(ctx context.Context, r remote, a *advert, h bare.Hash) (k bare.Kind, raw []byte, err error) {
	dir := m.claimFile() + ".read"
	if err := os.RemoveAll(dir); err != nil { // of one that was killed
		return 0, nil, err
	}
	defer os.RemoveAll(dir)
	apart, err := bare.Open(dir, m.opt.Branch, claimLimits)
	if err != nil {
		return 0, nil, err
	}
	defer apart.Close()
	ask := bare.Ask{Want: []bare.Hash{h}}
	if a.caps["shallow"] {
		ask.Depth = 1
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pace := newPace(m.opt.MinRate, m.opt.RateWindow, cancel)
	defer pace.stop()
	d, err := r.Fetch(ctx, ask)
	if err != nil {
		return 0, nil, cause(ctx, err)
	}
	defer d.close()
	pace.r = d.pack
	in, err := apart.Receive(ctx, pace, append(d.ends, a.shallow...))
	if err != nil {
		return 0, nil, cause(ctx, err)
	}
	if err := in.Publish(); err != nil {
		return 0, nil, err
	}
	return apart.Read(h)
}

// PushClaim claims the repository for a ring, by compare-and-swap on the claim that the caller knows: Unclaimed, or one that
// it replaces. An error that is a *RefusedError is the host's last word; after any other, and after one that is ErrMoved, the
// claim may be another's, which the next fetch or ReadClaim tells.
func (m *Mirror) PushClaim(ctx context.Context, ring, by string, when time.Time, before source.Claim) (source.Claim, error) {
	if m.opt.URL == "" {
		return source.Claim{}, errNoURL
	}
	raw := source.EncodeClaim(ring, by, when, before)
	move := bare.Move{Name: source.ClaimRef}
	made := source.ObjectID("commit", raw)
	var err error
	if move.New, err = toHash(made); err != nil {
		return source.Claim{}, err
	}
	if before.ID != "" && !before.Gone {
		if move.Old, err = toHash(before.ID); err != nil {
			return source.Claim{}, err
		}
	}
	m.fetching.Lock()
	defer m.fetching.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, advertTime, fmt.Errorf("not done after %s", advertTime))
	defer cancel()
	if err := asRefusal(cause(ctx, m.push(ctx, move, raw))); err != nil {
		return source.Claim{}, fmt.Errorf("push %s to %s: %w", source.ClaimRef, redacted(m.opt.URL), err)
	}
	c := source.ParseClaim(made, raw)
	m.claimAt = deadline.Now()
	return c, m.keepClaim(c)
}

// push moves one ref to a commit with the empty tree.
func (m *Mirror) push(ctx context.Context, move bare.Move, commit []byte) error {
	r, err := m.dialFor(writing)
	if err != nil {
		return err
	}
	defer r.Close()
	a, err := advertised(ctx, r)
	if err != nil {
		return err
	}
	if now := a.refs[move.Name]; now != move.Old {
		return fmt.Errorf("%s: %w", move.Name, ErrMoved)
	}
	return r.Push(ctx, move, commit)
}
