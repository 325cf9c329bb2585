// Package gitsync keeps a bare mirror of a Git repository and hands out its commits as source.Tree.
//
// A Mirror is fetched into (Fetch, Run), pushed to by way of nodeagent/githost (Receive, Prepare), and committed to
// (Write). All three end the same way: a pack is read once, within bounds, checked whole, synced, and only then
// seen; refs move last. There is no work tree and no git binary. Package internal/bare holds the repository and says
// how; this package holds what talks to hosts and to the rest of the agent.
//
// # What is go-git's and what is ours
//
// go-git reads other repositories on this machine (local.go) and gives the codecs of the protocol and the SHA-1 that
// detects collisions. Its object store and its client are not used for the mirror itself: the store is not safe for
// concurrent use, reads included, so rendering would wait for fetching; and its client bounds neither what a pack
// inflates to nor how slowly it comes, reads an ssh agent and ~/.ssh of its own accord, and cannot fetch from a
// branch that was forced back behind a shallow boundary.
//
// # Following a host
//
// The mirror's refs say what the host has, also after a forced push, so it is never stuck; each RefChange tells how
// the new tip stands to the old one, and source.Policy says whether an environment goes along. What an environment
// accepted is not the mirror's to know: the caller pins it (Pin), and then no forced push, no collection upstream
// and no merge of packs here takes it away. A branch that is gone on the host stays here (GoneError).
//
//   - The default branch is followed, and those that Follow names: a forge may have thousands of others. Besides, the tags below
//     trust.ApprovalRefs of commits that are here, 4096 at most. They come last and by themselves; a tag that cannot be taken holds
//     nothing else back. One that is gone on the host was withdrawn, and is gone here.
//   - The first fetch takes Options.Depth commits; later ones all that is new, in one round: "want tip, have these,
//     done". If that breaks a bound, or the host cannot answer it, as after a rewrite of what lies behind the
//     shallow boundary, the tip is taken afresh with Depth commits, into the same repository.
//   - A fetch ends by Options.Timeout, by a minimum rate over a window (MinRate), by a minute without a list of refs,
//     and by the bounds on packs. What it had read is gone then; the mirror is as before.
//   - Redirects are followed within scheme, host and port alone. Host keys come from the files that are named, and
//     from nowhere else. Nothing is read from the user's home or environment but the proxy variables.
//   - Where nodes poll for each other, Options.Every says how often this one does, and Seen when it looked; the commits that
//     others have read come by TakeFrom and Adopt.
//   - Run polls with jitter, doubles its wait after failures, keeps a host's Retry-After, gathers wakes for
//     Options.Debounce, and has one fetch in flight. What nobody received yet is joined, not queued.
//
// # Whose the repository is
//
// source.ClaimRef on the host names the ring that runs the repository. Each fetch reads it from the same list of refs as the
// branches and keeps it first, on disk beside the mirror, so a commit is never known without whose it is. What the ref
// stands for is read apart from the mirror, 64 KiB at most, and only when it is another than before; what is no claim is
// kept as one with a flaw. PushClaim makes or moves the ref by compare-and-swap: by git-receive-pack over http and ssh, and
// in a local repository by loose objects and the ref's lock file, as git does it. It is the only thing that is ever written
// to a host. A host's word that it does not let us is a *RefusedError; anything else may be over in a moment.
//
// # Trees
//
// Tree checks a commit's tree once (source.Checker remembers directories by id) and reads lazily. Parsed
// directories are kept, 8 MiB of them. Any number of trees may be read while fetches and pushes go on.
//
// # Packs
//
// Every fetch and push adds a pack. Past Options.MaxPacks the small ones are merged in the background, without being
// unpacked, each object a few times in its life at most. When the repository has doubled, from 64 MiB on, objects
// that no ref leads to are dropped, if they are older than ten minutes.
//
// # Damage
//
// Open checks the repository within bounds (bare.Verify). If it is damaged and there is a URL, it is set aside as
// <dir>.damaged and begun anew with all pinned commits that can be read; the next Fetch fills it. Without a URL it is
// the only copy: then Open fails with ErrCorrupt and touches nothing.
package gitsync
