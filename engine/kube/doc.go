// Package kube is Kubernetes' own reading of a manifest: its defaults, its validation and its words for what is
// wrong, so that a manifest means here exactly what it means there. It is the only package that imports
// k8s.io/kubernetes.
//
// An object goes through four steps, each a function of its argument alone:
//
//	Decode     strict: an unknown or repeated field is an error with its path
//	Default    what an API server fills in on create
//	Validate   what an API server checks on create
//	Canonical  bytes that are the same on every machine: sorted keys, no status, nothing a server adds
//
// Read decodes canonical bytes again; it fills in and checks nothing.
//
// Two things of Kubernetes' validation depend on the host or on mutable state, and are kept out. A CronJob's time
// zone is looked up in the tzdata embedded in package zone, never in the host's (see zones.go). Feature gates are
// read at their defaults: nothing in this repository sets one.
package kube
