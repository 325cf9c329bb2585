// Package forge speaks with the forge that hosts a repository: GitHub (and GitHub Enterprise), GitLab, Gitea and
// Forgejo. It lists open pull requests for previews, tells whether a maintainer approved a fork's commit, and shows
// on the pull request what came of it: a commit status, one comment, the environment and its URL.
//
//	Locate  a Git remote       -> Place (host, path, and for well-known hosts the kind and the API's address)
//	Probe   a host of its own  -> Place with kind and address, found by unauthenticated questions
//	New     Options            -> Client: Pulls, Approved, SetStatus, Comment, Deploy, Retire
//
// # What is believed
//
// An answer is taken whole or not at all. HTML, nothing, null, wrong types, numbers out of range, commits that are no
// hex ids and numbers that come twice are errors that name the entry and what was expected. Lists are read page by
// page by number: addresses in an answer are never followed. Bodies, pages, redirects and time are bounded.
//
// Nothing is closed because of an error, nor because it is missing from a list, since a pull request that closes
// while pages are read moves others over their edge. Pulls is told what its caller holds as open, asks for each of
// them that is missing by its number, and reports as Closed those alone of which the forge says so.
//
// # When to ask again
//
// Retry-After, X-RateLimit-Reset, RateLimit-Reset and GitHub's secondary limits become a *Later with the time before
// which the forge is to be left alone; until then every call of this Client returns it without a request. Resets are
// counted from the forge's own Date, so that a wrong clock here does no harm, and are bounded by Limits.Wait. Lists
// of pull requests are asked for with the ETag of the last answer, which costs nothing of GitHub's limit.
//
// # What each forge can tell of an approval
//
// An approval is a label that somebody with write access put on after the very head was pushed. The label must still
// be there, the head must still be that, and what came after the last removal of the label counts alone.
//
//   - GitHub tells who set a label and when (timeline), and what he may do (collaborator permission; "maintain" counts
//     as write, "triage" does not). It does not tell when a commit was pushed: dates in commits are their author's to
//     choose. So the caller's seenAt decides, the time by the forge's clock at which the head was seen in a list
//     (List.At). A label set before that does not count, though it may have been set after the push. Force pushes,
//     deletions and restorations of the branch are in the timeline; one at or after seenAt makes the head's time
//     unknown until it has been seen again.
//   - GitLab tells who set a label and when (resource label events), what he may do (members, inherited ones too;
//     Developer and above count; administrators who are no members do not), and when each head came
//     (versions of the merge request). seenAt is not needed.
//   - Gitea and Forgejo tell who set a label and when, and each push with its commits (timeline). The head a pull
//     request was opened with is in no event; for that, seenAt is needed as on GitHub. Permission is told only to a
//     token of an administrator of the repository: with a lesser one, nothing is ever approved.
//
// What cannot be known is refused, with the reason. Labels set by bots do not count, as far as the forge tells
// them from people, since labelling by path or title is something a stranger can steer. Three limits remain: a forge does not say which head
// the maintainer's page showed when he set the label, so one that is pushed in that second may be taken for it;
// GitLab and Gitea tell a label by what it is called now, so whoever may rename labels may approve; and permission is
// that of now, not of then.
//
// # What is written
//
// Statuses, comments and deployments may be set as often as one likes: what is as wanted is not sent again. A Client
// remembers a bounded number of them and looks at the forge for those it does not remember; after an answer that was
// lost it looks before it writes again. One call writes at a time. Several processes that write at once are their
// owner's to prevent: the leader alone should.
//
// # The token
//
// It is sent to the API's own scheme, host and port only: a redirect elsewhere is an error. Over plain http it goes to
// loopback addresses, and elsewhere only if the remote was given with http. No error contains it, even if the forge
// sends it back.
package forge
