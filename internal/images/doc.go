// Package images builds the container images of the examples and of the tests, without Docker and without
// installing anything on the host.
//
// An image is a Recipe: a static Go program of this module, or files out of Debian packages, or both, and the
// config that starts them. Every image has one layer. The same input gives the same digest: file times are 0,
// entries are sorted, programs are linked without paths and build ids.
//
// Debian's files come from apt with a state of its own that believes nothing is installed, so the host's
// packages and sources do not matter; apt checks the archive's signatures. From the packages only what a recipe
// names is taken, and what that links to: the shared libraries are found by reading the ELF headers, nothing
// foreign is run. What apt chose is kept in a lock file beside the downloaded packages, so a second build needs
// no network and gives the same digest until Refresh.
package images
