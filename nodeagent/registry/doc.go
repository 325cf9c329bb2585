// Package registry is the built-in OCI registry: what is pushed to localhost:5000/NAME:TAG is in the node's
// containerd store at that moment, under the name shoal.local/NAME:TAG, with no second copy.
//
// The protocol (OCI distribution 1.1) is ociserver's; this package is its backend. Blobs are containerd content,
// tags are containerd images. There are no repositories in the store: a blob that is there can be read, and need
// not be pushed again, under every name. Whoever may use the registry may read all content by its digest.
//
// # What is kept
//
// A tag is a root of containerd's garbage collection. A manifest carries labels that refer to its config, layers
// and children; a manifest with a subject lives as long as that. What was pushed, or asked
// for by a client about to push, and is not referred to yet, is held for an hour at least by a containerd lease
// that expires: a push that takes longer between a blob and its manifest is told which blob is unknown, and
// begins again.
//
// # What is bounded
//
// Uploads under way (64), their idle time (10 minutes), the size of blobs and manifests, and the time between two
// bytes of a request (1 minute). An upload is a session of this process: after a restart clients begin it anew,
// and New deletes what it left.
//
// # Who may
//
// As with the Git server: without a token loopback addresses alone, and only if the Host is one too, so that a web page in
// the user's browser cannot push; with one, whoever gives it as password or bearer.
package registry
