// Package identities has the keys that open an environment's secrets, on the nodes that need them.
//
// An environment has one identity (package sealed); what is in Git is sealed for it. A node gets it
//
//	from Git     identity.age, which comes along with each sealed Secret, if it is sealed to this node's key;
//	from disk    where it lies sealed to this node's key, whoever it came from;
//	from a node  that has it, over mTLS, which gives it to nodes alone that a pod of the environment is placed on.
//
// So a node starts its pods again after a reboot, with the forge and all other nodes away, and a disk without its node.key opens nothing.
// An identity is known by its recipient: after a rotation the one before is kept for those pods that still have the old values, and for
// rollbacks.
//
// Plaintext is made by Open, for one action at a time, and not kept.
package identities
