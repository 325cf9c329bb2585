package peers

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// set sets the clocks of all nodes.
func set(at time.Time, nodes ...*machine) {
	for _, n := range nodes {
		n.clock.set(at)
	}
}

func TestFault_A11_CertificatesAreRenewedAtTwoThirds(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	first := [2]time.Time{a.leaf().NotAfter, b.leaf().NotAfter}
	set(spring.Add(lifetime*2/3-time.Second), a, b)
	a.Recheck()
	b.Recheck()
	time.Sleep(50 * time.Millisecond)
	if a.leaf().NotAfter != first[0] || b.leaf().NotAfter != first[1] {
		t.Error("renewed too early")
	}
	set(spring.Add(lifetime*2/3), a, b)
	a.Recheck()
	b.Recheck()
	end := spring.Add(lifetime*2/3 + lifetime)
	await(t, "both are renewed", func() bool { return a.leaf().NotAfter.Equal(end) && b.leaf().NotAfter.Equal(end) })
	talk(t, a, b)
	b.stop()
	if b.start().serve(); !b.leaf().NotAfter.Equal(end) {
		t.Error("the renewed certificate is not on disk")
	}
}

// A connection by a certificate past its end is refused, but the node comes back by itself.
func TestFault_A11_ARingThatWasOffForAWeekComesBack(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	c := a.join("c").greets()
	for _, m := range []*machine{a, b, c} {
		m.stop()
	}
	later := spring.Add(7 * 24 * time.Hour)
	set(later, a, b, c)
	b.start().greets() // does not serve yet, so it renews nothing
	c.start().greets().serve()
	a.start().greets()
	if err := b.Call(context.Background(), c.id(), "/greet", nil, nil); err == nil {
		t.Fatal("an ended certificate was accepted")
	}
	a.serve() // it holds the key
	b.serve()
	await(t, "all have certificates", func() bool {
		return a.leaf().NotAfter.After(later) && b.leaf().NotAfter.After(later) && c.leaf().NotAfter.After(later)
	})
	talk(t, a, b, c)
}

func TestFault_A11_AfterTheGraceANodeJoinsAgain(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	b.stop()
	later := spring.Add(lifetime + 31*24*time.Hour)
	set(later, a, b)
	a.Recheck()
	await(t, "a renews its own", func() bool { return a.leaf().NotAfter.After(later) })
	b.start().greets().serve()
	await(t, "b says what to do", func() bool {
		return strings.Contains(b.logs.String(), "ended 31 days ago, and after 30 it cannot be renewed: join again with a token")
	})
	b.stop()
	a.book.clockIs(a.clock.now)
	token := a.NewToken()
	b.book.grant(token, Grant{End: later.Add(time.Hour)})
	if _, err := b.ask(token, "b", a); err != nil {
		t.Fatal(err)
	}
	b.start().greets().serve()
	talk(t, a, b)
}

// A clock that is years off at boot cuts nobody off: two others agree on the time, and theirs counts.
func TestFault_U8_OneClockIsWrongByYears(t *testing.T) {
	for name, wrong := range map[string]time.Time{
		"behind": time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC), "ahead": spring.AddDate(14, 0, 0),
	} {
		for _, holder := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				a := begin(t).greets()
				b := a.join("b").greets()
				c := a.join("c").greets()
				a.book.letHold(c.id())
				if holder {
					if err := c.FetchKeys(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				c.stop()
				c.clock.set(wrong)
				c.start().greets().serve()
				await(t, "the wrong clock is said", func() bool { return strings.Contains(c.logs.String(), "this machine's clock is wrong") })
				await(t, "all certificates fit", func() bool {
					for _, n := range []*machine{a, b, c} {
						if apart(n.leaf().NotBefore, spring) > skew {
							return false
						}
					}
					return true
				})
				talk(t, a, b, c)
				c.clock.set(spring.Add(time.Minute)) // the time service came up
				talk(t, a, b, c)
				c.Recheck()
				await(t, "its clock is believed", func() bool { return c.corrected.Load() == nil })
				if !strings.Contains(c.logs.String(), "agrees with the ring's again") {
					t.Error("the clock that was set right is not believed")
				}
			})
		}
	}
}

// Two nodes cannot tell whose clock is wrong. They say so, and are together again once it is set.
func TestFault_U8_TwoNodesAndOneWrongClock(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	b.stop()
	b.clock.set(spring.AddDate(14, 0, 0))
	b.start().greets().serve()
	await(t, "it is said", func() bool {
		return strings.Contains(b.logs.String(), "clocks of this node and of node "+string(a.id())+" are")
	})
	if err := b.Call(context.Background(), a.id(), "/greet", nil, nil); err == nil {
		t.Error("a certificate that ended years ago was accepted")
	}
	b.clock.set(spring.Add(time.Minute))
	await(t, "they talk", func() bool { return b.Call(context.Background(), a.id(), "/greet", nil, nil) == nil })
	talk(t, a, b)
}

// The clock of a ring of one jumps, and is set back: nobody is there to ask, so its own is believed each time.
func TestFault_U8_ARingOfOne(t *testing.T) {
	a := begin(t).greets()
	for _, at := range []time.Time{spring.AddDate(14, 0, 0), spring.Add(time.Hour), spring.AddDate(-50, 0, 0), spring} {
		a.clock.set(at)
		a.Recheck()
		await(t, "a certificate that fits", func() bool { return plausible(a.leaf(), at) })
		talk(t, a)
	}
}

func TestOutvoted(t *testing.T) {
	at := func(hours ...int) (out []time.Time) {
		for _, h := range hours {
			out = append(out, spring.Add(time.Duration(h)*time.Hour))
		}
		return out
	}
	for _, c := range []struct {
		name   string
		counts bool
		others []time.Time
		wrong  bool
	}{
		{"nobody answers", true, nil, false},
		{"one disagrees", true, at(100), false},
		{"one disagrees, and ours is certainly wrong", false, at(100), true},
		{"two agree against us", true, at(100, 100), true},
		{"two disagree with all", true, at(100, 200), false},
		{"one of three is wrong", true, at(0, 100), false},
		{"half of four", true, at(0, 100, 100), false},
		{"three of five", true, at(0, 100, 100, 100), true},
		{"all agree", true, at(0, 0, 0), false},
	} {
		if _, wrong := outvoted(spring, c.counts, c.others); wrong != c.wrong {
			t.Errorf("%s: %v", c.name, wrong)
		}
	}
}

func TestFault_A11_AuthorityIsExchangedWithOverlap(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	c := a.join("c").greets()
	all := []*machine{a, b, c}
	a.book.letHold(b.id())
	ctx := context.Background()
	if err := b.FetchKeys(ctx); err != nil {
		t.Fatal(err)
	}
	old := a.Authorities()[0].Pin
	token := a.NewToken()
	a.book.grant(token, Grant{})

	fresh, err := a.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	talk(t, all...)
	for _, n := range all {
		if err := n.Drop(old); err == nil {
			t.Fatal("the authority that signs was dropped")
		}
		if err := n.Trust(fresh.DER); err != nil {
			t.Fatal(err)
		}
		talk(t, all...)
	}
	if err := b.FetchKeys(ctx); err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if err := n.SignBy(fresh.Pin); err != nil {
			t.Fatal(err)
		}
		talk(t, all...)
	}
	await(t, "all have new certificates", func() bool {
		return a.SignedBy() == fresh.Pin && b.SignedBy() == fresh.Pin && c.SignedBy() == fresh.Pin
	})
	talk(t, all...)
	for _, n := range all {
		if err := n.Drop(old); err != nil {
			t.Fatal(err)
		}
		for _, r := range n.trust.Load().retired {
			if r.key != nil {
				t.Error("the key of a dropped authority is kept")
			}
		}
		n.hangUp() // so that hands are shaken again
		await(t, "the others know that it has", func() bool {
			return !slices.ContainsFunc(all, func(o *machine) bool { return o.talksTo(n.id()) })
		})
		talk(t, all...)
	}
	for _, n := range all {
		n.stop()
		n.start().greets().serve()
	}
	talk(t, all...)
	for _, n := range all {
		if got := n.Authorities(); len(got) != 1 || got[0].Pin != fresh.Pin || got[0].Held != (n != c) {
			t.Errorf("authorities %+v", got)
		}
		if keys, _ := filepath.Glob(filepath.Join(n.dir, "ca-*.key")); len(keys) > 1 {
			t.Errorf("old keys are left: %q", keys)
		}
	}
	d := newMachine(t, a.book)
	if _, err := d.ask(token, "d", a); err == nil || !strings.Contains(err.Error(), "If the ring's authority was exchanged since, make a new token") {
		t.Errorf("a token of the old authority: %v", err)
	}
	c.join("d").greets()
}

// exchangeAll exchanges the authority on some nodes, while others are off.
func exchangeAll(t *testing.T, maker *machine, nodes ...*machine) {
	t.Helper()
	old := maker.Authorities()[0].Pin
	fresh, err := maker.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := n.Trust(fresh.DER); err != nil {
			t.Fatal(err)
		}
		if err := n.SignBy(fresh.Pin); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		await(t, "a new certificate", func() bool { return n.SignedBy() == fresh.Pin })
	}
	for _, n := range nodes {
		if err := n.Drop(old); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFault_A11_ANodeMissedTwoExchanges(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	c := a.join("c").greets()
	c.stop()
	exchangeAll(t, a, a, b)
	exchangeAll(t, a, a, b)
	talk(t, a, b)
	c.start().greets().serve()
	if err := c.Call(context.Background(), b.id(), "/greet", nil, nil); !errors.Is(err, errStranger) {
		t.Errorf("an authority c never heard of: %v", err)
	}
	await(t, "c learnt the new authority", func() bool { return c.SignedBy() == a.SignedBy() })
	talk(t, a, b, c)
}

func TestFault_A12_KeysAreForThoseWhoMayHoldThem(t *testing.T) {
	a := begin(t)
	b := a.join("b")
	ctx := context.Background()
	if err := b.FetchKeys(ctx); err == nil || !strings.Contains(err.Error(), "may not hold the keys") || b.HoldsKey() {
		t.Errorf("fetched: %v", err)
	}
	a.book.letHold(b.id())
	if err := b.FetchKeys(ctx); err != nil || !b.HoldsKey() {
		t.Errorf("not fetched: %v", err)
	}
	keys, err := b.FetchKeyring(ctx)
	if err != nil || len(keys) != 1 || len(keys[0]) != 32 {
		t.Errorf("keyring %q, %v", keys, err)
	}
	info, err := os.Stat(filepath.Join(b.dir, keyFile(b.Authorities()[0].Pin)))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file %v, %v", info, err)
	}
	a.stop() // b signs for newcomers now, and renews
	c := b.join("c").greets()
	talk(t, c)
	if err := b.ForgetKeys(); err != nil || b.HoldsKey() {
		t.Errorf("not forgotten: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, keyFile(b.Authorities()[0].Pin))); err == nil {
		t.Error("the key is still on disk")
	}
	token := b.NewToken()
	b.book.grant(token, Grant{})
	if _, err := newMachine(t, b.book).ask(token, "d", b); err == nil || !strings.Contains(err.Error(), "no node that can sign certificates answers") {
		t.Errorf("join without a signer: %v", err)
	}
}

// A node that holds no key can have only those signed that the ledger of the signer knows.
func TestFault_A12_OnlyTheAdmittedAreSigned(t *testing.T) {
	a := begin(t)
	b := a.join("b")
	public, _, _ := ed25519.GenerateKey(nil)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	var r signReply
	if err := b.Call(ctx, a.id(), signPath, signMessage{public}, &r); err == nil || len(r.Certificate) > 0 {
		t.Errorf("a stranger's key was signed: %v", err)
	}
	if err := b.Call(context.Background(), a.id(), signPath, signMessage{nil}, &r); err == nil {
		t.Error("no key was signed")
	}
}

func TestDamagedFilesAreNamed(t *testing.T) {
	for _, name := range []string{certFile, bundleFile, keyFile(Pin{}), retiredFile, membersFile} {
		for what, damage := range map[string][]byte{"zeros": make([]byte, 512), "empty": {}, "a part": nil} {
			b := begin(t)
			b.stop()
			path := filepath.Join(b.dir, name)
			if strings.HasSuffix(name, ".key") {
				found, _ := filepath.Glob(filepath.Join(b.dir, "ca-*.key"))
				path = found[0]
			}
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if damage == nil {
				damage = whole[:len(whole)/2]
			}
			if err := os.WriteFile(path, damage, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = load(b.dir, b.key)
			if len(damage) == 0 && (name == retiredFile || name == membersFile) {
				continue // nothing is what they mostly hold
			}
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			if kept, _ := os.ReadFile(path); string(kept) != string(damage) {
				t.Errorf("%s, %s: the file was changed", name, what)
			}
		}
	}
}
