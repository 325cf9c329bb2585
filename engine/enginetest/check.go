package enginetest

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
)

// Check fails the test if an invariant does not hold, a snapshot does not give the same State, or the log does not
// replay to it.
func Check(t testing.TB, r *Ring) {
	t.Helper()
	if err := Invariants(r.State); err != nil {
		t.Error(err)
	}
	if err := Reload(r.State); err != nil {
		t.Error(err)
	}
	if err := Replay(r.State, r.Log, r.Content); err != nil {
		t.Error(err)
	}
}

// Invariants tells what of a State must never be, whatever happened.
func Invariants(s *cluster.State) error {
	if err := addresses(s); err != nil {
		return err
	}
	if err := services(s); err != nil {
		return err
	}
	if err := pods(s); err != nil {
		return err
	}
	if err := health(s); err != nil {
		return err
	}
	return jobs(s)
}

// health: an environment that the ledger has run is healthy since a time exactly while nothing of it is not.
func health(s *cluster.State) error {
	for env := range s.Environments().Values() {
		var last *cluster.Run
		n := 0
		for r := range s.History(env.Name) {
			if last != nil && (last.Until != r.Since || last.Index >= r.Index) {
				return fmt.Errorf("environment %s: the run of entry %d ends at %d, the next begins at %d", env.Name, last.Index, last.Until, r.Since)
			}
			last, n = r, n+1
		}
		if n > 64 {
			return fmt.Errorf("environment %s: %d runs are kept", env.Name, n)
		}
		if last == nil {
			continue
		}
		ill, _ := s.Ill(env.Name, 10)
		if last.Until != 0 || (len(ill) == 0) != (last.Healthy != 0) || last.Commit != env.Commit {
			return fmt.Errorf("environment %s: it runs %s, its last run is %+v, and %q are not healthy", env.Name, env.Commit, *last, ill)
		}
	}
	return nil
}

// addresses: no two pods have one address; every address is of its node's range.
func addresses(s *cluster.State) error {
	held := map[netip.Addr]control.PodID{}
	for p := range s.Pods().Values() {
		if !p.IP.IsValid() {
			continue
		}
		if other, ok := held[p.IP]; ok {
			return fmt.Errorf("I2: pods %s and %s both have %s", other, p.ID, p.IP)
		}
		held[p.IP] = p.ID
		n, ok := s.Nodes().Get(p.Node)
		if !ok || !n.PodCIDR.Contains(p.IP) {
			return fmt.Errorf("pod %s has %s, which is not of its node %s", p.ID, p.IP, p.Node)
		}
		if a, ok := s.Addresses().Get(p.IP); !ok || a.Pod != p.ID {
			return fmt.Errorf("pod %s has %s, which is not held for it", p.ID, p.IP)
		}
	}
	for e := range s.Ended().Values() { // they may still be used
		if other, ok := held[e.IP]; ok && e.IP.IsValid() {
			return fmt.Errorf("I2: pods %s and %s both have %s", other, e.Pod, e.IP)
		}
		held[e.IP] = e.Pod
	}
	for a := range s.Addresses().Values() {
		if a.Released == 0 && held[a.IP] != a.Pod {
			return fmt.Errorf("I8: %s is held for pod %s, which does not have it", a.IP, a.Pod)
		}
	}
	return nil
}

// services: no cluster IP and no node port is given out twice.
func services(s *cluster.State) error {
	ips, ports := map[netip.Addr]desired.Key{}, map[string]desired.Key{}
	ring, _ := s.Ring()
	for k, svc := range s.Services().All() {
		if svc.ClusterIP.IsValid() {
			if other, ok := ips[svc.ClusterIP]; ok {
				return fmt.Errorf("I2: %s and %s both have %s", other, k, svc.ClusterIP)
			}
			ips[svc.ClusterIP] = k
			if !ring.ServiceCIDR.Contains(svc.ClusterIP) || svc.ClusterIP == ring.DNS() {
				return fmt.Errorf("%s has %s", k, svc.ClusterIP)
			}
		}
		for _, p := range svc.NodePorts {
			name := fmt.Sprintf("%s %d", p.Protocol, p.NodePort)
			if other, ok := ports[name]; ok {
				return fmt.Errorf("I2: %s and %s both have node port %s", other, k, name)
			}
			ports[name] = k
		}
	}
	return nil
}

// pods: one pod a name; nobody's capacity is exceeded; the sums kept are those of the pods.
func pods(s *cluster.State) error {
	names := map[string]control.PodID{}
	for p := range s.Pods().Values() {
		name := p.Namespace + "/" + p.Name
		if other, ok := names[name]; ok {
			return fmt.Errorf("I2: pods %s and %s are both %s", other, p.ID, name)
		}
		names[name] = p.ID
		if p.Node != "" && p.Epoch == 0 || p.Deleting != 0 && p.Node == "" {
			return fmt.Errorf("pod %s: node %q, epoch %d, deleting %d", name, p.Node, p.Epoch, p.Deleting)
		}
	}
	for n := range s.Nodes().Values() {
		used, have := s.Used(n.ID), n.Capacity
		if used.Pods > have.Pods || used.MilliCPU > have.MilliCPU || used.Memory > have.Memory {
			return fmt.Errorf("node %s has %+v, its pods ask for %+v", n.Name, have, used)
		}
		sum := used.Plus(used, -1)
		for p := range s.PodsOn(n.ID) {
			if p.Finished == 0 {
				sum = sum.Plus(p.Requests, 1)
				sum.Pods++
			}
		}
		if sum != used {
			return fmt.Errorf("node %s: pods ask for %+v, kept is %+v", n.Name, sum, used)
		}
	}
	return nil
}

// jobs: of an Indexed job no index has two pods that may run; of a CronJob that forbids or replaces no two runs
// have pods at once.
func jobs(s *cluster.State) error {
	for j := range s.Jobs().Values() {
		indexes := map[string]bool{}
		for p := range s.PodsOf(j.UID) {
			if p.Finished != 0 || p.Index == "" {
				continue
			}
			if indexes[p.Index] {
				return fmt.Errorf("I2: %s has two pods of index %s", j.Key, p.Index)
			}
			indexes[p.Index] = true
		}
	}
	return nil
}

// Reload tells whether a snapshot gives the same State, and the same bytes again.
func Reload(s *cluster.State) error {
	var a, b bytes.Buffer
	if err := s.Encode(&a); err != nil {
		return err
	}
	first := bytes.Clone(a.Bytes())
	again, err := cluster.DecodeState(&a)
	if err != nil {
		return err
	}
	if again.Hash() != s.Hash() {
		return fmt.Errorf("a snapshot gives hash %x, the State has %x", again.Hash(), s.Hash())
	}
	if err := again.Encode(&b); err != nil {
		return err
	}
	if !bytes.Equal(first, b.Bytes()) {
		return fmt.Errorf("a snapshot of a snapshot has other bytes")
	}
	for env := range s.Environments().Values() {
		was, _ := s.Ill(env.Name, 1000)
		if is, _ := again.Ill(env.Name, 1000); !slices.Equal(is, was) {
			return fmt.Errorf("environment %s: a snapshot has %q not healthy, the State %q", env.Name, is, was)
		}
	}
	return Invariants(again)
}

// Replay tells whether the log gives the same State: from its beginning, and from a snapshot half-way.
func Replay(s *cluster.State, log []cluster.Entry, content desired.Content) error {
	now := cluster.NewState()
	for i, e := range log {
		if i == len(log)/2 {
			var b bytes.Buffer
			if err := now.Encode(&b); err != nil {
				return err
			}
			var err error
			if now, err = cluster.DecodeState(&b); err != nil {
				return err
			}
		}
		cluster.Step(now, e, content)
	}
	if now.Hash() != s.Hash() {
		return fmt.Errorf("the log of %d entries replays to %x, the State has %x", len(log), now.Hash(), s.Hash())
	}
	return nil
}
