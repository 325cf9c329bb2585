// Package bare is a bare Git repository on disk, for one owner: packs, packed-refs and shallow, and nothing else.
//
// Any git can read the directory. Nothing in it is ever named by what comes from outside: packs are named by
// their checksum and all refs stand in the one file packed-refs, so a crafted name cannot become a path.
//
// # How objects come in
//
// Everything comes in as a pack: a fetch, a push, and what Shoal writes itself. Receive reads it once, in a
// stream, into a file under objects/incoming-*, and checks while it reads; a second pass resolves the deltas
// from that file. Bounds (Limits) are on bytes, objects, the size of one object, the sum of all inflated
// bytes with the results of deltas counted, and the length of delta chains. Memory is bounded by these:
// about 100 bytes an object and six times the largest object, whatever the pack claims about itself.
//
// Then every id that a tree, commit or tag of the pack names must be in the pack or in the repository. The
// repository is closed under "names" before, so it is closed after, and no walk through history is needed.
// (The parents of commits at a shallow boundary are the exception.) Only then are pack and index synced, renamed
// into objects/pack, and seen. What is under objects/incoming-* at start is what a crash left, and removed.
//
// # Reading
//
// A Repo may be read from any number of goroutines while packs come in: the list of packs is a value that is
// swapped whole, packs never change, and each object's id is computed again when it is read, so bytes that
// rotted are an error (ErrCorrupt) and never an answer.
//
// # Refs
//
// UpdateRefs moves any number of refs at once by compare-and-swap: the whole packed-refs file is written beside
// the old one, synced and renamed. Old or new, never between.
package bare
