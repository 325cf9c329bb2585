package dns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// upstream asks the machine's resolvers, and remembers what they said.
type upstream struct {
	opt   Options
	cache *cache

	mu       sync.Mutex // guards all below
	servers  []server
	read     time.Time // when Resolv was looked at
	modified time.Time // what its time was then
	asking   map[cacheKey]*flight
}

// server is a resolver; one that failed is asked last until then.
type server struct {
	address netip.AddrPort
	badTill time.Time
}

// flight is a question on its way, which others with the same one wait for.
type flight struct {
	done   chan struct{}
	answer *dns.Msg
	err    error
}

// badFor is how long a resolver that did not answer is asked only after the others.
const badFor = 10 * time.Second

func newUpstream(opt Options) *upstream {
	u := &upstream{opt: opt, cache: newCache(opt.Cache), asking: make(map[cacheKey]*flight)}
	for _, a := range opt.Upstreams {
		u.servers = append(u.servers, server{address: a})
	}
	return u
}

func (u *upstream) close() {}

// ask returns the resolvers' answer to a question: remembered, or asked for now, or, when none answers, one that
// has expired less than an hour ago. The caller must not change it.
func (u *upstream) ask(q dns.Question, dnssec, unchecked bool) (*dns.Msg, error) {
	q.Name = strings.ToLower(q.Name)
	k := cacheKey{q.Name, q.Qtype, dnssec, unchecked}
	now := time.Now()
	if m := u.cache.get(k, now, false); m != nil {
		return m, nil
	}
	u.mu.Lock()
	if f := u.asking[k]; f != nil {
		u.mu.Unlock()
		<-f.done
		return f.answer, f.err
	}
	f := &flight{done: make(chan struct{})}
	u.asking[k] = f
	u.mu.Unlock()

	f.answer, f.err = u.exchange(q, dnssec, unchecked)
	if f.err == nil {
		u.cache.put(k, f.answer, time.Now())
	} else if stale := u.cache.get(k, now, true); stale != nil {
		f.answer, f.err = stale, nil
	}
	u.mu.Lock()
	delete(u.asking, k)
	u.mu.Unlock()
	close(f.done)
	return f.answer, f.err
}

// exchange asks the resolvers one after the other, each once, until one answers.
func (u *upstream) exchange(q dns.Question, dnssec, unchecked bool) (*dns.Msg, error) {
	servers := u.order()
	if len(servers) == 0 {
		return nil, errors.New("no resolver is configured")
	}
	var errs []error
	for _, a := range servers {
		m, err := u.exchangeWith(a, q, dnssec, unchecked)
		if err == nil && m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeRefused {
			return m, nil
		}
		if err != nil {
			u.bad(a)
		} else {
			err = fmt.Errorf("%s", dns.RcodeToString[m.Rcode])
		}
		errs = append(errs, fmt.Errorf("resolver %s: %w", a, err))
	}
	return nil, errors.Join(errs...)
}

// exchangeWith asks one resolver over UDP from a new socket, hence a random port, and over TCP if the answer
// does not fit.
func (u *upstream) exchangeWith(a netip.AddrPort, q dns.Question, dnssec, unchecked bool) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.Id = uint16(rand.Uint32())
	m.RecursionDesired, m.CheckingDisabled = true, unchecked
	m.Question = []dns.Question{q}
	m.SetEdns0(1232, dnssec)
	deadline := time.Now().Add(u.opt.Timeout)
	answer, err := exchangeUDP(a, m, deadline)
	if err == nil && answer.Truncated {
		tcp := &dns.Client{Net: "tcp", Timeout: u.opt.Timeout}
		answer, _, err = tcp.Exchange(m, a.String())
	}
	if err != nil {
		return nil, err
	}
	if !answers(answer, m) {
		return nil, errors.New("the answer is to another question")
	}
	return answer, nil
}

// exchangeUDP waits until the deadline for the answer to m, and passes over packets that are none: whoever guesses
// wrong does not end the wait.
func exchangeUDP(a netip.AddrPort, m *dns.Msg, deadline time.Time) (*dns.Msg, error) {
	out, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack question: %w", err)
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a))
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := c.Write(out); err != nil {
		return nil, err
	}
	b := make([]byte, dns.DefaultMsgSize)
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil, err
		}
		answer := new(dns.Msg)
		if err := answer.Unpack(b[:n]); (err == nil || answer.Truncated) && answers(answer, m) {
			return answer, nil
		}
	}
}

// answers tells whether a is an answer to m: same id, same question.
func answers(a, m *dns.Msg) bool {
	return a.Response && a.Id == m.Id && len(a.Question) == 1 && a.Question[0].Qtype == m.Question[0].Qtype &&
		a.Question[0].Qclass == m.Question[0].Qclass && strings.EqualFold(a.Question[0].Name, m.Question[0].Name)
}

// order returns the resolvers: as configured, but those that lately failed last.
func (u *upstream) order() []netip.AddrPort {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if len(u.opt.Upstreams) == 0 && now.Sub(u.read) > 2*time.Second {
		u.read = now
		u.reload()
	}
	var good, bad []netip.AddrPort
	for _, s := range u.servers {
		if s.badTill.After(now) {
			bad = append(bad, s.address)
		} else {
			good = append(good, s.address)
		}
	}
	return append(good, bad...)
}

func (u *upstream) bad(a netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.servers {
		if u.servers[i].address == a {
			u.servers[i].badTill = time.Now().Add(badFor)
		}
	}
}

// maxResolvers is how many of resolv.conf are used, as the C library does.
const maxResolvers = 3

// reload reads the resolvers from Resolv if it changed. Our own address is left out, or we would ask ourselves.
func (u *upstream) reload() {
	info, err := os.Stat(u.opt.Resolv)
	if err != nil || info.ModTime().Equal(u.modified) {
		return
	}
	config, err := dns.ClientConfigFromFile(u.opt.Resolv)
	if err != nil {
		u.opt.Log.Warn("resolvers not read, keeping the old ones", "err", err)
		return
	}
	u.modified = info.ModTime()
	u.servers = u.servers[:0]
	for _, s := range config.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil || netip.AddrPortFrom(a, 53) == u.opt.Listen || len(u.servers) == maxResolvers {
			continue
		}
		u.servers = append(u.servers, server{address: netip.AddrPortFrom(a, 53)})
	}
}
