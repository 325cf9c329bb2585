package main

import (
	"github.com/shoal-dev/shoal/nodeagent/containers"
	"github.com/shoal-dev/shoal/nodeagent/renderer"
)

// The first argument of a process that is a part of a node and not a command of people.
const (
	roleContainerd = "containerd-child"
	roleRenderer   = "renderer-child"
)

var roles = map[string]func(args []string) int{
	roleContainerd: containers.DaemonMain,
	roleRenderer:   func([]string) int { return renderer.ChildMain(renderer.CompileDesired) },
}
