package tunnel

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/engine/wire"
)

// config is how the process is configured, in the words of WireGuard's protocol: keys are hex.
type config struct {
	private string
	port    uint16
	peers   map[string]*peer // by public key
}

type peer struct {
	endpoint string // "192.0.2.2:51820"; "" if it has none
	allowed  []string
	psk      bool // it has a key beside: not one of ours
	alive    int  // seconds between persistent keepalives
	node     string
}

// wanted is the configuration for a node's routes. Two nodes cannot have one key; should they say so, the first has it.
func wanted(private string, port uint16, routes []wire.Route) *config {
	c := &config{private: private, port: port, peers: make(map[string]*peer, len(routes))}
	for i := range routes {
		r := &routes[i]
		key, err := base64.StdEncoding.DecodeString(r.Tunnel.Key)
		if err != nil || len(key) != 32 {
			continue // the ledger takes none such
		}
		name := hex.EncodeToString(key)
		if _, twice := c.peers[name]; !twice {
			c.peers[name] = &peer{
				endpoint: netip.AddrPortFrom(r.Via, r.Tunnel.Port).String(), allowed: []string{r.CIDR.Masked().String()}, node: string(r.Node),
			}
		}
	}
	return c
}

// parse reads the answer to "get".
func parse(r io.Reader) (*config, error) {
	c := &config{peers: map[string]*peer{}}
	var p *peer
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), "=")
		var err error
		switch {
		case lines.Text() == "":
			return nil, fmt.Errorf("it says nothing of success")
		case !ok:
			err = fmt.Errorf("no value")
		case key == "errno":
			if value != "0" {
				return nil, fmt.Errorf("errno %s", value)
			}
			for _, p := range c.peers {
				slices.Sort(p.allowed)
			}
			return c, nil
		case key == "private_key":
			c.private = value
		case key == "listen_port":
			var port uint64
			port, err = strconv.ParseUint(value, 10, 16)
			c.port = uint16(port)
		case key == "public_key":
			p = &peer{}
			c.peers[value] = p
		case p == nil:
		case key == "endpoint":
			p.endpoint = value
		case key == "allowed_ip":
			p.allowed = append(p.allowed, value)
		case key == "preshared_key":
			p.psk = strings.Trim(value, "0") != ""
		case key == "persistent_keepalive_interval":
			p.alive, err = strconv.Atoi(value)
		}
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}

// change is what brings a configuration to the wanted one.
type change struct {
	set   string   // the lines of "set"; "" for nothing
	calm  string   // those of a second "set", which ends what greets new peers
	drift []string // what differs, in words; addresses, which roam, are left out
}

// between compares what the process has with what is wanted. With moved an address that differs is set.
func between(have, want *config, moved func(key string) bool) change {
	var set, calm strings.Builder
	var c change
	if have.private != want.private {
		c.drift = append(c.drift, "WireGuard's key was changed")
		fmt.Fprintf(&set, "private_key=%s\n", want.private)
	}
	if have.port != want.port {
		c.drift = append(c.drift, fmt.Sprintf("WireGuard's port is %d, want %d", have.port, want.port))
		fmt.Fprintf(&set, "listen_port=%d\n", want.port)
	}
	for _, key := range slices.Sorted(maps.Keys(have.peers)) { // first, as an address has one peer
		if want.peers[key] == nil {
			c.drift = append(c.drift, "WireGuard peer "+short(key)+" is not wanted")
			fmt.Fprintf(&set, "public_key=%s\nremove=true\n", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want.peers)) {
		w, h := want.peers[key], have.peers[key]
		if h == nil || h.psk {
			if h == nil {
				c.drift = append(c.drift, "WireGuard peer of node "+w.node+" is missing")
			} else {
				c.drift = append(c.drift, "WireGuard peer of node "+w.node+" was changed")
				fmt.Fprintf(&set, "public_key=%s\nremove=true\n", key)
			}
			fmt.Fprintf(&set, "public_key=%s\nendpoint=%s\n", key, w.endpoint)
			for _, a := range w.allowed {
				fmt.Fprintf(&set, "allowed_ip=%s\n", a)
			}
			set.WriteString("persistent_keepalive_interval=60\n")
			fmt.Fprintf(&calm, "public_key=%s\nupdate_only=true\npersistent_keepalive_interval=0\n", key)
			continue
		}
		var lines strings.Builder
		if !slices.Equal(h.allowed, w.allowed) {
			c.drift = append(c.drift, "WireGuard peer of node "+w.node+" was changed")
			lines.WriteString("replace_allowed_ips=true\n")
			for _, a := range w.allowed {
				lines.WriteString("allowed_ip=" + a + "\n")
			}
		}
		if h.alive != 0 {
			c.drift = append(c.drift, "WireGuard peer of node "+w.node+" was changed")
			lines.WriteString("persistent_keepalive_interval=0\n")
		}
		if h.endpoint != w.endpoint && (h.endpoint == "" || moved(key)) {
			lines.WriteString("endpoint=" + w.endpoint + "\n")
		}
		if lines.Len() > 0 {
			fmt.Fprintf(&set, "public_key=%s\nupdate_only=true\n%s", key, lines.String())
		}
	}
	c.set, c.calm, c.drift = set.String(), calm.String(), slices.Compact(c.drift)
	return c
}

// short is a key as people compare it: the beginning of what wg(8) prints.
func short(key string) string {
	b, err := hex.DecodeString(key)
	if err != nil || len(b) < 6 {
		return "?"
	}
	return base64.StdEncoding.EncodeToString(b[:6])
}
