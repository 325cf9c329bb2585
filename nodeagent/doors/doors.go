package doors

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/wire"
)

// Options are what Doors are made of. Zero fields mean their defaults.
type Options struct {
	// Wake has the ring wake a preview; required. It may be repeated.
	Wake func(ctx context.Context, preview string) error
	Hold time.Duration // how long a connection is held until there are pods; default 60 s
	Each int           // connections of one preview at most; default 64
	Most int           // connections in all at most; default 512
	Log  *slog.Logger  // default: discard
}

// wakeGap is the least time between two requests to wake the same preview.
const wakeGap = 2 * time.Second

// Doors are those of a node. Safe for concurrent use.
type Doors struct {
	opt   Options
	tasks sync.WaitGroup // listeners, connections and those who wake

	mu      sync.Mutex // guards what follows
	shut    bool
	doors   map[uint16]*door  // by node port
	held    map[string]int    // connections by preview, waiting or passed through
	waiting map[string]int    // of those, the waiting ones
	total   int               // of held
	waking  map[string]bool   // previews that somebody wakes
	said    map[uint16]string // what was said last of ports that are not to be had
	changed chan struct{}     // closed when anything is another
}

// door is one node port. Doors' mutex guards it.
type door struct {
	wire.Door
	listener net.Listener    // nil: it is closed
	gone     context.Context // ends with the door's connections, not with a call: a door is a task of its own
	end      context.CancelFunc
}

// New makes Doors without any; Run closes them.
func New(opt Options) *Doors {
	opt.Hold, opt.Each, opt.Most = cmp.Or(opt.Hold, time.Minute), cmp.Or(opt.Each, 64), cmp.Or(opt.Most, 512)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Doors{
		opt: opt, doors: map[uint16]*door{}, held: map[string]int{}, waiting: map[string]int{}, waking: map[string]bool{}, said: map[uint16]string{},
		changed: make(chan struct{}),
	}
}

// Run waits until ctx ends, and then for all that Doors have begun.
func (d *Doors) Run(ctx context.Context) error {
	<-ctx.Done()
	d.mu.Lock()
	d.shut = true
	for _, o := range d.doors {
		d.drop(o)
	}
	d.tell()
	d.mu.Unlock()
	d.tasks.Wait()
	return context.Cause(ctx)
}

// Set says which doors there are, once the packet filter leads to the pods that are said to be there.
func (d *Doors) Set(list []wire.Door) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return
	}
	there := make(map[uint16]bool, len(list))
	for _, now := range list {
		there[now.NodePort] = true
		o := d.doors[now.NodePort]
		if o != nil && (o.Preview != now.Preview || o.Service != now.Service) {
			d.drop(o)
			o = nil
		}
		if o == nil {
			o = &door{}
			o.gone, o.end = context.WithCancel(context.Background())
			d.doors[now.NodePort] = o
		}
		o.Door = now
		switch {
		case now.Asleep && o.listener == nil:
			d.open(o)
		case !now.Asleep && now.Served:
			d.shutDoor(o)
		}
		if now.Asleep && d.waiting[now.Preview] > 0 {
			d.wake(now.Preview)
		}
	}
	for port, o := range d.doors {
		if !there[port] {
			d.drop(o)
		}
	}
	maps.DeleteFunc(d.said, func(port uint16, _ string) bool { return !there[port] })
	d.tell()
}

// Busy are the previews that connections wait for or pass through to.
func (d *Doors) Busy() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]bool, len(d.held))
	for preview := range d.held {
		out[preview] = true
	}
	return out
}

// tell wakes all who wait for a change. The mutex is held.
func (d *Doors) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// open has a door listen. A port that somebody else has is tried again at the next Set. The mutex is held.
func (d *Doors) open(o *door) {
	l, err := net.Listen("tcp4", ":"+strconv.Itoa(int(o.NodePort)))
	if err != nil {
		if text := err.Error(); d.said[o.NodePort] != text {
			d.said[o.NodePort] = text
			d.opt.Log.Warn("a preview that sleeps is not woken by requests", "environment", o.Preview, "port", o.NodePort, "err", err)
		}
		return
	}
	delete(d.said, o.NodePort)
	o.listener = l
	d.tasks.Go(func() { d.accept(o, l) })
}

// shutDoor closes a door; its connections go on. The mutex is held.
func (d *Doors) shutDoor(o *door) {
	if o.listener != nil {
		_ = o.listener.Close()
		o.listener = nil
	}
}

// drop closes a door and its connections. The mutex is held.
func (d *Doors) drop(o *door) {
	d.shutDoor(o)
	o.end()
	delete(d.doors, o.NodePort)
}

func (d *Doors) accept(o *door, l net.Listener) {
	for {
		c, err := l.Accept()
		d.mu.Lock()
		open := o.listener == l
		d.mu.Unlock()
		if err != nil && !open {
			return
		}
		if err != nil { // no more files, say
			select {
			case <-o.gone.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		d.take(o, c.(*net.TCPConn))
	}
}

// wake has the ring wake a preview as long as it sleeps and connections wait for it. There is one who does for each. The mutex is held.
func (d *Doors) wake(preview string) {
	if d.waking[preview] || d.shut {
		return
	}
	d.waking[preview] = true
	d.tasks.Go(func() {
		said := ""
		for last := (time.Time{}); ; {
			d.mu.Lock()
			if d.waiting[preview] == 0 || !d.sleeps(preview) || d.shut {
				delete(d.waking, preview)
				d.mu.Unlock()
				return
			}
			changed := d.changed
			d.mu.Unlock()
			if time.Since(last) < wakeGap {
				select {
				case <-changed:
				case <-time.After(time.Until(last.Add(wakeGap))):
				}
				continue
			}
			last = time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), d.opt.Hold)
			err := d.until(ctx, preview, d.opt.Wake)
			cancel()
			switch {
			case err == nil:
				d.opt.Log.Info("a preview was asked for and wakes", "environment", preview)
			case err.Error() != said:
				said = err.Error()
				d.opt.Log.Warn("a preview was asked for and does not wake, will retry", "environment", preview, "err", err)
			}
		}
	})
}

// until calls f with a context that ends too when the preview's doors are gone.
func (d *Doors) until(ctx context.Context, preview string, f func(context.Context, string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	for _, o := range d.doors {
		if o.Preview == preview {
			defer context.AfterFunc(o.gone, cancel)()
		}
	}
	d.mu.Unlock()
	return f(ctx, preview)
}

// sleeps tells whether a preview does. The mutex is held.
func (d *Doors) sleeps(preview string) bool {
	for _, o := range d.doors {
		if o.Preview == preview && o.Asleep {
			return true
		}
	}
	return false
}
