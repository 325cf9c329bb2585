package peers

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJoinGivesWhatANodeNeeds(t *testing.T) {
	a := begin(t)
	token := a.NewToken()
	a.book.grant(token, Grant{Name: "b"})
	b := newMachine(t, a.book)
	r, err := b.ask(token, "b", a)
	if err != nil {
		t.Fatal(err)
	}
	if r.Ring != testRing || len(r.Keys) != 1 || len(r.Authorities) != 1 || len(r.Members) != 2 {
		t.Errorf("reply %+v", r)
	}
	for _, m := range r.Members { // the unspecified address was filled in
		if m.ID == b.id() && (m.Peer != netip.MustParseAddrPort("127.0.0.1:7947") || m.Gossip != netip.MustParseAddrPort("127.0.0.1:7946")) {
			t.Errorf("the new node is reached at %v and %v", m.Peer, m.Gossip)
		}
	}
	if ring, err := Membership(b.dir); ring != testRing || err != nil {
		t.Errorf("membership %q, %v", ring, err)
	}
	if JoinedBy(b.dir) != token.ID || JoinedBy(a.dir) != "" {
		t.Errorf("joined by %q, %q", JoinedBy(b.dir), JoinedBy(a.dir))
	}
	files, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
		if text, _ := os.ReadFile(filepath.Join(b.dir, f.Name())); bytes.Contains(text, token.secret[:]) {
			t.Errorf("%s holds the token's secret", f.Name())
		}
	}
}

// A new node whose ledger is empty still knows who is in its ring; once its ledger knows the node itself, that alone counts.
func TestSeedsCountUntilTheLedgerCaughtUp(t *testing.T) {
	a := begin(t).greets()
	token := a.NewToken()
	a.book.grant(token, Grant{})
	b := newMachine(t, a.book)
	if _, err := b.ask(token, "b", a); err != nil {
		t.Fatal(err)
	}
	empty := newBook()
	b.alter = func(o *Options) { o.Known, o.Members = empty.known, empty.members }
	b.start().serve()
	var got string
	if err := b.Call(context.Background(), a.id(), "/greet", nil, &got); err != nil {
		t.Fatal(err)
	}
	if b.Known("ffffffffffffffff") {
		t.Error("a stranger is known")
	}
	empty.put(Member{ID: b.id()})
	if b.Known(a.id()) {
		t.Error("the ledger that caught up is not believed")
	}
}

func TestFault_A10_TokensAreRefusedWithWords(t *testing.T) {
	a := begin(t)
	other := newMachine(t, newBook())
	if err := Begin(other.dir, strings.Repeat("ab", 16), other.key, spring); err != nil {
		t.Fatal(err)
	}
	other.start().serve()
	a.book.clockIs(a.clock.now)
	good := func(g Grant) Token {
		token := a.NewToken()
		a.book.grant(token, g)
		return token
	}
	used := good(Grant{})
	first := newMachine(t, a.book)
	if _, err := first.ask(used, "first", a); err != nil {
		t.Fatal(err)
	}
	guessed := good(Grant{})
	guessed.secret[0]++
	unknown := a.NewToken()
	foreign := other.NewToken()
	a.book.grant(foreign, Grant{})
	lies := good(Grant{})
	lies.Pin[0]++

	for _, c := range []struct {
		name, node string
		token      Token
		want       string
		final      bool
	}{
		{"used twice", "second", used, "was used by node " + string(first.id()) + ", and each is good for one; make a new one", true},
		{"late", "second", good(Grant{End: spring.Add(-time.Minute)}), "ran out 1m0s ago; make a new one", true},
		{"for another name", "second", good(Grant{Name: "third"}), `is for a node named "third", this one is named "second"`, true},
		{"taken name", "first", good(Grant{}), `the name "first" is taken by node ` + string(first.id()), true},
		{"bad name", "No Name!", good(Grant{}), `name "No Name!": expected a DNS label`, true},
		{"revoked", "second", unknown, "does not know token " + unknown.ID, true},
		{"guessed secret", "second", guessed, "the secret of token " + guessed.ID + " is wrong", true},
		{"of another ring", "second", foreign, "the certificate is of another ring, " + testRing + "; the token is of ring " + foreign.Ring + ": nothing was sent", false},
		{"of another authority", "second", lies, "shows no authority with the pin " + lies.Pin.Short() + " of the token; nothing was sent. If the ring's authority was exchanged", false},
	} {
		b := newMachine(t, a.book)
		before := a.book.admitted()
		_, err := b.ask(c.token, c.node, a)
		var refused *RefusedError
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &refused) != c.final {
			t.Errorf("%s: %v\nwant %q, final %v", c.name, err, c.want, c.final)
		}
		if !c.final && a.book.admitted() != before {
			t.Errorf("%s: something was sent", c.name)
		}
		if err != nil && (strings.Contains(err.Error(), c.token.Text()) || strings.Contains(a.logs.String(), c.token.Text()[80:])) {
			t.Errorf("%s: the token was told", c.name)
		}
		if ring, err := Membership(b.dir); ring != "" || err != nil {
			t.Errorf("%s: the refused node belongs to %q, %v", c.name, ring, err)
		}
	}
}

func TestFault_A10_TheSameNodeMayAskAgain(t *testing.T) {
	a := begin(t)
	token := a.NewToken()
	a.book.grant(token, Grant{})
	b := newMachine(t, a.book)
	for range 2 { // as if the first answer had been lost
		if _, err := b.ask(token, "b", a); err != nil {
			t.Fatal(err)
		}
	}
}

func TestJoinTriesOtherAddresses(t *testing.T) {
	a := begin(t)
	token := a.NewToken()
	a.book.grant(token, Grant{})
	b := newMachine(t, a.book)
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := deaf.Addr().String()
	deaf.Close()
	a.book.setBroken(true)
	_, err = Join(context.Background(), []string{dead, a.Addr().String()}, token, Joining{Dir: b.dir, Key: b.key, Name: "b", Now: b.clock.now})
	var refused *RefusedError
	if err == nil || errors.As(err, &refused) || !strings.Contains(err.Error(), "no leader now") || !strings.Contains(err.Error(), dead) {
		t.Errorf("without a leader: %v", err)
	}
	a.book.setBroken(false)
	if _, err = Join(context.Background(), []string{dead, a.Addr().String()}, token, Joining{Dir: b.dir, Key: b.key, Name: "b", Now: b.clock.now}); err != nil {
		t.Error(err)
	}
}

// Whoever answers in place of the ring sees a TLS handshake and nothing else.
func TestFault_A10_NothingIsSentToAnImpostor(t *testing.T) {
	a := begin(t)
	token := a.NewToken()
	evil := newMachine(t, newBook())
	if err := Begin(evil.dir, testRing, evil.key, spring); err != nil { // it names the same ring
		t.Fatal(err)
	}
	evil.start()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		NextProtos: []string{protoJoin}, Certificates: []tls.Certificate{*evil.cert.Load()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		got <- b
	}()
	b := newMachine(t, a.book)
	_, err = Join(context.Background(), []string{l.Addr().String()}, token, Joining{Dir: b.dir, Key: b.key, Name: "b", Now: b.clock.now})
	if err == nil || !strings.Contains(err.Error(), "nothing was sent") {
		t.Errorf("join: %v", err)
	}
	if sent := <-got; len(sent) > 0 {
		t.Errorf("%d bytes were sent to an impostor", len(sent))
	}
}

// A server certificate signed by the right authority, but long ended, is that of a node that left: it gets no secret.
func TestFault_A10_AServerOutOfDateGetsNothing(t *testing.T) {
	a := begin(t)
	token := a.NewToken()
	a.book.grant(token, Grant{End: spring.Add(1000 * time.Hour)})
	b := newMachine(t, a.book)
	b.clock.add(25 * time.Hour)
	var ended *ExpiredError
	if _, err := b.ask(token, "b", a); !errors.As(err, &ended) || !strings.Contains(err.Error(), "one of the two clocks is wrong") {
		t.Errorf("join: %v", err)
	}
	if a.book.admitted() != 0 {
		t.Error("the token was sent")
	}
}

// joinRaw opens a join's connection and sends b on it.
func joinRaw(t *testing.T, at *machine, make func(tls.ConnectionState) []byte) joinReply {
	t.Helper()
	conn, err := tls.Dial("tcp", at.Addr().String(), base(protoJoin, func(tls.ConnectionState) error { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := writeBytes(conn, nil, make(conn.ConnectionState())); err != nil {
		t.Fatal(err)
	}
	b, err := readFrame(conn, maxReply)
	if err != nil {
		t.Fatal(err)
	}
	var r joinReply
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A join request that somebody recorded in the clear, or that a middleman passes on, does nothing on another connection.
func TestFault_N13_AReplayedJoinDoesNothing(t *testing.T) {
	a := begin(t)
	token := a.NewToken()
	a.book.grant(token, Grant{})
	b := newMachine(t, a.book)
	public := b.key.Public().(ed25519.PublicKey)
	body, err := json.Marshal(joinMessage{Ring: testRing, Node: b.id(), Name: "b", Key: public, Token: token.ID, Secret: token.secret[:]})
	if err != nil {
		t.Fatal(err)
	}
	var recorded []byte
	first := joinRaw(t, a, func(s tls.ConnectionState) []byte {
		what, err := bound(s, body)
		if err != nil {
			t.Fatal(err)
		}
		recorded = append(ed25519.Sign(b.key, what), body...)
		return recorded
	})
	if first.Error != "" {
		t.Fatal(first.Error)
	}
	again := joinRaw(t, a, func(tls.ConnectionState) []byte { return recorded })
	if !again.Refused || !strings.Contains(again.Error, "not signed by the node's key for this connection") || a.book.admitted() != 1 {
		t.Errorf("replayed: %+v, %d admitted", again, a.book.admitted())
	}
	stolen, err := json.Marshal(joinMessage{Ring: testRing, Node: b.id(), Name: "c", Key: public, Token: token.ID, Secret: token.secret[:]})
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, _ := ed25519.GenerateKey(nil)
	forged := joinRaw(t, a, func(s tls.ConnectionState) []byte {
		what, _ := bound(s, stolen)
		return append(ed25519.Sign(foreign, what), stolen...)
	})
	if !forged.Refused || a.book.admitted() != 1 {
		t.Errorf("signed by another key: %+v", forged)
	}
}

func TestJoinRequestsThatAreMalformed(t *testing.T) {
	a := begin(t)
	for name, b := range map[string][]byte{
		"empty": {}, "short": make([]byte, 63), "no JSON": append(make([]byte, 64), "what"...), "null": append(make([]byte, 64), "null"...),
		"deep": append(make([]byte, 64), strings.Repeat("[", 8000)...),
	} {
		if r := joinRaw(t, a, func(tls.ConnectionState) []byte { return b }); !r.Refused || !strings.Contains(r.Error, "malformed") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if a.book.admitted() != 0 {
		t.Error("one of them was admitted")
	}
}

func FuzzReadJoin(f *testing.F) {
	public, _, _ := ed25519.GenerateKey(nil)
	body, _ := json.Marshal(joinMessage{
		Ring: testRing, Node: NodeOf(public), Name: "b", Key: public, Token: strings.Repeat("0", 16), Secret: make([]byte, 16),
		Peer: netip.MustParseAddrPort("10.0.0.1:7947"),
	})
	f.Add(append(make([]byte, 64), body...))
	f.Add(append(make([]byte, 64), "{}"...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readJoin(b)
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if m.Node != NodeOf(m.Key) || len(m.Secret) != 16 || len(m.Name) > 63 {
			t.Errorf("accepted %+v", m)
		}
	})
}

func TestMembershipOfAnotherRing(t *testing.T) {
	a := begin(t)
	token := newToken(strings.Repeat("ab", 16), Pin{})
	if _, err := a.ask(token, "a", a); err == nil || !strings.Contains(err.Error(), "this node belongs to ring "+testRing) {
		t.Errorf("join: %v", err)
	}
	if err := Begin(a.dir, strings.Repeat("ab", 16), a.key, spring); err == nil {
		t.Error("a node began a second ring")
	}
	if err := Begin(a.dir, testRing, a.key, spring); err != nil {
		t.Errorf("begin again: %v", err)
	}
	if err := Begin(t.TempDir(), "short", a.key, spring); err == nil {
		t.Error("a ring of a short name")
	}
}
