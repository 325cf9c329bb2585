package nodeagent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/shoal-dev/shoal/engine/plan"
)

// Images are fetched to one node more than run them, so that a lost node's pods start elsewhere at once, whatever became of
// the registry. Each node finds for itself what it is to be ready for (plan.Ahead); nothing of it is in the ledger. It is only
// an economy: one image at a time, never while a pod waits for one, and none when the disk has little room. What was fetched
// is kept, as all images are that objects of the ring ask for, and goes with them.

const (
	// aheadRest is between two looks at what to be ready for: places change while pods come and go, and a look takes some ms in a
	// ring of a thousand workloads.
	aheadRest = 10 * time.Second
	// aheadAgain is the wait after a fetch that failed; it doubles to aheadMost.
	aheadAgain = time.Minute
	aheadMost  = time.Hour
	// aheadLook is how often a fetch looks whether a pod waits for an image: then it makes room.
	aheadLook = 200 * time.Millisecond
	// AheadRoom is how much of the disk of images stays free, in percent.
	AheadRoom = 15
)

// AheadImages is what fetching ahead needs of the node's images.
type AheadImages interface {
	Present(ref, digest string) bool
	// PullAhead fetches an image if no more than room bytes come of it; else the error is ErrNoRoom.
	PullAhead(ctx context.Context, p *plan.Pod, ref, digest string, room int64) error
	Pulling() bool // a pod waits for an image
	// Room is how many bytes the disk of images has beside those that are to stay free, AheadRoom percent: 0 if it has none.
	Room() (int64, error)
}

// ErrNoRoom says that an image is too large to be fetched ahead of need.
var ErrNoRoom = errors.New("too little room on the disk of images")

// errGivesWay ends a fetch because a pod waits for an image.
var errGivesWay = errors.New("a pod waits for an image")

// Ahead fetches images ahead of need.
type Ahead struct {
	Want    func() ([]*plan.Pod, error) // whose images are to be here
	Changes <-chan struct{}             // Want may say something else
	Images  AheadImages
	Log     *slog.Logger

	failed map[string]*aheadFailure // by image; only of those that are wanted
}

type aheadFailure struct {
	wait  time.Duration
	again time.Time
	why   string
}

// Run fetches until ctx ends.
func (a *Ahead) Run(ctx context.Context) error {
	a.failed = map[string]*aheadFailure{}
	for {
		again, err := a.look(ctx)
		if err != nil && ctx.Err() == nil {
			a.Log.InfoContext(ctx, "images to fetch ahead of need are not known, will look again", "err", err)
		}
		var later <-chan time.Time
		if again > 0 {
			later = time.After(again)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(aheadRest):
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.Changes:
		case <-later:
		}
	}
}

// look fetches what is wanted, one image after the other, and returns when to look again although nothing changed; 0: then not.
func (a *Ahead) look(ctx context.Context) (again time.Duration, err error) {
	for ctx.Err() == nil {
		pods, err := a.Want()
		if err != nil {
			return aheadRest, err
		}
		p, ref, wait := a.next(pods)
		if p == nil {
			return wait, nil
		}
		if a.Images.Pulling() {
			return aheadRest, nil
		}
		room, err := a.Images.Room()
		if err != nil {
			return aheadAgain, err
		}
		if room <= 0 {
			a.fail(ctx, p, ref, ErrNoRoom)
			continue
		}
		begun := time.Now()
		switch err := a.pull(ctx, p, ref, room); {
		case ctx.Err() != nil:
		case errors.Is(err, errGivesWay):
			return aheadRest, nil
		case err != nil:
			a.fail(ctx, p, ref, err)
		default:
			a.Log.InfoContext(ctx, "image fetched ahead of need", "image", ref, "for", p.Source.String(), "took", time.Since(begun).Round(time.Millisecond).String())
			if !a.Images.Present(ref, p.Images[ref]) { // it is fetched again when that changes, and not time and again
				a.fail(ctx, p, ref, errors.New("it is not there after it was fetched"))
			}
		}
	}
	return 0, nil
}

// next is the first image that is wanted, is not here, and did not fail lately; else when one that failed is to be tried again.
func (a *Ahead) next(pods []*plan.Pod) (p *plan.Pod, ref string, wait time.Duration) {
	wanted := map[string]bool{}
	for _, of := range pods {
		for _, image := range of.ImagesAhead() {
			key := cmp.Or(of.Images[image], image)
			if wanted[key] = true; p != nil || a.Images.Present(image, of.Images[image]) {
				continue
			}
			if f := a.failed[key]; f != nil && time.Until(f.again) > 0 {
				if wait == 0 || time.Until(f.again) < wait {
					wait = time.Until(f.again)
				}
				continue
			}
			p, ref = of, image
		}
	}
	for key := range a.failed {
		if !wanted[key] {
			delete(a.failed, key)
		}
	}
	return p, ref, wait
}

// pull fetches one image, until a pod waits for one.
func (a *Ahead) pull(ctx context.Context, p *plan.Pod, ref string, room int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- a.Images.PullAhead(ctx, p, ref, p.Images[ref], room) }()
	tick := time.NewTicker(aheadLook)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if cause := context.Cause(ctx); err != nil && cause != nil {
				return cause
			}
			return err
		case <-tick.C:
			if a.Images.Pulling() {
				cancel(errGivesWay)
			}
		}
	}
}

func (a *Ahead) fail(ctx context.Context, p *plan.Pod, ref string, err error) {
	key := cmp.Or(p.Images[ref], ref)
	f := a.failed[key]
	if f == nil {
		f = &aheadFailure{}
		a.failed[key] = f
	}
	f.wait = min(max(2*f.wait, aheadAgain), aheadMost)
	f.again = time.Now().Add(f.wait)
	if f.why != err.Error() {
		f.why = err.Error()
		a.Log.InfoContext(ctx, "image not fetched ahead of need, will retry", "image", ref, "for", p.Source.String(), "in", f.wait.String(), "err", err)
	}
}
