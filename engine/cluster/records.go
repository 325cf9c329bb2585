package cluster

import (
	"cmp"
	"net/netip"
	"strconv"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// Ring is what holds for the whole ring.
type Ring struct {
	Genesis
	Engine     int        `json:"engineNow"` // the engine version that is in force
	Repository Repository `json:"repository,omitzero"`
	Term       uint64     `json:"term,omitempty"` // of the log, in which the last leader began to lead

	Rebalance *Rebalancing `json:"rebalance,omitempty"` // that goes on; nil: none does
}

// Node is a machine with the facts that placing does not need.
type Node struct {
	place.Node
	Key    string `json:"key"`
	Engine int    `json:"engine"`
	Since  int64  `json:"since"` // ring time at which it joined, ms

	Tainted []Tainted `json:"tainted,omitempty"` // by key, for the taints that pods must leave for

	DiskPressure string `json:"diskPressure,omitempty"` // what its disk is short of, as it says; "": of nothing
	ClockAhead   int64  `json:"clockAhead,omitempty"`   // ms by which its clock was ahead of most voters' when that was said, negative if it was behind; 0: it is right

	Peer   uint16 `json:"peer,omitempty"`
	Gossip uint16 `json:"gossip,omitempty"`

	Tunnel Tunnel `json:"tunnel,omitzero"` // its end of WireGuard

	Up         bool  `json:"up,omitempty"`         // it has reported what it has
	Lost       int64 `json:"lost,omitempty"`       // ring time since which it is down; 0: it is not
	Fenced     bool  `json:"fenced,omitempty"`     // its lease is over since it was lost
	Draining   bool  `json:"draining,omitempty"`   // its pods are to move
	Restarting int64 `json:"restarting,omitempty"` // ring time until which its agent is announced to be away
	Returned   int64 `json:"returned,omitempty"`   // ring time of its last return
	Returns    int   `json:"returns,omitempty"`    // how often it returned, each within unsteadyFor of the one before
	Steady     int64 `json:"steady,omitempty"`     // ring time from which it is relied on again; 0: it is
}

// TokenValue is a token that was made, and who used it.
type TokenValue struct {
	Token
	Node place.NodeID `json:"node,omitempty"` // that joined with it
}

// Seen is what was taken of one submitter's inputs, by boot, the newest boot last.
type Seen struct {
	Node  place.NodeID `json:"node"`
	Boots []Boot       `json:"boots"`
}

// Boot is one boot's inputs: Last is the highest sequence number, and bit i of Window tells whether Last-i
// was taken.
type Boot struct {
	Boot   string `json:"boot"`
	Last   uint64 `json:"last"`
	Window uint64 `json:"window"`
}

// Rejection is an input that changed nothing, with its reason.
type Rejection struct {
	Index  uint64 `json:"index"`
	Time   int64  `json:"time"`
	From   From   `json:"from"`
	Input  string `json:"input"` // "activate dev", "phase", ...
	Reason string `json:"reason"`
}

// Fault is an object whose rule failed: the rest of the ring goes on, and the rule is tried again when
// something about the object changes, at the latest after faultRetry.
type Fault struct {
	Key    desired.Key `json:"key"`
	Since  int64       `json:"since"`
	Reason string      `json:"reason"`
}

// RefValue is where a ref of the built-in Git server points.
type RefValue struct {
	Name string    `json:"name"`
	ID   source.ID `json:"id"`
}

// TagValue is what a name of the ring's own store stands for.
type TagValue struct {
	Tag
	Time int64 `json:"time"` // ring time at which it was set, ms
}

// Environment is the last Activate of an environment.
type Environment struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Ref       string            `json:"ref"`
	Commit    source.ID         `json:"commit"`
	D         desired.Digest    `json:"d"`
	Images    map[string]string `json:"images,omitempty"`
	Held      []string          `json:"held,omitempty"`
	Index     uint64            `json:"index"` // of the Activate
	Time      int64             `json:"time"`

	Policy *promote.Environment `json:"policy,omitempty"` // what rules what comes in next, by the tree that is active; nil: by the default branch's
	Verify []string             `json:"verify,omitempty"` // Jobs that verify what runs
}

// Run is a commit that an environment runs or ran. Of those that ran the last maxRuns are kept.
type Run struct {
	Index uint64 `json:"index"` // of the Activate
	promote.Run
	Act    promote.Act       `json:"act"`              // what brought it in
	Images map[string]string `json:"images,omitempty"` // what the tags of its images stood for: it is promoted and gone back to with these
	// Proven is when all of it was healthy for the first time, ms; 0: it never was.
	Proven int64 `json:"proven,omitempty"`
}

// EvidenceValue is the last answer to a gate on one render of an environment.
type EvidenceValue struct {
	Evidence
	Since int64        `json:"since"` // ring time at which it was said, ms
	Node  place.NodeID `json:"node"`  // that said it
}

// Object is one object of an active environment.
type Object struct {
	Key         desired.Key    `json:"key"`
	Environment string         `json:"environment"`
	UID         string         `json:"uid"`
	Digest      desired.Digest `json:"digest"`
	App         string         `json:"app"`
	Template    desired.Digest `json:"template,omitempty"`
	Created     int64          `json:"created"`    // ring time, ms
	Generation  int64          `json:"generation"` // counts the digests it has had, from 1
	Commit      source.ID      `json:"commit"`     // that last changed it
}

// Service is what was given to a Service, or that it asked for and got.
type Service struct {
	Key         desired.Key    `json:"key"`
	Environment string         `json:"environment"`
	Object      desired.Digest `json:"object"`
	ClusterIP   netip.Addr     `json:"clusterIP,omitzero"` // invalid for headless and ExternalName ones
	NodePorts   []NodePort     `json:"nodePorts,omitempty"`
}

// NodePort is the node port of one port of a Service.
type NodePort struct {
	Name     string `json:"name,omitempty"` // of the service's port
	Protocol string `json:"protocol"`       // "TCP", "UDP", "SCTP"
	Port     int32  `json:"port"`           // of the service
	NodePort int32  `json:"nodePort"`
}

// Ended is a pod that was given up while nobody reached its node: it has left the pods' table, and is the proof by which
// the node takes down what it finds of it when it returns. It goes when the node says that nothing is left.
type Ended struct {
	Pod       control.PodID `json:"pod"`
	Node      place.NodeID  `json:"node"`
	Epoch     uint64        `json:"epoch"`
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Grace     int64         `json:"grace"`       // seconds from SIGTERM to SIGKILL
	IP        netip.Addr    `json:"ip,omitzero"` // that it may still use: nobody else gets it
}

// Address is a pod address that is held, or was until not long ago.
type Address struct {
	IP       netip.Addr    `json:"ip"`
	Pod      control.PodID `json:"pod,omitempty"`
	Released int64         `json:"released,omitempty"` // ring time, ms; 0 while held
}

// Wake is when an object's rule wants to be asked again.
type Wake struct {
	Key desired.Key `json:"key"`
	At  int64       `json:"at"` // ring time, ms
}

type portKey struct {
	protocol string
	port     int32
}

func (a portKey) compare(b portKey) int {
	return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.port, b.port))
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
