// Package desired is one environment at one commit, whole and consistent: defaults filled in, checked,
// cross-referenced, in canonical bytes with one digest.
//
// It works in two stages, so that a commit costs what it changes:
//
//	Compile   an app's objects as authored   -> App (facts, small), Blobs (canonical bytes)    per app, cached
//	Build     all Apps, and the active Set   -> Built (Set, what is held and why)              per commit
//
// Compile runs in the render child. It decodes strictly, puts each object into its namespace (policy.go), refuses what
// does not work yet by name (supported.go), admits or refuses by rule id (policy.go), and lets package kube default
// and validate in Kubernetes' own words. Build looks only at the facts: references to ConfigMaps and Secrets, names,
// node ports. Every independent problem is told at once, each at its author's file and line.
//
// # What is held back
//
// An app with a problem stays as it runs. With it stay: a changed app that refers to something of it, for it may count
// on the new form; an app whose change would take away what a held one needs; and, while an app that is new has a
// problem, the apps that vanish, for it may be one of them under a new name. An app that waits for another is held
// without being blamed. What Build returns is always consistent in itself: every reference is satisfied. In an atomic
// environment one problem holds everything. Nothing is deleted because it could not be read; deletions that were
// meant pass Guard.
//
// # Digests
//
// An object's digest is that of its canonical bytes, defaulted. The manifest lists the digests, sorted by key (Encode);
// D is the digest of the manifest. Names and places of files are in neither, so a moved file changes nothing. An app's
// name is in the manifest, so a renamed app changes D and no object.
//
// Template is the digest of a pod template as it was authored, before defaulting. Pods are replaced when it changes,
// and not when a newer library has other defaults.
//
// # Secrets
//
// Secrets of secrets/<environment>/ stay sealed here as they are in Git (package sealed): canonical bytes hold ciphertexts, in the place of
// values, and all that a node needs to open them beside its key. Canonical bytes of Secrets that an author wrote into an app are plain text.
// Facts hold keys and no values; Diff and Redact show none. A Secret that changes replaces no pod, as a ConfigMap does not: volumes show it,
// variables have it at the next start.
package desired
