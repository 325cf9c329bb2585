package main

import (
	"context"
	"log/slog"
)

// unpacker makes images ready that were pushed to this node's registry, so that the commit that names one, which
// commonly follows at once, does not wait for that. It is only an economy: whatever it leaves undone is done when a
// pod needs it.
type unpacker struct {
	pushed chan pushedImage
}

type pushedImage struct{ name, digest string }

// aheadMost bounds how many images wait; of more pushes at once the later ones are left to the pods.
const aheadMost = 32

func newUnpacker() *unpacker { return &unpacker{pushed: make(chan pushedImage, aheadMost)} }

// note takes an image in and never waits.
func (u *unpacker) note(name, digest string) {
	select {
	case u.pushed <- pushedImage{name, digest}:
	default:
	}
}

// run unpacks one image after the other until ctx ends.
func (u *unpacker) run(ctx context.Context, pull func(ctx context.Context, name, digest string) error, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case image := <-u.pushed:
			if err := pull(ctx, image.name, image.digest); err != nil && ctx.Err() == nil {
				// For another kind of machine, perhaps; a pod that needs it says why it cannot run.
				log.InfoContext(ctx, "pushed image was not unpacked ahead", "image", image.name, "err", err)
			}
		}
	}
}
