// Package api is how people's commands reach an agent: HTTP with JSON over the agent's own socket.
//
// The socket is 0660 and belongs to root and the group shoal: who may open it may do what the agent can do.
// Streams (exec) take the connection over after "101 Switching Protocols" and then speak frames: one byte of
// channel, four bytes of length (big endian), the bytes.
package api

import (
	"time"

	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/engine/render"
)

// Status is an agent's answer to "how is it going?".
type Status struct {
	Version      string        `json:"version"`
	Engine       int           `json:"engine"`
	Ring         string        `json:"ring"`
	Node         string        `json:"node"`
	NodeID       string        `json:"nodeID"`
	Address      string        `json:"address"`
	Index        uint64        `json:"index"`     // of the last entry applied
	StateHash    string        `json:"stateHash"` // equal on nodes that agree
	Resyncs      uint64        `json:"resyncs"`   // looks at everything since the agent started
	Drifts       uint64        `json:"drifts"`    // how often they found something that others had changed
	Source       Source        `json:"source"`
	Environments []Environment `json:"environments"`
	Pods         []Pod         `json:"pods"`
	Services     []Service     `json:"services"`
	Rollouts     []Rollout     `json:"rollouts,omitempty"`
	Pulls        []Pull        `json:"pulls,omitempty"` // under way
	CronJobs     []CronJob     `json:"cronJobs,omitempty"`
	Warnings     []string      `json:"warnings,omitempty"` // of this host: another firewall's policy, an old runc
}

// Source says where commits come from.
type Source struct {
	URL     string    `json:"url"`
	Fetched time.Time `json:"fetched,omitzero"`  // when it was read last, by this node or by the one that it has its commits from
	By      string    `json:"by,omitempty"`      // that node, in a ring of several
	Pollers []string  `json:"pollers,omitempty"` // the nodes that look at it regularly, in a ring of several
	Stale   string    `json:"stale,omitempty"`   // why this node could not read it, if it could not
	Claim   *Claim    `json:"claim,omitempty"`   // nil: it is the ring's own Git server
}

// Environment is one running copy of the repository.
type Environment struct {
	Name      string          `json:"name"`
	Ref       string          `json:"ref"`
	Namespace string          `json:"namespace"`
	Commit    string          `json:"commit"` // that runs
	Subject   string          `json:"subject,omitempty"`
	Author    string          `json:"author,omitempty"`
	Digest    string          `json:"digest"` // D
	Activated time.Time       `json:"activated,omitzero"`
	Held      []string        `json:"held,omitempty"`      // apps kept at their last good objects
	Candidate string          `json:"candidate,omitempty"` // a commit that was not accepted
	Problems  render.Problems `json:"problems,omitempty"`  // of the candidate
	Warnings  render.Problems `json:"warnings,omitempty"`  // of the newest commit judged: allowed, and probably not meant
	Objects   int             `json:"objects"`
	// Undeclared says what to do about an environment that runs and that shoal.cue declares no longer; "" if it does.
	Undeclared string `json:"undeclared,omitempty"`
}

// Pod is one pod, in kubectl's columns.
type Pod struct {
	Environment string    `json:"environment"`
	Namespace   string    `json:"namespace"`
	Name        string    `json:"name"`
	UID         string    `json:"uid"`
	Owner       string    `json:"owner"`
	Ready       int       `json:"ready"`
	Containers  int       `json:"containers"`
	Status      string    `json:"status"` // "Running", "CrashLoopBackOff", "Terminating"
	Message     string    `json:"message,omitempty"`
	Restarts    int       `json:"restarts"`
	Created     time.Time `json:"created"`
	IP          string    `json:"ip,omitempty"`
	Node        string    `json:"node,omitempty"`
	Reason      string    `json:"reason,omitempty"` // why placed there, or why nowhere
}

// Service is where something is reached.
type Service struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	ClusterIP string   `json:"clusterIP,omitempty"`
	Ports     []string `json:"ports"` // "80:30080/TCP"
	Endpoints int      `json:"endpoints"`
}

// Rollout is how far a Deployment has come.
type Rollout struct {
	Environment string `json:"environment"`
	Namespace   string `json:"namespace"`
	Name        string `json:"name"`
	Ready       int    `json:"ready"` // pods of the newest revision
	Want        int    `json:"want"`
	Revision    int64  `json:"revision,omitempty"`
	State       string `json:"state,omitempty"` // "Progressing", "Complete", "ProgressDeadlineExceeded", "Paused"
}

// Pull is an image that is being fetched.
type Pull struct {
	Image string `json:"image"`
	Done  int64  `json:"done"`  // bytes that are here
	Total int64  `json:"total"` // bytes known of; 0 before the registry has answered
}

// CronJob is a schedule and its last firing.
type CronJob struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Schedule  string    `json:"schedule"`
	Suspended bool      `json:"suspended,omitempty"`
	Active    int       `json:"active"`
	Last      time.Time `json:"last,omitzero"`
	Next      time.Time `json:"next,omitzero"`
}

// Why explains one object, from what runs to the line it came from.
type Why struct {
	Object string   `json:"object"`
	Lines  []string `json:"lines"`
	Events []string `json:"events,omitempty"`
}

// Loss is what happens when nodes are lost.
type Loss struct {
	Nodes    []string `json:"nodes"`
	Voters   int      `json:"voters"`   // of the ring
	Lost     int      `json:"lost"`     // of them
	Majority bool     `json:"majority"` // the ring goes on deciding; without one nothing is started elsewhere
	Moved    int      `json:"moved"`    // pods that start elsewhere
	Waiting  int      `json:"waiting"`  // pods that find no node, or wait for theirs
	Pods     []Change `json:"pods,omitempty"`
	Services []Change `json:"services,omitempty"` // that nobody answers, for a time or until a node is back
}

// Action is one step of a node.
type Action struct {
	Node string `json:"node"`
	plan.Action
}

// Change is one difference.
type Change struct {
	// Op is create, update or delete of an object; create, restart, remove, move, wait or stay of pods; gap or down of a Service.
	Op     string   `json:"op"`
	Name   string   `json:"name"`
	Fields []string `json:"fields,omitempty"`
	Why    string   `json:"why,omitempty"`
}

// LogOptions choose what of a log is sent.
type LogOptions struct {
	Container  string
	Follow     bool
	Previous   bool
	Timestamps bool
	Tail       int // negative: all
	Since      time.Time
}

// Error is how a refusal travels.
type Error struct {
	Message string `json:"error"`
}
