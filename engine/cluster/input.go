package cluster

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

// Entry is one line of the ledger.
type Entry struct {
	Index uint64 `json:"index"`
	Time  int64  `json:"time"` // ring time, ms since 1970: max(previous, the leader's clock)
	Input Input  `json:"input"`
}

// From says who submitted an input, so that a repeated one is applied once. Seq counts from 1 within a boot.
type From struct {
	Node place.NodeID `json:"node"`
	Boot string       `json:"boot"`
	Seq  uint64       `json:"seq"`
}

// Input is one thing that happened: exactly one of the pointers is set.
type Input struct {
	From       From        `json:"from"`
	Genesis    *Genesis    `json:"genesis,omitempty"`
	Repository *Repository `json:"repository,omitempty"`
	NodeUp     *NodeUp     `json:"nodeUp,omitempty"`
	NodeDown   *NodeDown   `json:"nodeDown,omitempty"`
	Lead       *Lead       `json:"lead,omitempty"`
	Token      *Token      `json:"token,omitempty"`
	Join       *Join       `json:"join,omitempty"`
	Leave      *Leave      `json:"leave,omitempty"`
	Restarting *Restarting `json:"restarting,omitempty"`
	Push       *Push       `json:"push,omitempty"`
	Tag        *Tag        `json:"tag,omitempty"`
	Activate   *Activate   `json:"activate,omitempty"`
	Evidence   *Evidence   `json:"evidence,omitempty"`
	Preview    *Preview    `json:"preview,omitempty"`
	Retire     *Retire     `json:"retire,omitempty"`
	Phase      *Phase      `json:"phase,omitempty"`
	Tick       *Tick       `json:"tick,omitempty"`
	Cordon     *Cordon     `json:"cordon,omitempty"`
	Taint      *Taint      `json:"taint,omitempty"`
	Pressure   *Pressure   `json:"pressure,omitempty"`
	Clock      *Clock      `json:"clock,omitempty"`
	Rebalance  *Rebalance  `json:"rebalance,omitempty"`
	SetEngine  *SetEngine  `json:"setEngine,omitempty"`
}

// Genesis is entry 1 of every ledger.
type Genesis struct {
	Ring        string       `json:"ring"`        // identity, 32 hex digits
	PodCIDR     netip.Prefix `json:"podCIDR"`     // 10.42.0.0/16, a /24 a node
	ServiceCIDR netip.Prefix `json:"serviceCIDR"` // 10.43.0.0/16; its tenth address is DNS
	Domain      string       `json:"domain"`      // cluster.local
	Engine      int          `json:"engine"`
}

// Repository says where the manifests come from.
type Repository struct {
	URL    string `json:"url"`    // "" is the built-in Git server
	Branch string `json:"branch"` // the default branch
}

// NodeUp reports a machine that runs an agent; a second one replaces the facts of the first.
type NodeUp struct {
	ID       place.NodeID      `json:"id"`
	Name     string            `json:"name"`
	Key      string            `json:"key"` // public key, base64
	Address  netip.Addr        `json:"address"`
	Arch     string            `json:"arch"`
	Zone     string            `json:"zone,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Capacity place.Resources   `json:"capacity"`
	Taints   []place.Taint     `json:"taints,omitempty"` // that it is to have from the first
	Engine   int               `json:"engine"`           // highest engine version it knows
	Peer     uint16            `json:"peer,omitempty"`   // port on which it answers other nodes
	Gossip   uint16            `json:"gossip,omitempty"` // port on which it gossips
	Tunnel   Tunnel            `json:"tunnel,omitzero"`  // its end of WireGuard, if it has one
}

// NodeDown says that nobody reaches a machine. That is a hint: what must not run twice stays where it is until
// Fenced says that the machine's lease is over, so that all of it has been stopped there.
type NodeDown struct {
	ID     place.NodeID `json:"id"`
	Fenced bool         `json:"fenced,omitempty"`
	Term   uint64       `json:"term,omitempty"` // of the log, in which its leader decided so

	// More were lost at the same time, from engine version 8 on: said one after the other, the pods of the first would be
	// placed on the second, and lost once more with it. One of which something else is known by now is passed over.
	More []place.NodeID `json:"more,omitempty"`
}

// Lead says that a node begins to lead. What leaders of earlier terms decided on nodes is void from here on: it may have
// waited for long to come into the log, and the leases it speaks of have been granted anew since. A leader grants no
// lease before this is applied.
type Lead struct {
	Term uint64 `json:"term"` // of the log
}

// Token lets one node join until it expires. The ledger knows its secret's hash alone.
type Token struct {
	ID      string `json:"id"`      // 1 to 32 letters and digits
	Hash    string `json:"hash"`    // sha256 of the secret, 64 hex digits
	Expires int64  `json:"expires"` // ring time, ms; at most maxTokenLife from now
}

// Join makes a machine a node of the ring, by a token that nobody has used. The same node may repeat it.
type Join struct {
	Token   string       `json:"token"` // its ID
	Node    place.NodeID `json:"node"`
	Name    string       `json:"name"`
	Key     string       `json:"key"` // public key, base64
	Address netip.Addr   `json:"address"`
	Peer    uint16       `json:"peer"`
	Gossip  uint16       `json:"gossip"`
}

// Leave takes a node out of the ring for good. It must run nothing any more, or be down with its lease over.
type Leave struct {
	ID place.NodeID `json:"id"`
}

// Restarting announces that the submitter's agent is away until a time: that is no reason to replace anything.
type Restarting struct {
	Until int64 `json:"until"` // ring time, ms; at most maxAway from now
}

// Push moves refs of the built-in Git server: all of them or, if one is elsewhere than it says, none.
type Push struct {
	Refs []Ref `json:"refs"` // 1 to maxRefs, each name once
}

// Ref moves one ref, by compare-and-swap on Old ("" creates, New "" deletes).
type Ref struct {
	Name string    `json:"name"`
	Old  source.ID `json:"old"`
	New  source.ID `json:"new"`
}

// Tag has a name of the ring's own store stand for an image.
type Tag struct {
	Name   string `json:"name"`   // "shoal.local/web:v1"
	Digest string `json:"digest"` // "sha256:..." of its manifest; "" takes the name away
}

// Activate makes a render the desired state of its environment. Previous is the digest it replaces; an
// Activate whose Previous is not the active one is refused.
type Activate struct {
	Environment string         `json:"environment"`
	Namespace   string         `json:"namespace"` // of the environment
	Ref         string         `json:"ref"`
	Commit      source.ID      `json:"commit"`
	Previous    desired.Digest `json:"previous"`
	D           desired.Digest `json:"d"`
	// Images maps each image reference that names a tag to the manifest digest it had at activation
	// ("sha256:..."). A reference absent from it is resolved by the node, with back-off.
	Images map[string]string `json:"images,omitempty"`
	Held   []string          `json:"held,omitempty"` // apps kept at their last good objects

	// From engine version 9 on.
	Tree   source.ID            `json:"tree,omitempty"`   // of the commit
	Policy *promote.Environment `json:"policy,omitempty"` // what the commit's own tree says of the environment: it rules what comes after; nil: nothing
	Claim  *Claim               `json:"claim,omitempty"`  // required where gates rule
	Verify []string             `json:"verify,omitempty"` // Jobs that the commit's own tree wants to have succeeded here before it is promoted further

	// Ungated passes all gates. It is no part of the ledger: a dry run asks what would be.
	Ungated bool `json:"-"`
}

// Claim is what a commit says that it is, and what its environment's gates are to know. What ran where, and what was found on it, the
// ledger knows itself: those facts are ignored here.
type Claim struct {
	Declared promote.Environment `json:"declared"` // what the default branch says of the environment: it rules where nothing that is active does
	Ask      promote.Ask         `json:"ask"`
	Facts    promote.Facts       `json:"facts"`
}

// Evidence is what a check or a verifying Job found on what an environment runs.
type Evidence struct {
	Environment string         `json:"environment"`
	Gate        string         `json:"gate"`   // "checks:latency", "verify:smoke"
	Render      desired.Digest `json:"render"` // promote.Exact
	OK          bool           `json:"ok,omitempty"`
	Expires     int64          `json:"expires,omitempty"` // ring time, ms; 0: never
	Text        string         `json:"text,omitempty"`
}

// Retire takes an environment away; its pods stop gracefully.
type Retire struct {
	Environment string `json:"environment"`
	Why         string `json:"why"`
}

// Phase is a node's report on one pod: what changed in its status, or that nothing is left of it.
type Phase struct {
	Pod     control.PodID    `json:"pod"`
	Epoch   uint64           `json:"epoch"`
	Status  corev1.PodStatus `json:"status"`
	Removed bool             `json:"removed,omitempty"` // processes, network and volumes are gone
}

// Tick carries ring time to rules that wait for it. It is appended only when State.Wake is due.
type Tick struct{}

// Taint gives a node a taint, in place of one with the same key and effect, or takes away those of a key.
type Taint struct {
	ID    place.NodeID `json:"id"`
	Taint place.Taint  `json:"taint"`
	Off   bool         `json:"off,omitempty"` // take away: of that key, and of that effect if it names one
}

// Pressure is what its submitter is short of, said whenever that changes.
type Pressure struct {
	Disk string `json:"disk,omitempty"` // in words, at most maxText bytes; "": its disk has room
}

// Clock is what the leader finds of a node's clock, said when it is off that of most voters, and when it is right again.
type Clock struct {
	ID    place.NodeID `json:"id"`
	Ahead int64        `json:"ahead,omitempty"` // ms by which it is ahead, negative if it is behind; 0: it is right
	Term  uint64       `json:"term,omitempty"`  // in which that leader leads
}

// Cordon keeps new pods off a node, or lets them back on. With Drain those that are there move to other nodes.
type Cordon struct {
	ID    place.NodeID `json:"id"`
	Off   bool         `json:"off,omitempty"`
	Drain bool         `json:"drain,omitempty"`
}

// Rebalance moves pods to nodes on which they would clearly be better now, or ends that.
type Rebalance struct {
	Off bool `json:"off,omitempty"`
}

// SetEngine raises the engine version once every member knows it.
type SetEngine struct {
	Version int `json:"version"`
}
