package cluster

import (
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/place"
)

// The functions of this file keep the indexes: gone is the record a row had, came the one it has now.

func followNode(s *State, gone, came **Node) {
	s.seating = nil
	if gone != nil {
		s.nodesByName.remove((*gone).Name, (*gone).ID)
	}
	if came != nil {
		s.nodesByName.add((*came).Name, (*came).ID)
	}
}

func followEnvironment(s *State, gone, came **Environment) {
	if came != nil {
		s.refer((*came).D)
	}
	if gone != nil {
		s.unrefer((*gone).D)
	}
}

func followObject(s *State, gone, came **Object) {
	if came != nil {
		s.refer((*came).Digest)
		s.objectsOf.add((*came).Environment, (*came).Key)
	}
	if gone != nil {
		s.unrefer((*gone).Digest)
		if came == nil || (*came).Environment != (*gone).Environment {
			s.objectsOf.remove((*gone).Environment, (*gone).Key)
			s.recovered((*gone).Environment, (*gone).Key)
		}
	}
	if came != nil {
		s.examine((*came).Key)
	}
}

func followService(s *State, gone, came **Service) {
	if gone != nil {
		g := *gone
		s.unrefer(g.Object)
		if g.ClusterIP.IsValid() {
			s.clusterIPs.remove(g.ClusterIP, g.Key)
		}
		for _, p := range g.NodePorts {
			s.nodePorts.remove(portKey{p.Protocol, p.NodePort}, g.Key)
		}
	}
	if came != nil {
		c := *came
		s.refer(c.Object)
		if c.ClusterIP.IsValid() {
			s.clusterIPs.add(c.ClusterIP, c.Key)
		}
		for _, p := range c.NodePorts {
			s.nodePorts.add(portKey{p.Protocol, p.NodePort}, c.Key)
		}
	}
}

func followSet(s *State, gone, came **control.ReplicaSet) {
	if gone != nil {
		s.unrefer((*gone).Object)
		s.setsOf.remove((*gone).Owner.Key, (*gone).Key)
	}
	if came != nil {
		s.refer((*came).Object)
		s.setsOf.add((*came).Owner.Key, (*came).Key)
		s.examine((*came).Key)
	}
}

func followJob(s *State, gone, came **control.Job) {
	if came != nil {
		s.refer((*came).Object)
	}
	if gone != nil {
		s.unrefer((*gone).Object)
		s.jobsOf.remove((*gone).Owner.Key, (*gone).Key)
		for _, uid := range (*gone).After {
			s.jobsAfter.remove(uid, (*gone).Key)
		}
	}
	if came != nil {
		s.jobsOf.add((*came).Owner.Key, (*came).Key)
		for _, uid := range (*came).After {
			s.jobsAfter.add(uid, (*came).Key)
		}
		s.examine((*came).Key)
	}
}

func followCronJob(s *State, gone, came **control.CronJob) {
	if came != nil {
		s.refer((*came).Object)
	}
	if gone != nil {
		s.unrefer((*gone).Object)
	}
}

func followDeployment(s *State, gone, came **control.Deployment) {
	if came != nil {
		s.refer((*came).Object)
		s.examine((*came).Key)
	}
	if gone != nil {
		s.unrefer((*gone).Object)
	}
}

func followWake(s *State, gone, came **Wake) {
	if gone != nil {
		s.due.remove((*gone).At, (*gone).Key)
	}
	if came != nil {
		s.due.add((*came).At, (*came).Key)
	}
}

// podPlaces is where a pod is found; a change touches only the indexes it moves in.
type podPlaces struct {
	node    place.NodeID
	owner   string
	loose   string
	name    string
	pending int64
	object  desired.Digest
	uses    place.Resources
}

func placesOf(p **control.Pod) podPlaces {
	if p == nil {
		return podPlaces{}
	}
	pod := *p
	at := podPlaces{node: pod.Node, owner: pod.Owner.UID, name: pod.Namespace + "/" + pod.Name, object: pod.Object}
	if pod.Owner.UID == "" || pod.Owner.Key.Kind == "Pod" {
		at.loose = pod.Namespace
	}
	if pod.Node == "" && pod.Active() {
		at.pending = pod.Created + 1 // 0 is no place
	}
	if pod.Node != "" && pod.Finished == 0 {
		at.uses = pod.Requests
		at.uses.Pods = 1
	}
	return at
}

func followPod(s *State, gone, came **control.Pod) {
	s.reseat(gone, came)
	defer s.examinePod(gone, came)
	g, c := placesOf(gone), placesOf(came)
	if g == c {
		return
	}
	var id control.PodID
	if gone != nil {
		id = (*gone).ID
	} else {
		id = (*came).ID
	}
	move(&s.podsOn, id, g.node, c.node)
	move(&s.podsOf, id, g.owner, c.owner)
	move(&s.loose, id, g.loose, c.loose)
	move(&s.podNames, id, g.name, c.name)
	move(&s.pending, id, g.pending, c.pending)
	if g.object != c.object {
		s.refer(c.object)
		s.unrefer(g.object)
	}
	s.use(g.node, g.uses, -1)
	s.use(c.node, c.uses, 1)
}

// move takes id from one place of an index to another; the zero place is none.
func move[I comparable, K any](x *index[I, K], id K, from, to I) {
	var none I
	if from == to {
		return
	}
	if from != none {
		x.remove(from, id)
	}
	if to != none {
		x.add(to, id)
	}
}

func (s *State) use(node place.NodeID, r place.Resources, sign int64) {
	if node == "" || r == (place.Resources{}) {
		return
	}
	u, _ := s.used.get(node)
	u = u.Plus(r, sign)
	if u == (place.Resources{}) {
		s.used = s.used.del(node)
		return
	}
	s.used = s.used.put(node, u)
}

func (s *State) refer(d desired.Digest) {
	if d == "" {
		return
	}
	n, _ := s.blobs.get(d)
	s.blobs = s.blobs.put(d, n+1)
}

func (s *State) unrefer(d desired.Digest) {
	if d == "" {
		return
	}
	n, _ := s.blobs.get(d)
	if n <= 1 {
		s.blobs = s.blobs.del(d)
		return
	}
	s.blobs = s.blobs.put(d, n-1)
}
