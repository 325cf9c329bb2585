package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// A door is a listener on one side of a namespace's wall whose connections are led to the other side: the first node's
// Git server and registry listen on its loopback, and people push to that of the machine; the machine's resolver may
// listen on its loopback, and the nodes ask on theirs.

// dialer connects to where a door leads.
type dialer func(ctx context.Context) (net.Conn, error)

// dialIn connects from inside a namespace.
func dialIn(namespace, address string) dialer {
	return func(ctx context.Context) (conn net.Conn, err error) {
		err = inNamespace(namespace, func() error {
			conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
			return err
		})
		return conn, err
	}
}

// keepDoor leads what comes in on l through, until ctx ends.
func keepDoor(ctx context.Context, l net.Listener, through dialer) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		open.Go(func() { lead(ctx, conn, through) })
	}
}

// lead copies both ways until both are over, or ctx ends.
func lead(ctx context.Context, conn net.Conn, through dialer) {
	defer conn.Close()
	far, err := through(ctx)
	if err != nil {
		return // who connected sees the end of it
	}
	defer far.Close()
	defer context.AfterFunc(ctx, func() { conn.Close(); far.Close() })()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{conn, far}, {far, conn}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0])
			if half, ok := way[1].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
}

// maxQuestions bounds the questions to the machine's resolver that are under way; further ones are dropped, as UDP does.
const maxQuestions = 64

// leadResolvers has the resolvers of this machine that listen on its loopback answer on that of a namespace.
func leadResolvers(ctx context.Context, g *errgroup.Group, namespace string, log *slog.Logger) error {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		log.WarnContext(ctx, "the nodes have no resolver", "err", err)
		return nil
	}
	for _, server := range config.Servers {
		if a, err := netip.ParseAddr(server); err != nil || !a.Is4() || !a.IsLoopback() {
			continue
		}
		address := net.JoinHostPort(server, config.Port)
		var packets net.PacketConn
		var stream net.Listener
		err := inNamespace(namespace, func() (err error) {
			if packets, err = net.ListenPacket("udp", address); err != nil {
				return err
			}
			if stream, err = net.Listen("tcp", address); err != nil {
				packets.Close()
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("resolver in %s: %w", namespace, err)
		}
		g.Go(func() error {
			return keepDoor(ctx, stream, func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", address) })
		})
		g.Go(func() error { return leadQuestions(ctx, packets, address) })
	}
	return nil
}

func leadQuestions(ctx context.Context, in net.PacketConn, resolver string) error {
	defer context.AfterFunc(ctx, func() { in.Close() })()
	var asked errgroup.Group
	asked.SetLimit(maxQuestions)
	defer func() { _ = asked.Wait() }()
	question := make([]byte, 64<<10)
	for {
		n, from, err := in.ReadFrom(question)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // what an earlier answer came to
		}
		q := append([]byte(nil), question[:n]...)
		asked.TryGo(func() error {
			if answer, err := askResolver(q, resolver); err == nil {
				_, _ = in.WriteTo(answer, from)
			}
			return nil
		})
	}
}

func askResolver(question []byte, resolver string) ([]byte, error) {
	conn, err := net.Dial("udp", resolver)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	answer := make([]byte, 64<<10)
	n, err := conn.Read(answer)
	return answer[:n], err
}

// openDoor listens on this machine's loopback for one of the first node's servers.
func openDoor(what string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("%s server: %w%s", what, err, holder(port))
	}
	return l, nil
}
