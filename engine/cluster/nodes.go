package cluster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// maxAway bounds an announced absence: an agent that is away for longer is lost like any other, ms.
const maxAway = 120_000

// nodeUp takes what a node says of itself. It is how a node that was down returns.
func (t *tx) nodeUp(n *NodeUp) error {
	if err := checkNode(n); err != nil {
		return err
	}
	if err := t.nameIsFree(n.Name, n.ID); err != nil {
		return fmt.Errorf("node %s (%s, %s): %w", n.Name, n.ID, n.Address, err)
	}
	now := &Node{Since: t.now}
	if old, ok := t.s.nodes.Get(n.ID); ok {
		*now = *old
	} else {
		cidr, err := t.nodeCIDR()
		if err != nil {
			return err
		}
		now.PodCIDR = cidr
	}
	lost := now.Down
	now.ID, now.Name, now.Address, now.Arch, now.Zone = n.ID, n.Name, n.Address, n.Arch, n.Zone
	now.Labels, now.Capacity = n.Labels, n.Capacity
	now.Key, now.Engine, now.Peer, now.Gossip = n.Key, n.Engine, n.Peer, n.Gossip
	if err := t.tunnel(now, n.Tunnel); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	if err := t.firstTaints(now, n.Taints); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	now.Up, now.Down, now.Lost, now.Fenced, now.Restarting = true, false, 0, false, 0
	if lost {
		t.doubt(now)
	}
	t.s.nodes.set(&t.s, now)
	t.room = true
	switch {
	case lost && !now.Unsteady:
		t.rely(now.ID)
	case lost && t.lastResort():
		t.relyOnFenced(now.ID)
	}
	t.evictLater(now)
	return nil
}

// nodeKey stands for a node among the objects whose rules are to be run.
func nodeKey(id place.NodeID) desired.Key { return desired.Key{Kind: "Node", Name: string(id)} }

// runNode relies on a node again whose time of doubt is over, and stops the pods whose time there is.
func (t *tx) runNode(k desired.Key) {
	n, ok := t.s.nodes.Get(place.NodeID(k.Name))
	if !ok || n.Down {
		return
	}
	switch {
	case n.Steady == 0:
	case t.now < n.Steady:
		t.wake(k, n.Steady)
	default:
		now := *n
		now.Steady, now.Unsteady, now.Doubt = 0, false, 0
		t.s.nodes.set(&t.s, &now)
		t.rely(now.ID)
		n = &now
	}
	t.evict(n)
}

func (t *tx) podsOn(id place.NodeID) []*control.Pod {
	var pods []*control.Pod
	for p := range t.s.PodsOn(id) {
		pods = append(pods, p)
	}
	return pods
}

func (t *tx) nameIsFree(name string, id place.NodeID) error {
	for other := range t.s.nodesByName.at(name) {
		if other != id {
			n, _ := t.s.nodes.Get(other)
			return fmt.Errorf("the name is that of node %s at %s", n.ID, n.Address)
		}
	}
	return nil
}

func checkNode(n *NodeUp) error {
	switch {
	case n.ID == "" || len(n.ID) > 64:
		return fmt.Errorf("node %q: the id has 1 to 64 bytes", clip(n.Name, 64))
	case !isDomain(n.Name):
		return fmt.Errorf("node %s: name %q: want a DNS name in lower case", n.ID, clip(n.Name, 64))
	case !n.Address.IsValid():
		return fmt.Errorf("node %s: it has no address", n.Name)
	case len(n.Key) > maxText || len(n.Arch) > 32 || len(n.Zone) > 253 || len(n.Labels) > 128:
		return fmt.Errorf("node %s: its facts are too large", n.Name)
	}
	for k, v := range n.Labels {
		if len(k) > 317 || len(v) > 63 {
			return fmt.Errorf("node %s: a label is too long", n.Name)
		}
	}
	c := n.Capacity
	if c.MilliCPU < 0 || c.Memory < 0 || c.Ephemeral < 0 || c.Pods < 0 ||
		c.MilliCPU > 1000*maxDevices || c.Pods > maxDevices || c.Memory > 1<<60 || c.Ephemeral > 1<<60 {
		return fmt.Errorf("node %s: its capacity is out of range", n.Name)
	}
	return nil
}

const (
	// TogetherSince is the engine version from which one NodeDown tells of several nodes.
	TogetherSince = 8
	maxTogether   = 1000
)

// nodeDown loses a node, or ends its lease.
func (t *tx) nodeDown(n *NodeDown) error {
	old, ok := t.s.nodes.Get(n.ID)
	ring, _ := t.s.Ring()
	switch {
	case !ok:
		return fmt.Errorf("there is no node %q", clip(string(n.ID), 64))
	case n.Term < ring.Term:
		return staleError{fmt.Errorf("node %s: a leader of term %d has decided so, and there was another since, in term %d", old.Name, n.Term, ring.Term)}
	case n.Fenced && !old.Down:
		return staleError{fmt.Errorf("node %s: it has returned", old.Name)}
	case n.Fenced:
		return t.fence(old)
	case len(n.More) > maxTogether:
		return fmt.Errorf("node %s, and %d more: at most %d are lost together", old.Name, len(n.More), maxTogether)
	case len(n.More) > 0:
		for _, id := range append([]place.NodeID{n.ID}, n.More...) {
			if o, ok := t.s.nodes.Get(id); ok && !o.Down && t.now >= o.Restarting {
				t.lose(o)
			}
		}
		return nil
	case old.Down:
		return nil
	case t.now < old.Restarting:
		return staleError{fmt.Errorf("node %s: its agent is announced to be away for %d ms more", old.Name, old.Restarting-t.now)}
	}
	t.lose(old)
	return nil
}

// lose takes a node for lost.
func (t *tx) lose(old *Node) {
	now := *old
	now.Down, now.Lost, now.Restarting, now.Steady, now.Unsteady, now.Doubt = true, max(t.now, 1), 0, 0, false, 0
	t.s.nodes.set(&t.s, &now)
	t.wake(nodeKey(now.ID), 0)
	for _, p := range t.podsOn(now.ID) {
		if p.Finished == 0 && p.Lost == 0 {
			lost := *p
			lost.Lost = now.Lost
			t.s.pods.set(&t.s, &lost)
			t.concern(&lost)
		}
	}
}

// lead notes that another node leads.
func (t *tx) lead(l *Lead) error {
	ring, _ := t.s.Ring()
	if l.Term <= ring.Term {
		return staleError{fmt.Errorf("there was a leader in term %d, term %d is over", ring.Term, l.Term)}
	}
	now := *ring
	now.Term = l.Term
	t.s.ring.set(&t.s, &now)
	return nil
}

// fence takes away what was stopped on a lost node at the end of its lease, and what was to stop there anyway, so that
// it may run elsewhere. What the node finds of them when it returns, it takes down (Ended).
func (t *tx) fence(old *Node) error {
	now := *old
	now.Fenced = true
	t.s.nodes.set(&t.s, &now)
	for _, p := range t.podsOn(now.ID) {
		if p.Finished == 0 && !p.Kept && (p.Fenced || p.Deleting != 0) {
			t.removed(p)
			e := &Ended{Pod: p.ID, Node: p.Node, Epoch: p.Epoch, Namespace: p.Namespace, Name: p.Name, Grace: t.grace(p)}
			if ring, _ := t.s.Ring(); ring.Engine >= 5 && p.IP.IsValid() {
				e.IP = p.IP
				t.s.addresses.set(&t.s, &Address{IP: p.IP, Pod: p.ID})
			}
			t.s.ended.set(&t.s, e)
		}
	}
	return nil
}

// cordon keeps new pods off a node, drains it, or ends both.
func (t *tx) cordon(c *Cordon) error {
	old, ok := t.s.nodes.Get(c.ID)
	if !ok {
		return fmt.Errorf("there is no node %q", clip(string(c.ID), 64))
	}
	if c.Off && c.Drain {
		return errors.New("cordon: off and drain exclude each other")
	}
	now := *old
	now.Cordoned, now.Draining = !c.Off, !c.Off && (c.Drain || old.Draining)
	t.s.nodes.set(&t.s, &now)
	t.room = t.room || c.Off
	if now.Draining == old.Draining {
		return nil
	}
	for _, p := range t.podsOn(c.ID) {
		if p.Finished != 0 {
			continue
		}
		pod := *p
		pod.Leaving, pod.Moving = 0, ""
		if now.Draining {
			pod.Leaving = max(t.now, 1)
		}
		t.s.pods.set(&t.s, &pod)
		t.concern(&pod)
	}
	return nil
}

// restarting notes that a node's agent announced its absence.
func (t *tx) restarting(from From, r *Restarting) error {
	old, ok := t.s.nodes.Get(from.Node)
	switch {
	case !ok:
		return fmt.Errorf("there is no node %q", clip(string(from.Node), 64))
	case r.Until < 0 || r.Until > t.now+maxAway:
		return fmt.Errorf("node %s: away until %d: want at most %d ms from now, %d", old.Name, r.Until, maxAway, t.now)
	case old.Down:
		return staleError{fmt.Errorf("node %s: it is lost already", old.Name)}
	}
	now := *old
	now.Restarting = r.Until
	t.s.nodes.set(&t.s, &now)
	return nil
}

// leaveRing forgets a node.
func (t *tx) leaveRing(l *Leave) error {
	n, ok := t.s.nodes.Get(l.ID)
	if !ok {
		return fmt.Errorf("there is no node %q", clip(string(l.ID), 64))
	}
	if t.s.nodes.Len() == 1 {
		return fmt.Errorf("node %s: it is the only one of its ring", n.Name)
	}
	pods := t.podsOn(l.ID)
	var still []string
	for _, p := range pods {
		if p.Finished == 0 && len(still) < 3 {
			still = append(still, p.Namespace+"/"+p.Name)
		}
	}
	if len(still) > 0 && !n.Fenced {
		return fmt.Errorf("node %s: pods are there, such as %s: drain it first, or wait until its lease is over", n.Name, strings.Join(still, ", "))
	}
	t.s.nodes.drop(&t.s, l.ID)
	t.wake(nodeKey(l.ID), 0)
	for _, p := range pods {
		t.removed(p)
	}
	for e := range t.s.ended.Values() {
		if e.Node == l.ID {
			t.s.ended.drop(&t.s, e.Pod)
		}
	}
	for ip := range t.s.addresses.rows.from(n.PodCIDR.Addr()) {
		if !n.PodCIDR.Contains(ip) {
			break
		}
		t.s.addresses.drop(&t.s, ip)
	}
	return nil
}
