package ring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// forge is a packet of somebody who holds the ring's key: a message of memberlist's, a type and fields in msgpack.
func forge(t *testing.T, key []byte, label string, body []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	packet := append([]byte{244, byte(len(label))}, label...)
	packet = append(append(packet, 1), nonce...)
	return aead.Seal(packet, nonce, body, []byte(label))
}

func fields(kind byte, pairs ...any) []byte {
	b := []byte{kind, 0x80 | byte(len(pairs)/2)}
	for _, p := range pairs {
		switch v := p.(type) {
		case string: // of 31 bytes at most
			b = append(append(b, 0xa0|byte(len(v))), v...)
		case []byte:
			b = append(append(b, 0xda, byte(len(v)>>8), byte(len(v))), v...)
		case uint32:
			b = binary.BigEndian.AppendUint32(append(b, 0xce), v)
		case bool:
			b = append(b, map[bool]byte{true: 0xc3, false: 0xc2}[v])
		}
	}
	return b
}

// A member that holds the key says of another, which has just started, that it failed, left, was pruned, has other tags and is
// elsewhere. It denies all of it, and is what it was for everybody a moment later; and it does not end its gossip for one
// who cannot prove to be it.
func TestFault_N15(t *testing.T) {
	key := NewKey()
	var rings []*Ring
	var join []netip.AddrPort
	var asked atomic.Int32
	proves := func(context.Context, netip.AddrPort) bool { asked.Add(1); return false }
	for i := range 3 {
		r := openWith(t, Options{Dir: t.TempDir(), Node: id(i), Keys: [][]byte{key}, Join: join, Proves: proves, Tags: map[string]string{"is": string(id(i))}})
		r.twins.mu.Lock()
		r.twins.after = time.Second
		r.twins.mu.Unlock()
		rings = append(rings, r)
		join = []netip.AddrPort{rings[0].Address()}
	}
	whole := func(what string) {
		t.Helper()
		for _, r := range rings {
			until(t, what, func() bool {
				return alive(r) == "abc" && slices.ContainsFunc(r.Members(), func(m Member) bool {
					return m.ID == id(1) && m.Address == rings[1].Address() && m.Tags["is"] == string(id(1))
				})
			})
		}
	}
	whole("all found each other")
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	victim := string(id(1))
	heard := map[string]bool{}
	for k := range uint32(80) {
		n := 1000 + 2*k
		for _, body := range [][]byte{
			fields(5, "Incarnation", n, "Node", victim, "From", "somebody"),
			fields(5, "Incarnation", n, "Node", victim, "From", victim),
			fields(4, "Incarnation", n, "Node", victim, "Addr", []byte{127, 0, 0, 1}, "Port", uint32(9), "Meta", append([]byte{255}, fields(0, "is", "forged")[1:]...), "Vsn", []byte{1, 5, 2, 2, 5, 4}),
			append([]byte{8}, fields(0, "LTime", n, "Node", victim, "Prune", false)...),
			append([]byte{8}, fields(0, "LTime", n, "Node", victim, "Prune", true)...),
		} {
			for _, r := range rings {
				if _, err := c.WriteTo(forge(t, key, "one", body), net.UDPAddrFromAddrPort(r.Address())); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(50 * time.Millisecond)
		for _, r := range rings {
			heard[alive(r)] = true
		}
	}
	if !heard["ac"] {
		t.Errorf("nobody believed any of it, so nothing was tried: %v", heard)
	}
	if asked.Load() == 0 {
		t.Error("nobody was asked for a proof, so the claim was not tried")
	}
	whole("all is denied")
	if rings[1].besides() {
		t.Error("the node fell silent")
	}
	if s := rings[0].lines.refused.Load(); s > 0 {
		t.Errorf("%d packets were refused: they are not well made", s)
	}
}

// Serf strikes off a member that is to be pruned while it leaves, be it there again by then or not. It comes back.
func TestFault_N15_StruckOff(t *testing.T) {
	key := NewKey()
	a := openWith(t, Options{Dir: t.TempDir(), Node: id(0), Keys: [][]byte{key}})
	openWith(t, Options{Dir: t.TempDir(), Node: id(1), Keys: [][]byte{key}, Join: []netip.AddrPort{a.Address()}})
	until(t, "both found each other, and gossip as several do", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return alive(a) == "ab" && !a.alone && !a.moving
	})
	before := a.serf.Load()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	prune := append([]byte{8}, fields(0, "LTime", uint32(1000), "Node", string(id(1)), "Prune", true)...)
	if _, err := c.WriteTo(forge(t, key, "one", prune), net.UDPAddrFromAddrPort(a.Address())); err != nil {
		t.Fatal(err)
	}
	until(t, "it is struck off, and gossip begins anew", func() bool { return a.serf.Load() != before })
	until(t, "it is back", func() bool { return alive(a) == "ab" && !a.besides() })
}
