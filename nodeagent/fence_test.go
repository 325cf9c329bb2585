package nodeagent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/wire"
)

// TestFault_P2_NoLinkBeforeItsRule: a pod that may not speak to everybody is not begun while the packet filter refuses its rules; others are.
func TestFault_P2_NoLinkBeforeItsRule(t *testing.T) {
	for _, sandbox := range []preview.Sandbox{{DenyEgress: true}, {}} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t)
			m.images["web:v1"] = true
			m.rulesErr = errors.New("the kernel does not want to")
			a := m.run()
			m.mu.Lock()
			m.ring.Now = time.Now().UnixMilli()
			in := m.ring.Activation("pr-12", deployment("web"))
			m.ring.Must(cluster.Input{Preview: &cluster.Preview{Set: &preview.Environment{
				Name: "pr-12", Branch: "b", Head: source.ID(strings.Repeat("a", 40)), Commit: in.Activate.Commit, Since: 1, Changed: 1, Sandbox: sandbox,
			}}})
			m.ring.Must(in)
			m.mu.Unlock()
			nudge(m.changes)
			time.Sleep(time.Minute)
			if started := strings.Contains(m.did(), "start web:v1"); started == sandbox.DenyEgress {
				t.Errorf("without rules, in the sandbox %+v: started %t", sandbox, started)
			}
			if !sandbox.DenyEgress {
				return
			}
			told := false
			for _, e := range a.journal.Events("") {
				told = told || strings.Contains(e.Message, "is to speak to its own environment alone")
			}
			if !told {
				t.Error("nobody is told why")
			}
			m.mu.Lock()
			m.rulesErr = nil
			m.mu.Unlock()
			time.Sleep(time.Minute)
			if got := m.did(); !strings.Contains(got, "start web:v1") {
				t.Errorf("with rules: %s", got)
			}
		})
	}
}

func TestFence(t *testing.T) {
	a, b := netip.MustParseAddr("10.42.0.2"), netip.MustParseAddr("10.42.0.3")
	one := &wire.Tables{Isolated: []wire.Isolation{{Name: "x", From: []netip.Addr{a}}}}
	var f fence
	expect := func(when string, ofA, ofB bool) {
		t.Helper()
		if gotA, gotB := f.check(a) == nil, f.check(b) == nil; gotA != ofA || gotB != ofB {
			t.Errorf("%s: %t %t, want %t %t", when, gotA, gotB, ofA, ofB)
		}
	}
	expect("at first", true, true)
	f.want(one)
	expect("wanted", false, true)
	f.stands(one)
	expect("in force", true, true)
	f.fell()
	expect("changed by others", false, true)
	f.want(&wire.Tables{})
	expect("wanted no more", true, true)
}

// What the record of a preview denies it, its render and its objects are told.
func TestSandboxOfAPreviewReachesItsRender(t *testing.T) {
	for _, s := range []preview.Sandbox{{}, {DenyEgress: true}, {Restricted: true}, {NoSecrets: true, DenyEgress: true, Restricted: true}} {
		env := PreviewEnvironment(preview.Environment{Name: "pr-12", Number: 12, Sandbox: s})
		if env.DenyEgress != s.DenyEgress || env.Restricted != s.Restricted || env.NoSecrets != s.NoSecrets {
			t.Errorf("%+v gives %+v", s, env)
		}
	}
}
