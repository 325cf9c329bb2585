package tunnel

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/wire"
)

// A node's key is the same for ever: another one would be another peer to all that know it.
func TestPrivateKey(t *testing.T) {
	for seed, want := range map[byte]string{
		0: "6OFHGa5bokQmXRsYXz0Pxyx9EgYfAUAgG8/1jMHo+To=",
		7: "1ZKR/owgzwDEqeUq8Iha+p6f76AKLKpM0SOqRYY41kY=",
	} {
		key, err := PrivateKey(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32))))
		if err != nil {
			t.Fatal(err)
		}
		if got := PublicKey(key); got != want {
			t.Errorf("seed of %d: %s, want %s", seed, got, want)
		}
	}
}

// keyOf is the public key of a number, in hex.
func keyOf(n byte) string { return strings.Repeat(fmt.Sprintf("%02x", n), 32) }

func routeOf(n byte) wire.Route {
	key, _ := hex.DecodeString(keyOf(n))
	return wire.Route{
		Node: place.NodeID(fmt.Sprintf("n%d", n)), CIDR: netip.MustParsePrefix(fmt.Sprintf("10.42.%d.0/24", n)), Via: netip.AddrFrom4([4]byte{192, 0, 2, n}),
		Tunnel: cluster.Tunnel{Key: base64.StdEncoding.EncodeToString(key), Port: 51820},
	}
}

func TestBetween(t *testing.T) {
	const settled = "private_key=aa\nlisten_port=51820\n"
	two := "public_key=" + keyOf(2) + "\npreshared_key=" + strings.Repeat("0", 64) + "\nprotocol_version=1\nendpoint=192.0.2.2:51820\n" +
		"last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\nallowed_ip=10.42.2.0/24\n"
	for _, c := range []struct {
		name, have string
		nodes      []byte
		moved      bool
		want       string // drift | set | calm
	}{
		{"as it should be", settled + two, []byte{2}, false, "||"},
		{
			"a new process", "listen_port=51820\n",
			[]byte{2},
			false,
			"WireGuard's key was changed; WireGuard peer of node n2 is missing|private_key=aa, public_key=2, endpoint=192.0.2.2:51820, allowed_ip=10.42.2.0/24, persistent_keepalive_interval=60|public_key=2, update_only=true, persistent_keepalive_interval=0",
		},
		{
			"one more, and the others' sessions go on", settled + two,
			[]byte{2, 3},
			false,
			"WireGuard peer of node n3 is missing|public_key=3, endpoint=192.0.2.3:51820, allowed_ip=10.42.3.0/24, persistent_keepalive_interval=60|public_key=3, update_only=true, persistent_keepalive_interval=0",
		},
		{"one less", settled + two, nil, false, "WireGuard peer AgICAgIC is not wanted|public_key=2, remove=true|"},
		{"another port", strings.Replace(settled, "51820", "1", 1) + two, []byte{2}, false, "WireGuard's port is 1, want 51820|listen_port=51820|"},
		{"it roamed", settled + strings.Replace(two, "192.0.2.2", "198.51.100.2", 1), []byte{2}, false, "||"},
		{"the ledger has another address", settled + strings.Replace(two, "192.0.2.2", "198.51.100.2", 1), []byte{2}, true, "|public_key=2, update_only=true, endpoint=192.0.2.2:51820|"},
		{"no address", settled + strings.Replace(two, "endpoint=192.0.2.2:51820\n", "", 1), []byte{2}, false, "|public_key=2, update_only=true, endpoint=192.0.2.2:51820|"},
		{"more addresses", settled + two + "allowed_ip=0.0.0.0/0\n", []byte{2}, false, "WireGuard peer of node n2 was changed|public_key=2, update_only=true, replace_allowed_ips=true, allowed_ip=10.42.2.0/24|"},
		{"greeted for ever", settled + strings.Replace(two, "interval=0", "interval=60", 1), []byte{2}, false, "WireGuard peer of node n2 was changed|public_key=2, update_only=true, persistent_keepalive_interval=0|"},
		{
			"a further key", settled + strings.Replace(two, "preshared_key=00", "preshared_key=01", 1),
			[]byte{2},
			false,
			"WireGuard peer of node n2 was changed|public_key=2, remove=true, public_key=2, endpoint=192.0.2.2:51820, allowed_ip=10.42.2.0/24, persistent_keepalive_interval=60|public_key=2, update_only=true, persistent_keepalive_interval=0",
		},
	} {
		have, err := parse(strings.NewReader(c.have + "errno=0\n\n"))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var routes []wire.Route
		for _, n := range c.nodes {
			routes = append(routes, routeOf(n))
		}
		got := between(have, wanted("aa", 51820, routes), func(string) bool { return c.moved })
		line := func(s string) string {
			for n := range byte(4) {
				s = strings.ReplaceAll(s, keyOf(n), fmt.Sprint(n))
			}
			return strings.ReplaceAll(strings.TrimSpace(s), "\n", ", ")
		}
		if text := strings.Join(got.drift, "; ") + "|" + line(got.set) + "|" + line(got.calm); text != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, text, c.want)
		}
	}
}

// Two nodes that say the same key, or one that says none, harm nobody else.
func TestWanted(t *testing.T) {
	twin, none := routeOf(3), routeOf(4)
	twin.Tunnel.Key, none.Tunnel.Key = routeOf(2).Tunnel.Key, "?"
	c := wanted("aa", 51820, []wire.Route{routeOf(2), twin, none, routeOf(5)})
	var got []string
	for _, n := range []byte{2, 3, 4, 5} {
		if p := c.peers[keyOf(n)]; p != nil {
			got = append(got, p.node+" "+strings.Join(p.allowed, ","))
		}
	}
	if s := strings.Join(got, "; "); s != "n2 10.42.2.0/24; n5 10.42.5.0/24" || len(c.peers) != 2 {
		t.Error(s)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"errno=-98\n\n":                   "errno -98",
		"listen_port=70000\nerrno=0\n\n":  "listen_port=70000",
		"nonsense\nerrno=0\n\n":           "no value",
		"private_key=aa\n":                "unexpected EOF",
		"private_key=aa\n\n":              "nothing of success",
		"public_key=bb\nerrno=1\n\n":      "errno 1",
		"listen_port=51820\nerrno=22\n\n": "errno 22",
	} {
		if _, err := parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("private_key=aa\nlisten_port=1\npublic_key=bb\nallowed_ip=10.42.2.0/24\nerrno=0\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		have, err := parse(strings.NewReader(text))
		if err != nil {
			return
		}
		between(have, wanted("aa", 51820, []wire.Route{routeOf(2)}), nobody)
	})
}

// The lock names its holder and the version, and nobody when it is let go.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if pid, version, err := holder(path); pid != 0 || version != 0 || err != nil {
		t.Errorf("without a file: %d, %d, %v", pid, version, err)
	}
	f, err := hold(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close() // a process does not see its own lock: that others do is seen in package nettest
	if pid, _, err := holder(path); pid != 0 || err != nil {
		t.Errorf("let go: %d, %v", pid, err)
	}
}

func TestMainRefuses(t *testing.T) {
	for _, args := range [][]string{{}, {"-device", "sh-x-wg"}, {"-device", "sh-x-wg", "-port", "70000", "-socket", "/tmp/s", "-lock", "/tmp/l"}, {"-nonsense"}} {
		if err := serve(args, nil); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
