// Package store is what must survive a restart of one node, beside the ledger's log: the content store and the
// node's own few files.
//
// # The data directory
//
// One agent owns one directory (mode 0700). In it lie
//
//	VERSION      the format of the directory, "1"; a newer one is refused, never guessed at
//	lock         held by flock for as long as the agent lives; the holder's pid is written into it for people
//	node.key     the node's ed25519 key (PKCS #8, PEM, mode 0600); who the node is follows from it alone
//	boot         how often the directory was opened, with a random name of the last time
//	content/     the content store
//
// and what other packages keep under names of their own (Dir.Path). A file is replaced whole: written beside,
// synced, renamed, and its directory synced, so that after a crash it is the old one or the new one.
//
// # The content store
//
// Bytes by their sha256, a file each, in 256 directories named by the digest's first two digits. Files are
// written in content/tmp, synced, and only then renamed, so a name in the store means that its bytes were on the
// disk; the directories are synced before Put returns. A few files are synced side by side, for the file system
// joins such syncs into one commit of its journal; many at once by one syncfs. What a crash leaves in tmp is
// removed at the next Open.
//
// Every read that is not answered by the cache is compared with its digest. A file that differs is moved to
// content/quarantine, reported, and from then on missing: callers get a CorruptError once and fs.ErrNotExist
// afterwards, and may Put the bytes again. Nothing is deleted but by Sweep, which takes what to keep as a function
// and leaves young files alone, since a blob is written before the entry that refers to it.
package store
