package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/store"
	"github.com/shoal-dev/shoal/nodeagent/tunnel"
)

// What --wireguard can be.
const (
	wireguardOff    = "off"
	wireguardOn     = "on"     // between nodes that have it
	wireguardStrict = "strict" // and nothing else between nodes
)

// checkWireguard refuses flags that are off.
func (o agentOptions) checkWireguard() error {
	switch {
	case !slices.Contains([]string{wireguardOff, wireguardOn, wireguardStrict}, o.wireguard):
		return usageError{fmt.Errorf("--wireguard %s: expected off, on or strict", o.wireguard)}
	case o.wireguardPort < 1 || o.wireguardPort > 65535:
		return usageError{fmt.Errorf("--wireguard-port %d: expected 1 to 65535", o.wireguardPort)}
	}
	return nil
}

func (o agentOptions) encrypts() bool { return o.wireguard != wireguardOff }

// newTunnel is the agent's half of the process that encrypts.
func newTunnel(o agentOptions, dir *store.Dir, log *slog.Logger) (*tunnel.Tunnel, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	key, err := tunnel.PrivateKey(dir.Node.Key)
	if err != nil {
		return nil, err
	}
	instance := dir.Node.Instance()
	return tunnel.New(tunnel.Options{
		Device: links.TunnelName(instance), Command: []string{self, roleTunnel}, RunDir: filepath.Join(o.runDir, "wireguard"),
		Key: key, Port: uint16(o.wireguardPort), Cgroup: "/shoal-" + instance + "/tunnel", Log: log,
	}), nil
}

// resetTunnel ends the process; its interface goes with the others.
func resetTunnel(o agentOptions, dir *store.Dir) error {
	t, err := newTunnel(o, dir, nil)
	if err != nil {
		return err
	}
	return t.End()
}

// openTunnel has the tunnel answer other nodes before they are told of it: whoever hears of it greets it at once.
func (m *machine) openTunnel(ctx context.Context) error {
	if !m.opt.encrypts() {
		return nil
	}
	var tables wire.Tables
	m.ledger.View(func(s *cluster.State) { tables = wire.Compile(wire.FromState(s, m.dir.Node.ID, m.content)) })
	if err := m.tunnel.Ensure(ctx, tables.Routes); err != nil {
		return fmt.Errorf("--wireguard: %w%s", err, holderUDP(m.opt.wireguardPort, err))
	}
	return nil
}

// holderUDP adds what to do about a port that is taken.
func holderUDP(port int, err error) string {
	if !strings.Contains(err.Error(), "address already in use") {
		return ""
	}
	return fmt.Sprintf("; see who has it with: ss -ulnp sport = :%d, or take another one: --wireguard-port", port)
}

// tunnelEnd is what this node says of its WireGuard.
func (m *machine) tunnelEnd() cluster.Tunnel {
	if !m.opt.encrypts() {
		return cluster.Tunnel{}
	}
	key, err := tunnel.PrivateKey(m.dir.Node.Key)
	if err != nil {
		return cluster.Tunnel{} // openNetwork has said why
	}
	return cluster.Tunnel{Key: tunnel.PublicKey(key), Port: uint16(m.opt.wireguardPort)}
}

// clearWarnings name the nodes that packets go to unencrypted, or not at all because of that.
func (m *machine) clearWarnings() (warnings []string) {
	if m.links == nil || !m.opt.encrypts() {
		return nil
	}
	var plain, refused []string
	m.ledger.View(func(s *cluster.State) {
		ring, _ := s.Ring()
		own, _ := s.Nodes().Get(m.dir.Node.ID)
		if s.Nodes().Len() > 1 && ring.Engine < cluster.TunnelSince {
			warnings = append(warnings, fmt.Sprintf("nothing is encrypted before the ring runs engine version %d: it runs %d, until every node is upgraded", cluster.TunnelSince, ring.Engine))
		}
		for _, c := range m.links.Clear() {
			switch {
			case c.Refused:
				refused = append(refused, nodeName(s, c.Node))
			case own != nil && own.Tunnel != (cluster.Tunnel{}):
				plain = append(plain, nodeName(s, c.Node))
			}
		}
	})
	if len(plain) > 0 {
		warnings = append(warnings, fmt.Sprintf("packets between pods here and on %s are not encrypted: --wireguard is off there", strings.Join(plain, ", ")))
	}
	if len(refused) > 0 {
		warnings = append(warnings, fmt.Sprintf("pods on %s are not reached from here, nor reach what is here: --wireguard is strict here and off there", strings.Join(refused, ", ")))
	}
	return warnings
}

func nodeName(s *cluster.State, id place.NodeID) string {
	if n, ok := s.Nodes().Get(id); ok {
		return n.Name
	}
	return string(id)
}

// tellClear logs which nodes are not encrypted for, when that changes.
func (m *machine) tellClear(ctx context.Context) {
	now := m.clearWarnings()
	m.sourceMu.Lock()
	news := !slices.Equal(m.inClear, now)
	m.inClear = now
	m.sourceMu.Unlock()
	if news {
		for _, w := range now {
			m.log.WarnContext(ctx, w)
		}
	}
}

// firewallPart and linksPart add to the tables what only this node wants.
type firewallPart struct {
	*firewall.Firewall
	strict bool
}

func (f firewallPart) Apply(ctx context.Context, t wire.Tables) error {
	t.Strict = f.strict
	return f.Firewall.Apply(ctx, t)
}
