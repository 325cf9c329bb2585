package peers

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// shows connects to a node with a certificate for one protocol, and returns what came of it: an error, or nil if the
// node took the connection.
func shows(at *machine, cert *tls.Certificate, change func(*tls.Config), protocols ...string) error {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, NextProtos: protocols}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	if change != nil {
		change(c)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", at.Addr().String(), c)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells of a refusal only now
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it waits for us
	}
	return err // none if HTTP/2 begins with its settings
}

// forge makes a certificate by a template that test cases change, signed by whom they say.
func forge(t *testing.T, by authority, key any, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	var public any
	var id place.NodeID
	switch k := key.(type) {
	case ed25519.PrivateKey:
		public, id = k.Public(), NodeOf(k.Public().(ed25519.PublicKey))
	case *ecdsa.PrivateKey:
		public = k.Public()
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: string(id)}, NotBefore: spring, NotAfter: spring.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "shoal", Host: testRing, Path: "/" + string(id)}},
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, public, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestStrangersAreRefused(t *testing.T) {
	a := begin(t)
	b := a.join("b")
	ours := a.trust.Load().signer()
	theirs, err := newAuthority(testRing, spring)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, _ := ed25519.GenerateKey(nil)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	nodes := []string{protoRaft, protoHTTP, protoRenew}
	for _, c := range []struct {
		name      string
		cert      *tls.Certificate
		protocols []string
	}{
		{"no certificate", nil, nodes},
		{"signed by itself", forge(t, authority{cert: &x509.Certificate{}, key: b.key}, b.key, nil), nodes},
		{"another authority that names this ring", forge(t, theirs, b.key, nil), nodes},
		{"a key nobody knows", forge(t, ours, stranger, nil), nodes},
		{"the name of a node, another key", forge(t, ours, stranger, func(c *x509.Certificate) { c.URIs[0].Path = "/" + string(b.id()) }), nodes},
		{"a known key, another node's name", forge(t, ours, b.key, func(c *x509.Certificate) { c.URIs[0].Path = "/" + string(a.id()) }), nodes},
		{"another ring", forge(t, ours, b.key, func(c *x509.Certificate) { c.URIs[0].Host = strings.Repeat("ab", 16) }), nodes},
		{"no name", forge(t, ours, b.key, func(c *x509.Certificate) { c.URIs = nil }), nodes},
		{"two names", forge(t, ours, b.key, func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }), nodes},
		{"an authority", forge(t, ours, b.key, func(c *x509.Certificate) { c.IsCA = true }), nodes},
		{"another kind of key", forge(t, ours, ec, nil), nodes},
		{"past its end", forge(t, ours, b.key, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = spring.Add(-48*time.Hour), spring.Add(-time.Second)
		}), nodes[:2]},
	} {
		for _, protocol := range c.protocols {
			if err := shows(a, c.cert, nil, protocol); err == nil {
				t.Errorf("%s: taken for %s", c.name, protocol)
			}
		}
	}
	good := forge(t, ours, b.key, nil)
	for _, protocol := range nodes {
		if err := shows(a, good, nil, protocol); err != nil {
			t.Errorf("a node of the ring is refused for %s: %v", protocol, err)
		}
		if err := shows(a, good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, protocol); err == nil {
			t.Errorf("TLS 1.2 is spoken for %s", protocol)
		}
	}
	if err := shows(a, good, nil, "http/1.1"); err == nil {
		t.Error("HTTP/1.1 is spoken")
	}
	if err := shows(a, good, nil); err == nil {
		t.Error("a connection without a protocol was taken")
	}
}

// Whoever answers at a node's address must be that node.
func TestNobodyAnswersInPlaceOfANode(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	c := a.join("c").greets()
	b.stop()
	a.book.put(Member{ID: b.id(), Peer: c.Addr()})
	err := a.Call(context.Background(), b.id(), "/greet", nil, nil)
	if want := "node " + string(c.id()) + " answers in place of node " + string(b.id()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("call: %v, want %q", err, want)
	}
	if _, err := a.RaftStream().Dial("ffffffffffffffff", time.Second); err == nil {
		t.Error("an unknown node was dialled")
	}
	a.book.put(Member{ID: b.id()})
	if _, err := a.RaftStream().Dial(raftAddress(b), time.Second); err == nil || !strings.Contains(err.Error(), "no address is known") {
		t.Errorf("no address: %v", err)
	}
}

func TestFault_A5_GarbageOnThePortDoesNothing(t *testing.T) {
	a := begin(t).greets()
	for name, b := range map[string][]byte{
		"zeros": make([]byte, 1<<16), "HTTP": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/2": []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		"half a hello": {0x16, 3, 1, 2, 0, 1}, "a long record": {0x16, 3, 1, 0xff, 0xff}, "nothing": {},
	} {
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write(b)
		c.(*net.TCPConn).CloseWrite()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		answer, err := io.ReadAll(c)
		if len(answer) > 7 || errors.Is(err, os.ErrDeadlineExceeded) { // at most an alert
			t.Errorf("%s: answered %q, %v", name, answer, err)
		}
		c.Close()
	}
	await(t, "nothing is left", func() bool { open, shaking := a.wires.count(); return open+shaking == 0 })
	talk(t, a)
}

// Idlers in their handshake are ended when others come, and soon anyway; a node of the ring gets through meanwhile.
func TestFault_A5_HandshakesAreBounded(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	var idlers []net.Conn
	for range 3 * maxShakingOf {
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idlers = append(idlers, c)
	}
	await(t, "some wait", func() bool { _, shaking := a.wires.count(); return shaking > 0 })
	if _, shaking := a.wires.count(); shaking > maxShakingOf {
		t.Errorf("%d connections of one address are in their handshake", shaking)
	}
	begun := time.Now()
	await(t, "they are gone", func() bool { _, shaking := a.wires.count(); return shaking == 0 })
	if d := time.Since(begun); d > 2*shakeTime {
		t.Errorf("idlers stayed for %s", d)
	}
	for _, c := range idlers[len(idlers)-10:] {
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("an idler got an answer")
		}
	}
	talk(t, a, b)
}

func TestTheOldestHandshakeMakesRoom(t *testing.T) {
	ws := newWires()
	var ends []net.Conn
	var all []*wire
	for i := range maxShaking + 10 {
		ours, theirs := net.Pipe()
		addr := &net.TCPAddr{IP: net.IPv4(10, 0, byte(i/50), 1), Port: i}
		w := ws.accepted(from{ours, addr})
		if w == nil {
			t.Fatalf("connection %d is refused", i)
		}
		all, ends = append(all, w), append(ends, theirs)
	}
	if _, shaking := ws.count(); shaking != maxShaking {
		t.Errorf("%d in their handshake", shaking)
	}
	ends[9].SetReadDeadline(time.Now().Add(time.Second))
	if _, err := ends[9].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the tenth is still there: %v", err)
	}
	ws.shaken(all[len(all)-1], "x")
	if closed := ws.closeIf(func(n place.NodeID) bool { return n == "x" }); closed != 1 {
		t.Errorf("%d closed", closed)
	}
	ws.closeAll()
	if open, shaking := ws.count(); open+shaking > 0 || ws.accepted(from{ends[0], &net.TCPAddr{}}) != nil || ws.dialled(ends[0]) != nil {
		t.Error("something is open after the end")
	}
}

// from is a connection that comes from an address.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

func TestFault_A5_LongMessagesAreRefused(t *testing.T) {
	a := begin(t)
	for _, protocol := range []string{protoJoin, protoRenew} {
		conn, err := tls.Dial("tcp", a.Addr().String(), &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{protocol}, Certificates: []tls.Certificate{*a.cert.Load()},
		})
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(binary.BigEndian.AppendUint32(nil, 1<<31))
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", protocol, err)
		}
		conn.Close()
	}
	a.stop()
	a.alter = func(o *Options) { o.MaxBody = 1 << 10 }
	a.start().serve()
	a.Handle("POST /read", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		}
	}))
	for size, fits := range map[int]bool{1000: true, 2000: false} {
		if err := a.Call(context.Background(), a.id(), "/read", strings.Repeat("x", size), nil); (err == nil) != fits {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	a := begin(t)
	b := newMachine(t, newBook())
	if err := Begin(b.dir, testRing, b.key, spring); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: b.dir, Key: b.key, Listen: a.Addr(), Known: b.book.known, Members: b.book.members})
	if err == nil || !strings.Contains(err.Error(), a.Addr().String()+" is taken by another program") {
		t.Errorf("open: %v", err)
	}
	if _, err := Open(Options{}); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("no options: %v", err)
	}
	if _, err := Open(Options{Dir: t.TempDir(), Key: b.key, Known: b.book.known, Members: b.book.members}); err == nil || !strings.Contains(err.Error(), "belongs to no ring yet") {
		t.Errorf("no membership: %v", err)
	}
}
