package cluster

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"net/netip"
	"strings"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/preview"
)

// State is what the ledger says: who runs what, where and since when. It changes by Step alone. A State is used
// by one goroutine at a time; Snapshot gives a copy for another one.
type State struct {
	index uint64
	time  int64
	sum   sum

	ring         Table[string, *Ring]
	seen         Table[place.NodeID, *Seen]
	rejected     Table[uint64, *Rejection]
	faults       Table[desired.Key, *Fault]
	nodes        Table[place.NodeID, *Node]
	tokens       Table[string, *TokenValue]
	tags         Table[string, *TagValue]
	refs         Table[string, *RefValue]
	environments Table[string, *Environment]
	runs         Table[runKey, *Run]
	evidence     Table[evidenceKey, *EvidenceValue]
	previews     Table[string, *preview.Have]
	objects      Table[desired.Key, *Object]
	services     Table[desired.Key, *Service]
	deployments  Table[desired.Key, *control.Deployment]
	replicasets  Table[desired.Key, *control.ReplicaSet]
	jobs         Table[desired.Key, *control.Job]
	cronjobs     Table[desired.Key, *control.CronJob]
	pods         Table[control.PodID, *control.Pod]
	ended        Table[control.PodID, *Ended]
	addresses    Table[netip.Addr, *Address]
	wakes        Table[desired.Key, *Wake]

	objectsOf   index[string, desired.Key]      // by environment
	setsOf      index[desired.Key, desired.Key] // by owning Deployment
	jobsOf      index[desired.Key, desired.Key] // by owning CronJob
	jobsAfter   index[string, desired.Key]      // by the uid they wait for
	podsOn      index[place.NodeID, control.PodID]
	podsOf      index[string, control.PodID] // by owner's uid
	loose       index[string, control.PodID] // by namespace: bare pods and those let go
	podNames    index[string, control.PodID] // by namespace/name
	pending     index[int64, control.PodID]  // by creation
	used        tree[place.NodeID, place.Resources]
	clusterIPs  index[netip.Addr, desired.Key]
	nodePorts   index[portKey, desired.Key]
	due         index[int64, desired.Key] // wakes by time
	nodesByName index[string, place.NodeID]
	blobs       tree[desired.Digest, int]  // how often each digest is referred to
	ill         index[string, desired.Key] // by environment: objects that are not healthy
	stirred     []string                   // environments of which an object's health was looked at in this Step

	objectCache *objectCache
	seating     *seating // nil: none was made, or it no longer fits
}

// NewState returns the State before the first entry.
func NewState() *State {
	strs := strings.Compare
	s := &State{objectCache: newObjectCache()}
	s.ring = newTable(strs, tableKind[string, *Ring]{name: "ring", key: func(*Ring) string { return "" }, text: func(string) string { return "" }})
	s.seen = newTable(compareNode, tableKind[place.NodeID, *Seen]{name: "seen", key: func(v *Seen) place.NodeID { return v.Node }, text: nodeText})
	s.rejected = newTable(cmp.Compare[uint64], tableKind[uint64, *Rejection]{name: "rejected", key: func(v *Rejection) uint64 { return v.Index }, text: decimal})
	s.faults = newTable(desired.Key.Compare, tableKind[desired.Key, *Fault]{name: "faults", key: func(v *Fault) desired.Key { return v.Key }, text: keyText})
	s.nodes = newTable(compareNode, tableKind[place.NodeID, *Node]{name: "nodes", key: func(v *Node) place.NodeID { return v.ID }, text: nodeText, follow: followNode})
	s.tokens = newTable(strs, tableKind[string, *TokenValue]{name: "tokens", key: func(v *TokenValue) string { return v.ID }, text: same})
	s.tags = newTable(strs, tableKind[string, *TagValue]{name: "tags", key: func(v *TagValue) string { return v.Name }, text: same})
	s.refs = newTable(strs, tableKind[string, *RefValue]{name: "refs", key: func(v *RefValue) string { return v.Name }, text: same})
	s.environments = newTable(strs, tableKind[string, *Environment]{name: "environments", key: func(v *Environment) string { return v.Name }, text: same, follow: followEnvironment})
	s.runs = newTable(runKey.compare, tableKind[runKey, *Run]{name: "runs", key: func(v *Run) runKey { return runKey{v.Environment, v.Index} }, text: runKey.String})
	s.evidence = newTable(evidenceKey.compare, tableKind[evidenceKey, *EvidenceValue]{name: "evidence", key: func(v *EvidenceValue) evidenceKey { return evidenceKey{v.Environment, v.Render, v.Gate} }, text: evidenceKey.String})
	s.previews = newTable(strs, tableKind[string, *preview.Have]{name: "previews", key: func(v *preview.Have) string { return v.Name }, text: same})
	s.objects = newTable(desired.Key.Compare, tableKind[desired.Key, *Object]{name: "objects", key: func(v *Object) desired.Key { return v.Key }, text: keyText, follow: followObject})
	s.services = newTable(desired.Key.Compare, tableKind[desired.Key, *Service]{name: "services", key: func(v *Service) desired.Key { return v.Key }, text: keyText, follow: followService})
	s.deployments = newTable(desired.Key.Compare, tableKind[desired.Key, *control.Deployment]{name: "deployments", key: func(v *control.Deployment) desired.Key { return v.Key }, text: keyText, follow: followDeployment})
	s.replicasets = newTable(desired.Key.Compare, tableKind[desired.Key, *control.ReplicaSet]{name: "replicasets", key: func(v *control.ReplicaSet) desired.Key { return v.Key }, text: keyText, follow: followSet})
	s.jobs = newTable(desired.Key.Compare, tableKind[desired.Key, *control.Job]{name: "jobs", key: func(v *control.Job) desired.Key { return v.Key }, text: keyText, follow: followJob})
	s.cronjobs = newTable(desired.Key.Compare, tableKind[desired.Key, *control.CronJob]{name: "cronjobs", key: func(v *control.CronJob) desired.Key { return v.Key }, text: keyText, follow: followCronJob})
	s.pods = newTable(comparePod, tableKind[control.PodID, *control.Pod]{name: "pods", key: func(v *control.Pod) control.PodID { return v.ID }, text: func(k control.PodID) string { return string(k) }, follow: followPod})
	s.ended = newTable(comparePod, tableKind[control.PodID, *Ended]{name: "ended", key: func(v *Ended) control.PodID { return v.Pod }, text: func(k control.PodID) string { return string(k) }})
	s.addresses = newTable(netip.Addr.Compare, tableKind[netip.Addr, *Address]{name: "addresses", key: func(v *Address) netip.Addr { return v.IP }, text: netip.Addr.String})
	s.wakes = newTable(desired.Key.Compare, tableKind[desired.Key, *Wake]{name: "wakes", key: func(v *Wake) desired.Key { return v.Key }, text: keyText, follow: followWake})

	s.objectsOf = newIndex(strs, desired.Key.Compare)
	s.setsOf = newIndex(desired.Key.Compare, desired.Key.Compare)
	s.jobsOf = newIndex(desired.Key.Compare, desired.Key.Compare)
	s.jobsAfter = newIndex(strs, desired.Key.Compare)
	s.podsOn = newIndex(compareNode, comparePod)
	s.podsOf = newIndex(strs, comparePod)
	s.loose = newIndex(strs, comparePod)
	s.podNames = newIndex(strs, comparePod)
	s.pending = newIndex(cmp.Compare[int64], comparePod)
	s.used = tree[place.NodeID, place.Resources]{cmp: compareNode}
	s.clusterIPs = newIndex(netip.Addr.Compare, desired.Key.Compare)
	s.nodePorts = newIndex(portKey.compare, desired.Key.Compare)
	s.due = newIndex(cmp.Compare[int64], desired.Key.Compare)
	s.nodesByName = newIndex(strs, compareNode)
	s.blobs = tree[desired.Digest, int]{cmp: cmp.Compare[desired.Digest]}
	s.ill = newIndex(strs, desired.Key.Compare)
	return s
}

// tables lists all tables by name: the order of snapshots and of Outcome.Changed.
func (s *State) tables() []anyTable {
	return []anyTable{
		&s.addresses, &s.cronjobs, &s.deployments, &s.ended, &s.environments, &s.evidence, &s.faults, &s.jobs, &s.nodes, &s.objects, &s.pods, &s.previews, &s.refs,
		&s.rejected, &s.replicasets, &s.ring, &s.runs, &s.seen, &s.services, &s.tags, &s.tokens, &s.wakes,
	}
}

// Snapshot returns a State equal to s that does not change when s does. It costs as much as copying a struct.
func (s *State) Snapshot() *State {
	c := *s
	c.seating = nil // it is changed by Step
	return &c
}

// Index is that of the last entry stepped, 0 before the first.
func (s *State) Index() uint64 { return s.index }

// Time is ring time: that of the last entry, ms since 1970.
func (s *State) Time() int64 { return s.time }

// Wake is the ring time at which the State wants a Tick, 0 for never.
func (s *State) Wake() int64 {
	if p, ok := s.due.first(); ok {
		return max(p.at, 1)
	}
	return 0
}

// Hash is equal for equal States, however they came about. It is cheap: Step keeps the sum of the records.
func (s *State) Hash() [sha256.Size]byte {
	var b [48]byte
	for i, w := range s.sum {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	binary.LittleEndian.PutUint64(b[32:], s.index)
	binary.LittleEndian.PutUint64(b[40:], uint64(s.time))
	return sha256.Sum256(b[:])
}

// Blobs lists every digest the State refers to, sorted: a snapshot is complete with their bytes.
func (s *State) Blobs() iter.Seq[desired.Digest] {
	return func(yield func(desired.Digest) bool) {
		for d := range s.blobs.all() {
			if !yield(d) {
				return
			}
		}
	}
}

func compareNode(a, b place.NodeID) int { return strings.Compare(string(a), string(b)) }
func comparePod(a, b control.PodID) int { return strings.Compare(string(a), string(b)) }
func nodeText(n place.NodeID) string    { return string(n) }
func same(s string) string              { return s }

// keyText is "apps/Deployment/default/web".
func keyText(k desired.Key) string {
	return k.Group + "/" + k.Kind + "/" + k.Namespace + "/" + k.Name
}
