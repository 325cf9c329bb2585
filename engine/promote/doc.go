// Package promote is the rules of environments and promotions: who may move which ref, when, and why not yet.
//
// # What is asked
//
// An environment that names others in `after` is promoted into and not pushed to. What may come in is a commit whose
// message says what it is (Read), in trailers of its last paragraph:
//
//	Shoal-Promoted-From: staging <commit> [<render>]   its tree is that commit's tree; both tips are its parents
//	Shoal-Rolled-Back-To: <commit>                     its tree is that of a commit that ran here before
//	Shoal-Hotfix: soak,window payments are down        a change of its own, with gates waived by name
//	Shoal-Pin-Until: 2026-12-01T00:00:00Z              nothing is promoted until then; "lifted" ends it
//	Shoal-By, Shoal-Reason                             who asked, and why
//	Shoal-Evidence: soak staging: 26h on 3f6c          what the gates said when it was made
//	Shoal-Request: <32 hex>                            names the act, so that a second try finds the first one's commit
//
// A message is a claim. Judge believes none of it: trees and parents are compared with Git's, and runs, evidence and
// approvals are facts of the ledger.
//
// # What is answered
//
// Judge gives every gate its state. A gate is open, waits (until a time, or for somebody), refuses what will not come in
// as it is, or was waived by a hotfix. A ref that moved is activated once all are open, and held until then.
//
//	claim       the commit is what it says
//	pin         nobody has pinned the environment; the ring does not repeat what was rolled back
//	debt        what was fixed here in haste is in what comes in
//	soak        each environment in `after` has run this very render, healthy, for long enough
//	health      ... and is healthy
//	verify:JOB  ... and the Job has succeeded there
//	checks:NAME ... and the check holds
//	approvals   so many of these groups have signed for this commit, none of whom wrote or promotes it
//	window, freeze   by the clock on the wall, in the zone that is named
//	same        nothing differs from another environment but what is listed
//
// A rollback and a pin need only be what they claim. A hotfix has run nowhere, so gates that ask where it ran must be
// waived by name; it leaves a debt (Owed) until its commits are in what is promoted next.
//
// Gates come from the tree that is active in the environment (Govern), never from the one that asks to come in.
//
// All times are ms since 1970. The same arguments give the same verdict on every node; Verdict.Next says when another one
// may come by time alone.
package promote
