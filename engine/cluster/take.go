package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
)

// Bounds of what inputs may carry.
const (
	maxText    = 1024      // bytes of a name, a reference or a reason
	maxList    = 20_000    // entries of a list or map
	maxStatus  = 64 << 10  // bytes of a pod status as JSON
	maxRefs    = 50_000    // refs of the built-in Git server
	maxTags    = 50_000    // names in the ring's own store of images
	nodeBits   = 24        // a node's share of the pod range
	maxDevices = 1_000_000 // no node has more cores or pods
)

// String says which input it is, for people: "activate dev".
func (in Input) String() string {
	switch {
	case in.Genesis != nil:
		return "genesis"
	case in.Repository != nil:
		return "repository"
	case in.NodeUp != nil:
		return "node up " + clip(in.NodeUp.Name, 64)
	case in.NodeDown != nil:
		if n := len(in.NodeDown.More); n > 0 {
			return fmt.Sprintf("node down %s and %d more", clip(string(in.NodeDown.ID), 64), n)
		}
		return "node down " + clip(string(in.NodeDown.ID), 64)
	case in.Lead != nil:
		return fmt.Sprintf("lead in term %d", in.Lead.Term)
	case in.Token != nil:
		return "token " + clip(in.Token.ID, 64)
	case in.Join != nil:
		return "join " + clip(in.Join.Name, 64)
	case in.Leave != nil:
		return "leave " + clip(string(in.Leave.ID), 64)
	case in.Restarting != nil:
		return "restarting " + clip(string(in.From.Node), 64)
	case in.Push != nil:
		return "push " + in.Push.describe()
	case in.Tag != nil:
		return "tag " + clip(in.Tag.Name, 256)
	case in.Activate != nil:
		return "activate " + clip(in.Activate.Environment, 64)
	case in.Evidence != nil:
		return "evidence " + clip(in.Evidence.Environment, 64) + " " + clip(in.Evidence.Gate, 64)
	case in.Preview != nil && in.Preview.Set != nil:
		return "preview " + clip(in.Preview.Set.Name, 64)
	case in.Preview != nil && in.Preview.Wake != "":
		return "wake preview " + clip(in.Preview.Wake, 64)
	case in.Preview != nil:
		return "drop preview " + clip(in.Preview.Drop, 64)
	case in.Retire != nil:
		return "retire " + clip(in.Retire.Environment, 64)
	case in.Phase != nil:
		return "phase of pod " + clip(string(in.Phase.Pod), 64)
	case in.Tick != nil:
		return "tick"
	case in.Cordon != nil:
		return "cordon " + clip(string(in.Cordon.ID), 64)
	case in.Taint != nil:
		return "taint " + clip(string(in.Taint.ID), 64)
	case in.Pressure != nil && in.Pressure.Disk == "":
		return "no disk pressure on " + clip(string(in.From.Node), 64)
	case in.Pressure != nil:
		return "disk pressure on " + clip(string(in.From.Node), 64)
	case in.Clock != nil && in.Clock.Ahead == 0:
		return "clock is right on " + clip(string(in.Clock.ID), 64)
	case in.Clock != nil:
		return "clock is off on " + clip(string(in.Clock.ID), 64)
	case in.Rebalance != nil && in.Rebalance.Off:
		return "no rebalance"
	case in.Rebalance != nil:
		return "rebalance"
	case in.SetEngine != nil:
		return "set engine"
	default:
		return "nothing"
	}
}

// kinds counts the pointers that are set.
func (in Input) kinds() int {
	n := 0
	for _, set := range []bool{
		in.Genesis != nil, in.Repository != nil, in.NodeUp != nil, in.NodeDown != nil, in.Push != nil, in.Tag != nil, in.Activate != nil,
		in.Token != nil, in.Join != nil, in.Leave != nil, in.Restarting != nil, in.Retire != nil, in.Phase != nil, in.Tick != nil, in.Cordon != nil, in.SetEngine != nil,
		in.Lead != nil, in.Taint != nil, in.Pressure != nil, in.Rebalance != nil, in.Clock != nil, in.Evidence != nil, in.Preview != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

// take checks an input and makes its own change; the rules it concerns are queued.
func (t *tx) take(in Input) error {
	if n := in.kinds(); n != 1 {
		return fmt.Errorf("an input says exactly one thing, not %d", n)
	}
	if in.Genesis != nil {
		return t.genesis(in.Genesis)
	}
	if _, ok := t.s.Ring(); !ok {
		return errors.New("the first entry of a ledger is genesis")
	}
	switch {
	case in.Repository != nil:
		return t.repository(in.Repository)
	case in.NodeUp != nil:
		return t.nodeUp(in.NodeUp)
	case in.NodeDown != nil:
		return t.nodeDown(in.NodeDown)
	case in.Lead != nil:
		return t.lead(in.Lead)
	case in.Token != nil:
		return t.token(in.Token)
	case in.Join != nil:
		return t.join(in.Join)
	case in.Leave != nil:
		return t.leaveRing(in.Leave)
	case in.Restarting != nil:
		return t.restarting(in.From, in.Restarting)
	case in.Push != nil:
		return t.push(in.Push)
	case in.Tag != nil:
		return t.tag(in.Tag)
	case in.Activate != nil:
		return t.activate(in.Activate)
	case in.Evidence != nil:
		return t.evidence(in.From, in.Evidence)
	case in.Preview != nil:
		return t.preview(in.Preview)
	case in.Retire != nil:
		return t.retire(in.Retire)
	case in.Phase != nil:
		return t.phase(in.From, in.Phase)
	case in.Cordon != nil:
		return t.cordon(in.Cordon)
	case in.Taint != nil:
		return t.taint(in.Taint)
	case in.Pressure != nil:
		return t.pressure(in.From, in.Pressure)
	case in.Clock != nil:
		return t.clock(in.Clock)
	case in.Rebalance != nil:
		return t.rebalance(in.Rebalance)
	case in.SetEngine != nil:
		return t.setEngine(in.SetEngine)
	default:
		return t.tick()
	}
}

func (t *tx) genesis(g *Genesis) error {
	if _, ok := t.s.Ring(); ok {
		return errors.New("the ring has had its genesis")
	}
	if len(g.Ring) != 32 || !isHex(g.Ring) {
		return fmt.Errorf("ring %q: want 32 hex digits", clip(g.Ring, 64))
	}
	if err := checkRange("podCIDR", g.PodCIDR, nodeBits); err != nil {
		return err
	}
	if err := checkRange("serviceCIDR", g.ServiceCIDR, 28); err != nil {
		return err
	}
	if g.PodCIDR.Overlaps(g.ServiceCIDR) {
		return fmt.Errorf("podCIDR %s and serviceCIDR %s overlap", g.PodCIDR, g.ServiceCIDR)
	}
	if !isDomain(g.Domain) {
		return fmt.Errorf("domain %q: want a DNS name in lower case, such as cluster.local", clip(g.Domain, 64))
	}
	if g.Engine < 1 {
		return fmt.Errorf("engine %d: want 1 or more", g.Engine)
	}
	if g.Engine > EngineVersion {
		return stallError{fmt.Sprintf("the ring runs engine version %d, this binary knows %d", g.Engine, EngineVersion)}
	}
	t.s.ring.set(&t.s, &Ring{Genesis: *g, Engine: g.Engine})
	return nil
}

func checkRange(what string, p netip.Prefix, most int) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4():
		return fmt.Errorf("%s %s: want an IPv4 range", what, p)
	case p.Masked() != p:
		return fmt.Errorf("%s %s: want %s", what, p, p.Masked())
	case p.Bits() < 8 || p.Bits() > most:
		return fmt.Errorf("%s %s: want /8 to /%d", what, p, most)
	}
	return nil
}

func (t *tx) repository(r *Repository) error {
	if len(r.URL) > maxText || len(r.Branch) > maxText {
		return fmt.Errorf("repository: url and branch have at most %d bytes", maxText)
	}
	ring, _ := t.s.Ring()
	now := *ring
	now.Repository = *r
	t.s.ring.set(&t.s, &now)
	return nil
}

func (t *tx) setEngine(e *SetEngine) error {
	ring, _ := t.s.Ring()
	if e.Version <= ring.Engine {
		return fmt.Errorf("engine version %d: it is %d already", e.Version, ring.Engine)
	}
	for n := range t.s.nodes.Values() {
		if !n.Down && n.Engine < e.Version {
			return fmt.Errorf("engine version %d: node %s knows only %d", e.Version, n.Name, n.Engine)
		}
	}
	if e.Version > EngineVersion {
		return stallError{fmt.Sprintf("the ring goes to engine version %d, this binary knows %d", e.Version, EngineVersion)}
	}
	now := *ring
	now.Engine = e.Version
	t.s.ring.set(&t.s, &now)
	return nil
}

// maxDue is how many rules one Tick runs: when a thousand runs are due at the same second, they start in the order
// of their time and name, some hundreds a second, and other entries come in between.
const maxDue = 128

// tick runs the rules whose time has come.
func (t *tx) tick() error {
	for range maxDue {
		p, ok := t.s.due.first()
		if !ok || p.at > t.now {
			return nil
		}
		t.queue.add(p.key)
		t.wake(p.key, 0)
	}
	return nil
}

// phase takes a node's report on one of its pods.
func (t *tx) phase(from From, r *Phase) error {
	old, ok := t.s.pods.Get(r.Pod)
	if e, given := t.s.ended.Get(r.Pod); given && r.Removed && e.Node == from.Node && e.Epoch == r.Epoch {
		t.s.ended.drop(&t.s, r.Pod)
		t.release(e.IP, e.Pod)
		return nil
	}
	if !ok {
		return staleError{fmt.Errorf("there is no pod %q", clip(string(r.Pod), 64))}
	}
	if from.Node != old.Node || r.Epoch != old.Epoch {
		return staleError{fmt.Errorf("pod %s/%s: node %s with epoch %d does not own it", old.Namespace, old.Name, clip(string(from.Node), 64), r.Epoch)}
	}
	if r.Removed {
		t.removed(old)
		return nil
	}
	b, err := json.Marshal(r.Status)
	if err != nil {
		return fmt.Errorf("pod %s/%s: status: %w", old.Namespace, old.Name, err)
	}
	if len(b) > maxStatus {
		return fmt.Errorf("pod %s/%s: its status has %d bytes, at most %d are kept", old.Namespace, old.Name, len(b), maxStatus)
	}
	t.report(old, r.Status)
	return nil
}

func isHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

// isID tells whether id names a Git object: 40 hex digits, or 64 for SHA-256.
func isID(id source.ID) bool { return (len(id) == 40 || len(id) == 64) && isHex(string(id)) }

// isDomain tells whether s is a DNS name in lower case.
func isDomain(s string) bool {
	return s != "" && len(s) <= 253 && !slices.ContainsFunc(strings.Split(s, "."), func(l string) bool { return !isLabel(l) })
}

// isLabel tells whether s is one label of a DNS name.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

// tag has a name stand for an image, or for nothing any more.
func (t *tx) tag(g *Tag) error {
	_, known := t.s.tags.Get(g.Name)
	hash, isSHA := strings.CutPrefix(g.Digest, "sha256:")
	switch {
	case g.Name == "" || len(g.Name) > maxText:
		return fmt.Errorf("tag: its name has 1 to %d bytes", maxText)
	case g.Digest == "" && !known:
		return fmt.Errorf("tag %s: there is none to take away", clip(g.Name, 256))
	case g.Digest == "":
		t.s.tags.drop(&t.s, g.Name)
		return nil
	case !isSHA || len(hash) != 64 || !isHex(hash):
		return fmt.Errorf("tag %s: digest %q: want sha256: and 64 hex digits", clip(g.Name, 256), clip(g.Digest, 80))
	case !known && t.s.tags.Len() >= maxTags:
		return fmt.Errorf("tag %s: there are %d tags already", clip(g.Name, 256), maxTags)
	}
	t.s.tags.set(&t.s, &TagValue{Tag: *g, Time: t.now})
	return nil
}
