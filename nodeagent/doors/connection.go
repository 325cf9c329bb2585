package doors

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/wire"
)

// dialGap is between tries to reach a Service whose pods do not answer yet, dialFor how long one may take.
const (
	dialGap = 200 * time.Millisecond
	dialFor = 2 * time.Second
)

// take has a connection held, if there is room.
func (d *Doors) take(o *door, c *net.TCPConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut || o.gone.Err() != nil || d.held[o.Preview] >= d.opt.Each || d.total >= d.opt.Most {
		reset(c)
		return
	}
	preview := o.Preview
	d.held[preview]++
	d.total++
	d.waiting[preview]++
	if o.Asleep {
		d.wake(preview)
	}
	d.tasks.Go(func() {
		d.serve(o, c, preview)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.total--
		less(d.held, preview)
	})
}

// less takes one away, and forgets what nothing is left of.
func less(of map[string]int, preview string) {
	if of[preview]--; of[preview] <= 0 {
		delete(of, preview)
	}
}

// serve holds a connection until it can be taken to the Service, and does so.
func (d *Doors) serve(o *door, c *net.TCPConn, preview string) {
	to := d.await(o)
	d.mu.Lock()
	less(d.waiting, preview)
	d.tell() // who wakes has one reason less
	d.mu.Unlock()
	if to == nil {
		reset(c)
		return
	}
	defer context.AfterFunc(o.gone, func() { reset(c); reset(to) })()
	pass(c, to)
}

// await waits for the Service of a door, and opens a connection to it; nil if there is none in time.
func (d *Doors) await(o *door) *net.TCPConn {
	ctx, cancel := context.WithTimeout(o.gone, d.opt.Hold)
	defer cancel()
	for {
		d.mu.Lock()
		now, changed := o.Door, d.changed
		d.mu.Unlock()
		var again <-chan time.Time
		if now.Served {
			if to := dial(ctx, now); to != nil {
				return to
			}
			again = time.After(dialGap) // a pod without a readiness probe may not listen yet
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			d.giveUp(o)
			return nil
		}
	}
}

// giveUp closes a door behind which nothing came up though its preview is awake: connections are refused then, as those of any Service without
// pods.
func (d *Doors) giveUp(o *door) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !o.Asleep {
		d.shutDoor(o)
	}
}

func dial(ctx context.Context, to wire.Door) *net.TCPConn {
	dialer := net.Dialer{Timeout: dialFor}
	c, err := dialer.DialContext(ctx, "tcp4", to.Service.String())
	if err != nil {
		return nil
	}
	return c.(*net.TCPConn)
}

// pass takes bytes both ways until both ends are done.
func pass(a, b *net.TCPConn) {
	defer a.Close()
	defer b.Close()
	var back sync.WaitGroup
	back.Go(func() { copyTo(a, b) })
	copyTo(b, a)
	back.Wait()
}

// copyTo copies until from has no more, and says so; an error ends both.
func copyTo(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = from.Close()
		_ = to.Close()
		return
	}
	_ = to.CloseWrite()
}

// reset ends a connection in a way that nobody takes for an answer.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
