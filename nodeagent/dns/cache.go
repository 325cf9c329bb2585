package dns

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds on how long answers of others are kept.
const (
	maxTTL      = time.Hour        // whatever the answer says
	maxNegative = 30 * time.Second // that there is no such name
	staleFor    = time.Hour        // after they expired, for when no resolver answers
)

type cacheKey struct {
	name              string // lower case
	kind              uint16
	dnssec, unchecked bool
}

// cache keeps the answers that were used last, up to a number of them.
type cache struct {
	size int

	mu      sync.Mutex // guards both below
	entries map[cacheKey]*list.Element
	used    *list.List // of *cached; the last used first
}

type cached struct {
	key     cacheKey
	answer  *dns.Msg
	stored  time.Time
	expires time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, entries: make(map[cacheKey]*list.Element), used: list.New()}
}

// get returns a copy of an answer, its TTLs less the time since it was stored, or nil. With stale it may have
// expired, and is then good for a moment only.
func (c *cache) get(k cacheKey, now time.Time, stale bool) *dns.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[k]
	if e == nil {
		return nil
	}
	v := e.Value.(*cached)
	if now.After(v.expires.Add(staleFor)) {
		c.remove(e)
		return nil
	}
	if now.After(v.expires) && !stale {
		return nil
	}
	c.used.MoveToFront(e)
	m := v.answer.Copy()
	age := uint32(max(0, now.Sub(v.stored)/time.Second))
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			h := rr.Header()
			if h.Rrtype == dns.TypeOPT {
				continue
			}
			if h.Ttl > age {
				h.Ttl -= age
			} else {
				h.Ttl = 1
			}
		}
	}
	return m
}

// put keeps an answer for as long as it says. Answers that say nothing about how long are not kept.
func (c *cache) put(k cacheKey, m *dns.Msg, now time.Time) {
	ttl := lifetime(m)
	if ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[k]; e != nil {
		c.remove(e)
	}
	for len(c.entries) >= c.size {
		c.remove(c.used.Back())
	}
	c.entries[k] = c.used.PushFront(&cached{key: k, answer: m.Copy(), stored: now, expires: now.Add(ttl)})
}

func (c *cache) remove(e *list.Element) {
	c.used.Remove(e)
	delete(c.entries, e.Value.(*cached).key)
}

// lifetime is the least TTL of an answer, or for "there is none" what its SOA says.
func lifetime(m *dns.Msg) time.Duration {
	if m.Truncated || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	if len(m.Answer) == 0 || m.Rcode == dns.RcodeNameError {
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				return min(maxNegative, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second)
			}
		}
		return 0
	}
	ttl := maxTTL
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		}
	}
	return ttl
}
