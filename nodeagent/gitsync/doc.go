// Package gitsync keeps a bare mirror of a Git repository and hands out commits as source.Tree.
package gitsync
