// Package githost is the built-in Git server: smart HTTP at /repo.git, for any git client, without a git binary.
//
// # What it speaks
//
// Protocol version 0 of Git's smart HTTP (a client that offers version 2 falls back by itself): info/refs,
// git-upload-pack with shallow clones and multi_ack_detailed negotiation, and git-receive-pack with report-status,
// side-band-64k, delete-refs and atomic. A push is always atomic: all its refs move or none. It asks clients for
// packs that stand alone ("no-thin"), so the store needs no other pack to read one.
//
// # The way of a push
//
//	commands read            names, old values and the policy on deletes are looked at before the pack
//	pack read and checked    by Repo.Receive, in quarantine, within its limits
//	objects on disk          synced
//	Options.Accept           the last word; after it the refs move by compare-and-swap, synced
//	report-status sent       from here on the push survives any crash
//	Options.Pushed           streams progress to the client's terminal until it returns
//
// The client prints what Pushed writes as "remote: ..." lines. It may go away meanwhile; the push stands.
// Pushes wait for each other from Accept on, in Repo; at most Limits.Pushes are read at once, and others queue.
//
// # Who may
//
// With a token, every request must carry it, as password of basic auth (any user name) or as bearer. Without one,
// only loopback addresses are served, and only requests whose Host is loopback too, so that a web page in the
// user's browser cannot reach the server by a name it controls. Cross-site requests of browsers are refused.
package githost
