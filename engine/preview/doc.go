// Package preview says which pull requests get an environment of their own, and merges each with its base.
//
// Wanted is a function of the open pull requests, of the previews that are there, and of the time. It keeps no list of
// what to clean up: what is there and is not wanted must go, whatever event was lost. A listing that is not complete, since
// a forge did not answer or answered half, closes nothing.
//
// The rules are read from the base of the pull requests, never from what they propose. A fork's commit gets an environment
// only while an approval of that very commit stands, and then a sandboxed one; a push drops the approval.
//
// Merge3 makes the tree that a pull request would become, where the forge offers no merge ref.
//
// All times are ms since 1970. Results are sorted and depend on the arguments alone.
package preview
