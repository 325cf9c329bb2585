package ring

import (
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxStream is how much one TCP connection may bring: the states of all members and the last announcements. memberlist
	// reads 20 MiB into memory before it looks who sends them.
	maxStream = 8 << 20
	// maxStreams is how many such connections are open at once, and maxBrought what they may have brought together.
	maxStreams = 64
	maxBrought = 32 << 20
)

var errTooMuch = errors.New("more than a ring has to say")

// transport is memberlist's own, on which strangers can say only so much.
type transport struct {
	*memberlist.NetTransport
	streams chan net.Conn
	stop    chan struct{}
	running sync.WaitGroup
	open    atomic.Int64
	brought *atomic.Int64 // bytes, by streams that are still open
	refused *atomic.Uint64
}

// newTransport listens. A port of 0 takes one that is free for TCP and UDP.
func newTransport(addr string, port int, lines *log.Logger, brought *atomic.Int64, refused *atomic.Uint64) (*transport, error) {
	var inner *memberlist.NetTransport
	var err error
	for range 10 {
		inner, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{addr}, BindPort: port, Logger: lines})
		if err == nil || port != 0 || !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) { // memberlist keeps the text alone
			break
		}
	}
	if err != nil {
		return nil, err
	}
	t := &transport{NetTransport: inner, streams: make(chan net.Conn), stop: make(chan struct{}), brought: brought, refused: refused}
	t.running.Go(t.pass)
	return t, nil
}

// StreamCh gives the connections that others open.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialAddressTimeout opens a connection; what the other end says is bounded as well.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := t.NetTransport.DialAddressTimeout(a, timeout)
	if err != nil {
		return nil, err
	}
	t.open.Add(1)
	return &stream{Conn: c, of: t}, nil
}

// DialTimeout is DialAddressTimeout for a member without a name.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// Shutdown stops listening. Connections that were accepted meanwhile are still taken from the listener, which waits for that.
func (t *transport) Shutdown() error {
	err := t.NetTransport.Shutdown()
	close(t.stop)
	t.running.Wait()
	return err
}

func (t *transport) pass() {
	for {
		select {
		case c := <-t.NetTransport.StreamCh():
			if t.open.Load() >= maxStreams {
				t.refused.Add(1)
				c.Close()
				continue
			}
			t.open.Add(1)
			s := &stream{Conn: c, of: t}
			select {
			case t.streams <- s:
			case <-t.stop:
				s.Close()
				return
			}
		case <-t.stop:
			return
		}
	}
}

// stream is a connection that counts what it brings.
type stream struct {
	net.Conn
	of   *transport
	got  atomic.Int64
	once sync.Once
}

// Read fails once the stream, or all streams together, have brought too much.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	all := s.of.brought.Add(int64(n))
	if got := s.got.Add(int64(n)); got > maxStream || all > maxBrought {
		if err == nil || errors.Is(err, io.EOF) {
			s.of.refused.Add(1)
		}
		return 0, errTooMuch
	}
	return n, err
}

// Close closes the connection; a second call does nothing.
func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		err = s.Conn.Close()
		s.of.open.Add(-1)
		s.of.brought.Add(-s.got.Load())
	})
	return err
}
