// Package trust says who may sign commits and approve promotions, and whether a range of commits is trusted.
//
// What it goes by lies in the repository's keys/ directory, at a commit:
//
//	keys/signers      SSH keys in OpenSSH's allowed_signers format: `git -c gpg.ssh.allowedSignersFile=keys/signers
//	                  verify-commit` agrees. One name a line; namespaces=, valid-after= and valid-before= are understood.
//	keys/<name>.asc   armored OpenPGP public keys of <name>
//	keys/trust.yaml   rights; without it nothing must be signed
//	keys/*.md         for people
//
// trust.yaml is small and read strictly:
//
//	require: true                       # commits must be signed; default false
//	groups:                             # of people who approve
//	  release: {environments: [production]}
//	principals:                         # without it, each name in keys/ may sign and approve everything
//	  ada@example.org: {approve: [release]}
//	  bob@example.org: {paths: [apps/web/**]}
//	  ring:                             # a list holds alternatives
//	  - {environments: [dev], paths: [overlays/**]}
//	  - {environments: [staging, production]}
//
// Absent environments or paths mean all, empty ones none. Names of environments may hold *, which stands for any characters;
// in a path it stands for any but a slash, and ** as a whole component for any number of components.
//
// # Ranges
//
// Judge looks at every commit since the last one that was trusted, on all lines that were merged. A commit is judged by the keys of the
// active tree and of its parents, never by those it brings itself: what the active tree does not know counts only once a trusted commit
// of the range has added it, and what a commit of the range has removed counts nowhere but in that commit's own past. So a key that was
// taken away on one line cannot sign on another one that is merged later. Rights are what the active tree and the changes of the range
// before and beside a commit all grant: widened ones count once they are active, narrowed ones at once.
//
// The environments of a principal limit what it may put on the environment's own line: the tip and its first parents. What comes in by
// a merge or a promotion (whose first parent is the environment's commit before) needs a key and the right to its paths.
//
// A signature covers a commit's exact bytes less the signature. A commit or tag that two programs could read in two ways is refused.
//
// An expired key is worth nothing, whatever time its commit claims; Range.Late lets commits count that were made before and that somebody
// with a good key has merged or promoted since.
package trust
