// Command containerd is the containerd that an agent carries, by itself: tests under the race detector, which makes
// containerd slow, run it from here.
package main

import (
	"os"

	"github.com/shoal-dev/shoal/nodeagent/containers"
)

func main() { os.Exit(containers.DaemonMain(os.Args[2:])) }
