package firewall

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

func blockersText(t *testing.T, f *Firewall) string {
	t.Helper()
	found, err := f.Blockers(t.Context(), shop())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, k := range found {
		fmt.Fprintf(&b, "%s: %s %s\n", k.Chain, k.Whose, k.Hook)
		for _, r := range k.Remedy {
			b.WriteString("  " + r + "\n")
		}
	}
	return b.String()
}

// Each firewall is found, what it says to run helps, AllowForward helps too, and Purge leaves it as it was.
func TestOtherFirewallsAreFoundAndLetPodsThrough(t *testing.T) {
	for _, c := range []struct {
		name, setup, list, undo, want string
		cannotRun                     bool // the remedy's program is not here
	}{
		{
			"docker by iptables-nft",
			"iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN; iptables-nft -A FORWARD -j DOCKER-USER",
			"iptables-nft -S", "nft delete table ip filter",
			"chain FORWARD of table ip filter: docker forward\n  iptables -I DOCKER-USER -s 10.42.0.0/16 -j ACCEPT\n  iptables -I DOCKER-USER -d 10.42.0.0/16 -j ACCEPT\n", false,
		},
		{
			"ufw",
			"iptables-nft -P FORWARD DROP; iptables-nft -P INPUT DROP; iptables-nft -N ufw-before-forward; iptables-nft -A FORWARD -j ufw-before-forward",
			"iptables-nft -S", "nft delete table ip filter",
			"chain FORWARD of table ip filter: ufw forward\n  ufw route allow from 10.42.0.0/16\n  ufw route allow to 10.42.0.0/16\n" +
				"chain INPUT of table ip filter: ufw input\n  ufw allow from 10.42.0.0/16 to 10.43.0.10\n", true,
		},
		{
			"firewalld",
			"nft add table inet firewalld; nft 'add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }'; nft add rule inet firewalld filter_FORWARD reject",
			"nft list table inet firewalld", "nft delete table inet firewalld",
			"chain filter_FORWARD of table inet firewalld: firewalld forward\n  firewall-cmd --permanent --zone=trusted --add-source=10.42.0.0/16\n  firewall-cmd --reload\n", true,
		},
		{
			"somebody's own rules",
			"nft add table inet mine; nft 'add chain inet mine forwarding { type filter hook forward priority 0; policy drop; }'; nft 'add chain inet mine incoming { type filter hook input priority 0; policy drop; }'",
			"nft list table inet mine", "nft delete table inet mine",
			"chain forwarding of table inet mine:  forward\n  nft insert rule inet mine forwarding ip saddr 10.42.0.0/16 accept\n  nft insert rule inet mine forwarding ip daddr 10.42.0.0/16 accept\n" +
				"chain incoming of table inet mine:  input\n  nft insert rule inet mine incoming ip saddr 10.42.0.0/16 ip daddr 10.43.0.10 accept\n", false,
		},
		{
			"iptables-legacy",
			"iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -i lo -m comment --comment other -j ACCEPT",
			"iptables-legacy -S", "iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F",
			"chain FORWARD of iptables-legacy:  forward\n  iptables-legacy -I FORWARD -s 10.42.0.0/16 -j ACCEPT\n  iptables-legacy -I FORWARD -d 10.42.0.0/16 -j ACCEPT\n", false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := openFirewall(t, "aabbcc")
			apply(t, f, shop())
			if got := blockersText(t, f); got != "" {
				t.Fatalf("before: %s", got)
			}
			shell := func(script string) string { return nettest.Run(t, "sh", "-ec", script) }
			shell(c.setup)
			t.Cleanup(func() { shell(c.undo) })
			before := shell(c.list)
			if got := blockersText(t, f); got != c.want {
				t.Errorf("found\n%swant\n%s", got, c.want)
			}
			if err := f.AllowForward(t.Context(), shop()); err != nil {
				t.Fatal(err)
			}
			allowed := shell(c.list)
			if got := blockersText(t, f); got != "" {
				t.Errorf("after AllowForward: %s\n%s", got, allowed)
			}
			if err := f.AllowForward(t.Context(), shop()); err != nil {
				t.Fatal(err)
			}
			if again := shell(c.list); again != allowed {
				t.Errorf("a second AllowForward changed\n%s to\n%s", allowed, again)
			}
			if err := f.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
			if after := shell(c.list); after != before {
				t.Errorf("after Purge:\n%s\nbefore:\n%s", after, before)
			}
			if c.cannotRun {
				return
			}
			apply(t, f, shop())
			for line := range strings.SplitSeq(c.want, "\n") {
				if command, found := strings.CutPrefix(line, "  "); found {
					if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
						t.Fatalf("%s: %v\n%s", command, err, out)
					}
				}
			}
			if got := blockersText(t, f); got != "" {
				t.Errorf("after its remedy: %s", got)
			}
		})
	}
}
