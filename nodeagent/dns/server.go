package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/shoal-dev/shoal/engine/wire"
)

// Options says where the server listens and whom it asks. Zero fields mean their defaults.
type Options struct {
	Listen    netip.AddrPort   // required: the DNS address of the service CIDR, on a local interface
	Holder    int              // a process that may hold the sockets of the server before (Files); 0: there is none
	Tables    *wire.Tables     // what is answered until the first Swap; default: SERVFAIL, which resolvers take as "ask again"
	Resolv    string           // the machine's resolvers, read again when it changes; default /etc/resolv.conf
	Upstreams []netip.AddrPort // asked instead of those in Resolv, if any
	Timeout   time.Duration    // for one resolver to answer before the next is asked; default 1 s
	Cache     int              // answers kept; default 10,000
	InFlight  int              // questions worked on at once; more are answered SERVFAIL; default 1,000
	Log       *slog.Logger     // default: discard
}

// WithDefaults returns a copy of o with its zero fields filled in.
func (o Options) WithDefaults() Options {
	if o.Resolv == "" {
		o.Resolv = "/etc/resolv.conf"
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Cache == 0 {
		o.Cache = 10_000
	}
	if o.InFlight == 0 {
		o.InFlight = 1_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server answers questions over UDP and TCP.
type Server struct {
	opt      Options
	zone     atomic.Pointer[zone]
	upstream *upstream
	inFlight chan struct{}

	sockets
	udp, tcp *dns.Server
	serving  sync.WaitGroup
}

// Listen binds the address, over UDP and TCP, or takes over the sockets that are held for it, and starts to answer. Close
// ends it.
func Listen(opt Options) (*Server, error) {
	opt = opt.WithDefaults()
	if !opt.Listen.IsValid() {
		return nil, errors.New("dns: listen: want an address and port")
	}
	held, err := open(opt.Listen, opt.Holder)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	opt.Listen = held.packets.LocalAddr().(*net.UDPAddr).AddrPort()
	s := &Server{opt: opt, sockets: held, upstream: newUpstream(opt), inFlight: make(chan struct{}, opt.InFlight)}
	if opt.Tables != nil {
		s.Swap(*opt.Tables)
	}
	handler := dns.HandlerFunc(s.serve)
	s.udp = &dns.Server{PacketConn: held.packets, Handler: handler, UDPSize: dns.DefaultMsgSize}
	s.tcp = &dns.Server{
		Listener: &limited{Listener: held.connections, free: make(chan struct{}, maxConnections)}, Handler: handler,
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: func() time.Duration { return 10 * time.Second }, MaxTCPQueries: 128,
	}
	for _, server := range []*dns.Server{s.udp, s.tcp} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		failed := make(chan error, 1)
		s.serving.Go(func() {
			err := server.ActivateAndServe()
			failed <- err
			if err != nil && !errors.Is(err, net.ErrClosed) {
				opt.Log.Error("dns server ended", "err", err)
			}
		})
		select {
		case <-started:
		case err := <-failed:
			_ = held.packets.Close()
			_ = held.connections.Close()
			return nil, fmt.Errorf("dns: %w", err)
		}
	}
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort { return s.opt.Listen }

// Swap makes t what is answered from now on. t must not be changed afterwards.
func (s *Server) Swap(t wire.Tables) { s.zone.Store(newZone(&t)) }

// Close stops to listen and waits, for at most 2 s, for answers on their way.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := errors.Join(s.udp.ShutdownContext(ctx), s.tcp.ShutdownContext(ctx))
	s.serving.Wait()
	s.upstream.close()
	if err != nil {
		return fmt.Errorf("dns: stop: %w", err)
	}
	return nil
}

// serve answers one question. Whatever was sent, it does not panic and does not answer twice.
func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	m := s.reply(q, addressOf(w.RemoteAddr()))
	if m == nil {
		return
	}
	limit := dns.MaxMsgSize
	if _, isUDP := w.RemoteAddr().(*net.UDPAddr); isUDP {
		limit = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			limit = max(dns.MinMsgSize, min(int(opt.UDPSize()), 1232))
		}
	}
	m.Truncate(limit)
	if err := w.WriteMsg(m); err != nil {
		s.opt.Log.Debug("dns answer not sent", "err", err)
	}
}

// addressOf is who asks; the zero address is nobody in particular.
func addressOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// reply is the answer to a question q of whoever is at from, or nil to what is no question.
func (s *Server) reply(q *dns.Msg, from netip.Addr) *dns.Msg {
	if q.Response {
		return nil
	}
	m := new(dns.Msg)
	m.SetReply(q)
	m.Compress, m.RecursionAvailable = true, true
	opt := q.IsEdns0()
	if opt != nil {
		m.SetEdns0(1232, opt.Do())
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case len(q.Question) != 1:
		m.Rcode = dns.RcodeFormatError
	case opt != nil && opt.Version() != 0:
		m.Rcode = dns.RcodeBadVers
	case q.Question[0].Qclass != dns.ClassINET:
		m.Rcode = dns.RcodeRefused
	case q.Question[0].Qtype == dns.TypeAXFR || q.Question[0].Qtype == dns.TypeIXFR:
		m.Rcode = dns.RcodeRefused
	default:
		s.resolve(m, q, from)
	}
	return m
}

func (s *Server) resolve(m, q *dns.Msg, from netip.Addr) {
	question := q.Question[0]
	name := strings.ToLower(question.Name)
	z := s.zone.Load()
	if z == nil {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	if z.holds(name) {
		alias := z.answer(m, question, name)
		if alias == "" {
			return
		}
		question.Name = alias
	} else if z.answerReverse(m, question, name) {
		return
	}
	if z.isolated[from] { // a question can carry anything out to whoever answers for its name
		m.Rcode = dns.RcodeNameError
		return
	}
	s.forward(m, q, question)
}

// forward adds what the machine's resolvers say about question to m.
func (s *Server) forward(m, q *dns.Msg, question dns.Question) {
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		m.Rcode = dns.RcodeServerFailure
		return
	}
	opt := q.IsEdns0()
	answer, err := s.upstream.ask(question, opt != nil && opt.Do(), q.CheckingDisabled)
	if err != nil {
		s.opt.Log.Debug("dns question not answered upstream", "err", err)
		m.Rcode = dns.RcodeServerFailure
		return
	}
	m.Rcode = answer.Rcode
	m.Answer = append(m.Answer, answer.Answer...)
	m.Ns = append(m.Ns, answer.Ns...)
	for _, rr := range answer.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			m.Extra = append(m.Extra, rr)
		}
	}
	if len(m.Answer) > len(answer.Answer) {
		m.Rcode = dns.RcodeSuccess // the alias itself was found
	}
}

// maxConnections is how many TCP connections are open at once; further ones wait to be accepted.
const maxConnections = 256

// limited is a listener that accepts only so many connections at a time.
type limited struct {
	net.Listener
	free chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
}

type counted struct {
	net.Conn
	release func()
}

func (c *counted) Close() error {
	defer c.release()
	return c.Conn.Close()
}
