// Package schema holds the CUE definitions that a repository of manifests imports as "shoal.dev/schema".
package schema

import "embed"

// Version is the version of the definitions; it changes with them, and #Version in package.cue is the same.
const Version = "v1"

// FS holds the definitions: *.cue at its root. A repository has a copy under cue.mod/pkg/shoal.dev/schema.
//
//go:embed *.cue
var FS embed.FS
