package links

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watcher reads netlink's notifications in one goroutine until it is stopped.
type watcher struct {
	socket  *nl.NetlinkSocket
	stopped atomic.Bool
	done    chan struct{}
}

func (l *Links) startWatch() (*watcher, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		return nil, err
	}
	w := &watcher{socket: s, done: make(chan struct{})}
	go l.run(w)
	return w, nil
}

func (w *watcher) stop() {
	if w.stopped.CompareAndSwap(false, true) {
		w.socket.Close() // ends Receive
		<-w.done
	}
}

func (l *Links) run(w *watcher) {
	defer close(w.done)
	for !w.stopped.Load() {
		messages, _, err := w.socket.Receive()
		switch {
		case w.stopped.Load():
			return
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS): // the kernel dropped some: anything may have happened
			l.signal()
			continue
		case err != nil:
			l.opt.Log.Warn("netlink notifications failed, will retry", "err", err)
			l.signal()
			time.Sleep(200 * time.Millisecond)
			continue
		}
		for i := range messages {
			if l.concerns(messages[i].Header.Type, messages[i].Data) {
				l.signal()
			}
		}
	}
}

// signal leaves one value in the channel, however often it is called.
func (l *Links) signal() {
	select {
	case l.events <- struct{}{}:
	default:
	}
}

// concerns tells whether a notification says that something of ours was taken away by someone else.
func (l *Links) concerns(kind uint16, data []byte) bool {
	switch kind {
	case unix.RTM_DELLINK, unix.RTM_NEWLINK:
		return len(data) >= unix.SizeofIfInfomsg && l.linkConcerns(kind, data)
	case unix.RTM_NEWADDR: // a network of another node may have come, and with it a shorter way
		return len(data) >= unix.SizeofIfAddrmsg && l.peers.groundMoved(attribute(data[unix.SizeofIfAddrmsg:], unix.IFA_ADDRESS), int(data[1]))
	case unix.RTM_DELADDR:
		if len(data) < unix.SizeofIfAddrmsg {
			return false
		}
		address := attribute(data[unix.SizeofIfAddrmsg:], unix.IFA_ADDRESS)
		return l.ownAddress(address) || l.peers.groundMoved(address, int(data[1]))
	case unix.RTM_DELROUTE:
		if len(data) < unix.SizeofRtMsg {
			return false
		}
		to := attribute(data[unix.SizeofRtMsg:], unix.RTA_DST)
		return l.ownAddress(to) || l.peers.hasPods(to)
	}
	return false
}

func (l *Links) linkConcerns(kind uint16, data []byte) bool {
	info := nl.DeserializeIfInfomsg(data)
	name := strings.TrimRight(string(attribute(data[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME)), "\x00")
	if !strings.HasPrefix(name, Prefix(l.opt.Instance)) {
		const isNew = 0xffffffff // every flag counts as changed
		switched := kind == unix.RTM_NEWLINK && info.Change != isNew && info.Change&unix.IFF_UP != 0
		return switched && l.peers.standsOn(int(info.Index)) // the kernel takes its routes away and does not say so
	}
	if kind == unix.RTM_DELLINK {
		return !l.takeExpected(name)
	}
	const isNew = 0xffffffff // every flag counts as changed
	wentDown := info.Change != isNew && info.Change&unix.IFF_UP != 0 && info.Flags&unix.IFF_UP == 0
	return wentDown && !l.isExpected(name)
}

func (l *Links) ownAddress(b []byte) bool {
	a, ok := netip.AddrFromSlice(b)
	return ok && (l.opt.PodCIDR.Contains(a) || l.opt.ServiceCIDR.Contains(a))
}

// attribute returns the value of the first attribute of a kind, or nil.
func attribute(data []byte, kind uint16) []byte {
	attrs, err := nl.ParseRouteAttr(data)
	if err != nil {
		return nil
	}
	for _, a := range attrs {
		if a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return a.Value
		}
	}
	return nil
}

func (l *Links) expect(name string, yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if yes {
		l.expected[name] = true
	} else {
		delete(l.expected, name)
	}
}

func (l *Links) isExpected(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expected[name]
}

// takeExpected tells whether we removed the link ourselves, once.
func (l *Links) takeExpected(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.expected[name]
	delete(l.expected, name)
	return was
}
