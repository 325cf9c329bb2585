//go:build e2e

package e2e

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	bigendian "encoding/binary"
	"encoding/json"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// forger is a machine that holds the ring's gossip key and says what it likes.
type forger struct {
	t     *testing.T
	conn  net.PacketConn
	aead  cipher.AEAD
	label string
	to    []*Node
}

// forger speaks from a machine's namespace, with the key that its agent has.
func (r *ring) forger(t *testing.T, from *Node) *forger {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(from.Data, "ring", "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{t: t, label: from.Status().Ring, to: r.nodes}
	if f.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	err = from.within(func() error { f.conn, err = net.ListenPacket("udp4", ":0"); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.conn.Close() })
	return f
}

// say sends a message of memberlist's to all nodes: a type, and fields in msgpack.
func (f *forger) say(body []byte) {
	f.t.Helper()
	nonce := make([]byte, f.aead.NonceSize())
	_, _ = rand.Read(nonce)
	packet := append([]byte{244, byte(len(f.label))}, f.label...) // the label
	packet = append(append(packet, 1), nonce...)                  // encrypted, without padding
	packet = f.aead.Seal(packet, nonce, body, []byte(f.label))
	for _, n := range f.to {
		if _, err := f.conn.WriteTo(packet, &net.UDPAddr{IP: net.ParseIP(n.address), Port: 7946}); err != nil {
			f.t.Error(err)
		}
	}
}

// fields are a msgpack map: names, each with what packs it.
func fields(kind byte, pairs ...any) []byte {
	b := []byte{kind, 0x80 | byte(len(pairs)/2)}
	for i := range pairs {
		switch v := pairs[i].(type) {
		case string: // of 31 bytes at most
			b = append(append(b, 0xa0|byte(len(v))), v...)
		case []byte:
			b = append(append(b, 0xda, byte(len(v)>>8), byte(len(v))), v...)
		case uint32:
			b = bigendian.BigEndian.AppendUint32(append(b, 0xce), v)
		case bool:
			b = append(b, map[bool]byte{true: 0xc3, false: 0xc2}[v])
		}
	}
	return b
}

// Messages of memberlist and serf.
const (
	sayAlive = 4
	sayDead  = 5
	sayUser  = 8
)

// slander says everything of a node that may be said of it: that it failed, left, was pruned, is elsewhere, has other tags.
func (f *forger) slander(id string, at *Node, incarnation uint32) {
	f.say(fields(sayDead, "Incarnation", incarnation, "Node", id, "From", "somebody"))
	f.say(fields(sayDead, "Incarnation", incarnation, "Node", id, "From", id)) // it left
	f.say(fields(sayAlive, "Incarnation", incarnation, "Node", id, "Addr", []byte(net.ParseIP(at.address).To4()), "Port", uint32(7946),
		"Meta", append([]byte{255}, fields(0, "forge", "reads")[1:]...), "Vsn", []byte{1, 5, 2, 2, 5, 4}))
	for _, prune := range []bool{false, true} { // serf's own word for it
		f.say(append([]byte{sayUser}, fields(0, "LTime", incarnation, "Node", id, "Prune", prune)...))
	}
}

// whereabouts says where each pod is, and which pod it is.
func (r *ring) whereabouts() string {
	var all []string
	for _, p := range r.nodes[0].Status().Pods {
		all = append(all, p.Name+" "+p.Node+" "+p.UID)
	}
	return strings.Join(all, "\n")
}

// A member that holds the gossip's key says of another, of the leader too, that it left and that it is elsewhere, in the end
// so that it cannot be denied: no pod moves, nobody is taken for lost or loses its vote, and what
// may run once stays where it is. A node that then does fail is found out all the same.
func TestFault_N15(t *testing.T) {
	r, w := chaos(t)
	first := r.nodes[0]
	leader, rest := r.around(r.leader())
	before := r.whereabouts()
	for i, victim := range []*Node{rest[0], leader, rest[0]} {
		f := r.forger(t, rest[1])
		id := victim.Status().NodeID
		for k := range uint32(rounds(50, 300)) {
			incarnation := 1000*uint32(i+1) + 2*k
			if i == 2 { // higher than anything that could be said against it
				incarnation = math.MaxUint32
			}
			f.slander(id, rest[1], incarnation)
			time.Sleep(100 * time.Millisecond)
			for name, state := range rest[1].states() {
				if state != "Ready" {
					t.Errorf("attack %d: %s is %s", i, name, state)
				}
			}
		}
		first.Eventually(10*time.Second, func() error { return r.whole(3) })
		if after := r.whereabouts(); after != before {
			t.Errorf("attack %d: pods before\n%s\nafter\n%s", i, before, after)
		}
		if t.Failed() {
			return
		}
	}
	w.ran(1)
	r.cable(rest[0], "down")
	leader.Eventually(30*time.Second, func() error { return leader.readyOff(rest[0].name, "web-", 3) })
	r.cable(rest[0], "up")
	leader.Eventually(60*time.Second, func() error { return r.whole(3) })
	w.alone(t)
}
