// Package place chooses the node of each pod: filters, then scores, each giving its reason.
//
// A Kind is what pods of one template want of their node, read once from their spec: node selector and affinity, taints
// that they tolerate, pod affinity and anti-affinity, topology spread, host ports, requests. A Board is the nodes with the
// pods that are on them, each a Seat. Place says where one more pod of a Kind goes, or why nowhere; Add puts it there:
//
//	b := NewBoard(nodes)
//	for each pod that has a node: b.Add(Seat{Node, Kind, Owner, Leaving})
//	v := b.Place(kind, owner)            v.Node, v.Reason
//	b.Add(Seat{v.Node, kind, owner, false})
//
// A Board holds nothing that does not follow from the nodes and the seats: counts and sets, which do not care in what
// order they came about. So it may be kept and changed as pods come and go, or thrown away and made anew, on any node of
// the ring, and chooses alike. What it remembers of its last answers makes it faster, not different.
//
// # How a node is found
//
// Nodes have numbers, by zone and id; a set of nodes is a bitmap. There is one for each of 64 levels of how much of a
// node's scarcest resource is free, one for what suits each sort of demand on nodes (few sorts, as most pods demand
// nothing), and one for each label that divides nodes into domains. An owner's pods are counted by zone, and by node in
// layers: the nodes with more than none, more than one, and so on. To place a pod is to cut these sets with each other,
// the emptiest zones and layers first, then level by level, and to take the first node with room. Nodes are compared one
// by one only for pods whose preferences hang on where other pods are.
//
// Pods that affinity, anti-affinity or spread constraints select are counted by domain, from the first time that a Kind
// asks; a Kind meets only those selections that ask for a label it has.
//
// # Where it differs from Kubernetes
//
// Scores are not added up but compared one after another (see Place), so that a reason can be given. Anti-affinity holds
// both ways when it is required, and only for the pod to be placed when it is preferred. Pods on nodes that a spread
// constraint leaves out are still counted for the domains those nodes are in. Nodes that are down make no domain: a zone
// that is gone holds no pod back. Nodes that are unsteady are the last resort, and make one for pods that have
// come to it. Namespaces are selected by name, or all of them.
package place
