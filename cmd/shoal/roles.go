package main

import (
	"github.com/shoal-dev/shoal/nodeagent/containers"
	"github.com/shoal-dev/shoal/nodeagent/renderer"
	"github.com/shoal-dev/shoal/nodeagent/tunnel"
)

// The first argument of a process that is a part of a node and not a command of people.
const (
	roleContainerd = "containerd-child"
	roleRenderer   = "renderer-child"
	roleTunnel     = "tunnel-child"
	roleLaunch     = "launch"
)

var roles = map[string]func(args []string) int{
	roleContainerd: containers.DaemonMain,
	roleLaunch:     launch,
	roleRenderer:   func([]string) int { return renderer.ChildMain(renderer.CompileDesired) },
	roleTunnel:     tunnel.Main,
}
