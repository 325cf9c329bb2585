// Package engine is the pure half of Shoal: what should run, where, and what a node does next.
//
// Its packages read in one direction, each taking the values of those before it:
//
//	source   a commit as a value: names, Git object ids, contents; never a checkout
//	render   CUE and YAML of one environment      -> render.App, or render.Problems (file:line)
//	kube     Kubernetes' own defaulting and validation, behind one package
//	desired  defaults, checks, cross-references   -> *desired.Set (immutable, digest D)
//	place    which node, with its reason
//	control  the rules of each kind: which pods there should be
//	cluster  State, Input, Step(State, Input)     -> what the ledger says, who runs what, where
//	plan     what a node must run, and what it runs -> []plan.Action
//	wire     services, names, routes              -> wire.Tables
//
// Nothing below engine/ reads a clock, a file, the network, the environment or a random number, starts a
// goroutine, or lets map order or a float into a decision. `now` comes in; when to wake comes out.
package engine
