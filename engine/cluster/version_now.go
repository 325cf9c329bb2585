//go:build !shoal_next

package cluster

const ahead = 0
