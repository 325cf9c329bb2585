package firewall

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/nettest"
)

const flips = "ab12ef"

// flipped are tables that differ in all that there is: Services, endpoints, affinity, members of the ring, the overlay that only
// they may send by, and the pods' range, which rules of isolation are made of.
func flipped() []wire.Tables {
	alone, moved, more := base(), shop(), shop()
	alone.Routes = nil
	moved.PodCIDR = netip.MustParsePrefix("10.42.7.0/24")
	moved.Overlay = wire.Overlay{VNI: 0xfeed, Port: 4790}
	more.Routes = append(more.Routes, wire.Route{Node: "n3", CIDR: netip.MustParsePrefix("10.42.2.0/24"), Via: netip.MustParseAddr("192.0.2.3")})
	more.Ports = more.Ports[1:]
	return []wire.Tables{shop(), alone, moved, more}
}

// flipping in the environment has this binary be the agent of TestFault_W3.
const flipping = "SHOAL_FLIP"

// flip changes the rules until it is killed, or after a minute.
func flip() error {
	f, err := Open(Options{Instance: flips})
	if err != nil {
		return err
	}
	all := flipped()
	for begun := time.Now(); time.Since(begun) < time.Minute; {
		if err := f.Apply(context.Background(), all[rand.IntN(len(all))]); err != nil {
			return err
		}
		if rand.IntN(8) == 0 {
			f.loaded = nil // reads what is there, as after somebody else's change
		}
	}
	return errors.New("nobody kills this process")
}

// The agent is killed at any time while it changes rules: what is in force is all of one state or all of another, never something
// between, for one change is one transaction. So nothing is let through that both forbid. Policies of the cluster will be
// rules of the same table.
func TestFault_W3_KilledWhileRulesChange(t *testing.T) {
	f := openFirewall(t, flips)
	all := flipped()
	generation := func() uint32 {
		g, err := f.kernel.generation()
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for i := range all {
		for j := range all {
			apply(t, f, all[i])
			before := generation()
			apply(t, f, all[j])
			if took := generation() - before; took > 1 || took == 0 && i != j {
				t.Errorf("from state %d to state %d in %d transactions", i, j, took)
			}
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	seen := map[int]int{}
	rounds := 40
	if os.Getenv("FULL") != "" {
		rounds = 200
	}
	for range rounds {
		before := generation()
		agent := exec.Command(self)
		agent.Env = append(os.Environ(), flipping+"=1")
		agent.Stdout, agent.Stderr = os.Stderr, os.Stderr
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); generation() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				_ = agent.Process.Kill()
				t.Fatal("the agent changes nothing")
			}
		}
		time.Sleep(time.Duration(r.IntN(20_000)) * time.Microsecond)
		_ = agent.Process.Kill()
		_ = agent.Wait()
		found, err := f.kernel.read()
		if err != nil {
			t.Fatal(err)
		}
		at := -1
		for i := range all {
			want, o, _ := target(flips, &all[i])
			if _, drift := repair(found, want, o, flips); len(drift) == 0 {
				at = i
			}
		}
		if at < 0 {
			t.Fatalf("seed %d: after %d transactions the rules are of no state:\n%s", seed, generation()-before, nettest.Run(t, "nft", "list", "table", "ip", tableName(flips)))
		}
		seen[at]++
	}
	t.Logf("seed %d: killed in states %v", seed, seen)
	if len(seen) < 3 {
		t.Errorf("killed in the states %v only", seen)
	}
}
