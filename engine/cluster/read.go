package cluster

import (
	"iter"
	"net/netip"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// What others read of the State. Records are shared and must not be changed.

// Ring is what holds for the whole ring; false before Genesis.
func (s *State) Ring() (*Ring, bool) { return s.ring.Get("") }

// Rejected are the newest inputs that were not taken, oldest first.
func (s *State) Rejected() *Table[uint64, *Rejection] { return &s.rejected }

// Faults are the objects whose rule failed.
func (s *State) Faults() *Table[desired.Key, *Fault] { return &s.faults }

// Nodes are the machines.
func (s *State) Nodes() *Table[place.NodeID, *Node] { return &s.nodes }

// Tags are the names of the ring's own store.
func (s *State) Tags() *Table[string, *TagValue] { return &s.tags }

// Tokens are those that nodes may join with, or did.
func (s *State) Tokens() *Table[string, *TokenValue] { return &s.tokens }

// Refs are the refs of the built-in Git server.
func (s *State) Refs() *Table[string, *RefValue] { return &s.refs }

// Environments are the active ones.
func (s *State) Environments() *Table[string, *Environment] { return &s.environments }

// Objects are all objects of the active environments.
func (s *State) Objects() *Table[desired.Key, *Object] { return &s.objects }

// Services are the Services with what was given to them.
func (s *State) Services() *Table[desired.Key, *Service] { return &s.services }

// Deployments are the Deployments and how far they are.
func (s *State) Deployments() *Table[desired.Key, *control.Deployment] { return &s.deployments }

// ReplicaSets are those Git names and the revisions of Deployments.
func (s *State) ReplicaSets() *Table[desired.Key, *control.ReplicaSet] { return &s.replicasets }

// Jobs are the Jobs of Git and the runs of CronJobs.
func (s *State) Jobs() *Table[desired.Key, *control.Job] { return &s.jobs }

// CronJobs are the CronJobs and when they ran.
func (s *State) CronJobs() *Table[desired.Key, *control.CronJob] { return &s.cronjobs }

// Pods are all pods that exist, those that are stopping included.
func (s *State) Pods() *Table[control.PodID, *control.Pod] { return &s.pods }

// Ended are the pods that were given up on nodes that have not taken them down yet.
func (s *State) Ended() *Table[control.PodID, *Ended] { return &s.ended }

// Addresses are the pod addresses that are held, or were until not long ago.
func (s *State) Addresses() *Table[netip.Addr, *Address] { return &s.addresses }

// Wakes says when which rule wants to be run again.
func (s *State) Wakes() *Table[desired.Key, *Wake] { return &s.wakes }

// Pod returns a pod.
func (s *State) Pod(id control.PodID) (*control.Pod, bool) { return s.pods.Get(id) }

// PodsOn are the pods of a node, by id.
func (s *State) PodsOn(node place.NodeID) iter.Seq[*control.Pod] { return s.each(s.podsOn.at(node)) }

// PodsOf are the pods of an owner, by id.
func (s *State) PodsOf(uid string) iter.Seq[*control.Pod] { return s.each(s.podsOf.at(uid)) }

// PodNamed returns the pod of a name; there is one at most.
func (s *State) PodNamed(namespace, name string) (*control.Pod, bool) {
	for p := range s.each(s.podNames.at(namespace + "/" + name)) {
		return p, true
	}
	return nil, false
}

// Revisions are the sets of a Deployment, by key.
func (s *State) Revisions(deployment desired.Key) iter.Seq[*control.ReplicaSet] {
	return func(yield func(*control.ReplicaSet) bool) {
		for k := range s.setsOf.at(deployment) {
			if rs, ok := s.replicasets.Get(k); ok && !yield(rs) {
				return
			}
		}
	}
}

// Runs are the jobs of a CronJob, by key.
func (s *State) Runs(cronJob desired.Key) iter.Seq[*control.Job] {
	return func(yield func(*control.Job) bool) {
		for k := range s.jobsOf.at(cronJob) {
			if j, ok := s.jobs.Get(k); ok && !yield(j) {
				return
			}
		}
	}
}

// ObjectsOf are the objects of an environment, by key.
func (s *State) ObjectsOf(environment string) iter.Seq[*Object] {
	return func(yield func(*Object) bool) {
		for k := range s.objectsOf.at(environment) {
			if o, ok := s.objects.Get(k); ok && !yield(o) {
				return
			}
		}
	}
}

func (s *State) each(ids iter.Seq[control.PodID]) iter.Seq[*control.Pod] {
	return func(yield func(*control.Pod) bool) {
		for id := range ids {
			if p, ok := s.pods.Get(id); ok && !yield(p) {
				return
			}
		}
	}
}

// Used is what the pods of a node ask for together.
func (s *State) Used(node place.NodeID) place.Resources {
	u, _ := s.used.get(node)
	return u
}
