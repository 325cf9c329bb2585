package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/containers"
	"github.com/shoal-dev/shoal/nodeagent/dns"
	"github.com/shoal-dev/shoal/nodeagent/probes"
	"github.com/shoal-dev/shoal/nodeagent/ring"
	"github.com/shoal-dev/shoal/nodeagent/volumes"
)

// openDNS answers from what this node's ledger says, before anything else is there: pods that run ask all the time. Its
// sockets are those of the agent before, if containerd still holds them.
func (m *machine) openDNS(ctx context.Context, server netip.Addr) (err error) {
	var known wire.Tables
	m.ledger.View(func(s *cluster.State) { known = wire.Compile(wire.FromState(s, m.dir.Node.ID, m.content)) })
	m.dns, err = dns.Listen(dns.Options{
		Listen: netip.AddrPortFrom(server, 53), Holder: containers.Holder(ctx, m.containersRunDir()), Tables: &known, Log: m.log,
	})
	if err != nil {
		return err
	}
	m.onClose(m.dns.Close)
	return nil
}

func (m *machine) containersRunDir() string { return filepath.Join(m.opt.runDir, "c") }

func newProber(m *machine) *probes.Prober {
	return probes.New(probes.Options{Log: m.log, Exec: func(ctx context.Context, key probes.Key, _ string, command []string) (int, []byte, error) {
		out := &head{max: 1024}
		code, err := m.containers.Exec(ctx, key.Pod, key.Container, containers.ExecOptions{Args: command, Stdout: out, Stderr: out})
		return code, out.b, err
	}})
}

// head keeps the first bytes that are written to it.
type head struct {
	b   []byte
	max int
}

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), h.max-len(h.b))]...)
	return len(p), nil
}

func newVolumesPart(m *machine, ring cluster.Ring, server netip.Addr) volumesPart {
	return volumesPart{m.volumes, volumes.Files{DNS: []netip.Addr{server}, Domain: ring.Domain}}
}

func (m *machine) gitURL() string {
	if m.listeners["git"] == nil {
		return ""
	}
	return "http://" + m.listeners["git"].Addr().String() + "/repo.git"
}

// registryAddress is where images are pushed to, "127.0.0.1:5000", or "".
func (m *machine) registryAddress() string {
	if m.listeners["registry"] == nil {
		return ""
	}
	return m.listeners["registry"].Addr().String()
}

func (m *machine) sourceStatus() api.Source {
	m.sourceMu.Lock()
	s := m.sourceNow
	m.sourceMu.Unlock()
	if s.URL = m.opt.repository; s.URL == "" {
		s.URL = m.gitURL()
	}
	m.forgeSource(&s)
	return s
}

// follow has the deployer look whenever the mirror has news.
func (m *machine) follow(ctx context.Context) error {
	polled := make(chan error, 1)
	claim := m.mirror.Claim()
	go func() { polled <- m.mirror.Run(ctx) }()
	for {
		select {
		case u := <-m.mirror.Updates():
			if f := m.peering.forge.Load(); f != nil {
				f.nudge()
			}
			m.claims.Wake()
			m.sourceMu.Lock()
			m.sourceNow.Stale = ""
			if u.Err != nil {
				m.sourceNow.Stale = u.Err.Error()
			}
			m.sourceMu.Unlock()
			if len(u.Changes) > 0 {
				m.looks.nudge()
			}
			if len(u.Changes) > 0 || u.Claim != claim {
				claim = u.Claim
				m.tellOfFetch(ctx)
			}
		case err := <-polled:
			return err
		}
	}
}

// renderWanted has the deployer render what is to run here and that this node has not rendered, and fetch it where it
// follows a forge.
func (m *machine) renderWanted(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.renders.Wanted():
		}
		m.looks.nudge()
		if f := m.peering.forge.Load(); f != nil {
			f.want()
		}
	}
}

// pushed judges what was just pushed and shows on the client's terminal what becomes of it. When the client goes
// away, the work goes on.
func (m *machine) pushed(ctx context.Context, progress io.Writer) {
	begun := time.Now()
	verdicts, err := m.deployer.Look(context.WithoutCancel(ctx), progress)
	m.ownPush.Store(0)
	select {
	case m.pushShown <- struct{}{}:
	default:
	}
	if err != nil {
		fmt.Fprintf(progress, "not judged yet, will be tried again: %v\n", err)
		m.looks.nudge()
	}
	for _, v := range verdicts {
		switch {
		case v.Environment == "":
			for _, p := range v.Problems {
				fmt.Fprintf(progress, "%s\n", p)
			}
		case v.Changed:
			m.agent.Watch(ctx, v, begun, progress)
		}
	}
}

// openRing joins the gossip; a ring of one talks to nobody.
func (m *machine) openRing(ctx context.Context, facts cluster.Ring) (err error) {
	at, err := m.ports()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(m.dir.Path("ring"), "keyring")); errors.Is(err, fs.ErrNotExist) && m.joinedKeys == nil && len(m.peers.Seeds()) > 0 {
		if m.joinedKeys, err = m.peers.FetchKeyring(ctx); err != nil { // the keys came with the answer to the join, and were lost
			return err
		}
	}
	m.ring, err = ring.Open(ring.Options{Dir: m.dir.Path("ring"), Node: m.dir.Node.ID, Ring: facts.Genesis.Ring, Bind: at.gossip, Keys: m.joinedKeys, Known: m.gossipAddresses, Proves: m.provesTwin, Log: m.log})
	if err != nil {
		return err
	}
	m.onClose(m.ring.Close)
	m.peering.ring.Store(m.ring)
	return nil
}

// gossipAddresses are where the other nodes gossip, as far as the ledger knows.
func (m *machine) gossipAddresses() (all []netip.AddrPort) {
	for _, n := range m.members() {
		if n.ID != m.dir.Node.ID {
			all = append(all, n.Gossip)
		}
	}
	return all
}

func (m *machine) hostWarnings() []string {
	unpushed := m.unpushedWarnings()
	m.sourceMu.Lock()
	defer m.sourceMu.Unlock()
	warnings := append(slices.Clone(m.warnings), unpushed...)
	warnings = append(warnings, m.inClear...)
	if m.trial != nil && m.trial.rejected != "" {
		warnings = append(warnings, m.trial.rejected+"; the binary before it runs, "+version+". Install one that works; to try this one again: shoal install")
	}
	warnings = append(warnings, m.flows.warnings()...)
	if short := m.disk.Short(); short != "" {
		warnings = append(warnings, "the disk is short, no more pods come here: "+short)
	}
	return warnings
}

// lookForBlockers finds other firewalls that drop what pods send, says what to do, and does it where that was asked
// for. Firewalls come and go: it looks every few minutes.
func (m *machine) lookForBlockers(ctx context.Context) {
	for {
		tables := m.agent.Tables()
		if tables.PodCIDR.IsValid() {
			m.reportBlockers(ctx, tables)
		}
		wait := 5 * time.Minute
		if !tables.PodCIDR.IsValid() {
			wait = time.Second // the loop has not looked yet
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (m *machine) reportBlockers(ctx context.Context, tables wire.Tables) {
	blockers, err := m.firewall.Blockers(ctx, tables)
	if err == nil && len(blockers) > 0 && m.opt.allowForward {
		if err = m.firewall.AllowForward(ctx, tables); err == nil {
			blockers, err = m.firewall.Blockers(ctx, tables)
		}
	}
	var warnings []string
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	for _, b := range blockers {
		warnings = append(warnings, fmt.Sprintf("%s drops traffic of pods (%s); let it through with: %s", cmp.Or(b.Whose, "another firewall"), b.Chain, strings.Join(b.Remedy, "; ")))
	}
	m.sourceMu.Lock()
	news := !slices.Equal(m.warnings, warnings)
	m.warnings = warnings
	m.sourceMu.Unlock()
	if news {
		for _, w := range warnings {
			m.log.WarnContext(ctx, w)
		}
	}
}

// provesTwin tells whether the machine that gossips at an address holds this node's key: its disk is a copy of this one's, and
// so are its flags.
func (m *machine) provesTwin(ctx context.Context, at netip.AddrPort) bool {
	return m.peers.Twin(ctx, netip.AddrPortFrom(at.Addr(), m.peers.Addr().Port()))
}
