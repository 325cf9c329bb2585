// Package daemon is containerd with the few plugins that Shoal needs: content, images, snapshots (overlayfs),
// the application of layers, leases and garbage collection. Tasks are not among them: a pod's containers are kept
// by its shim (package podshim), which the agent drives itself, so nothing that runs depends on this process.
//
// It runs as a child of the agent from the same binary, in a session of its own, and outlives the agent.
package daemon

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/residence"

	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"
	_ "github.com/containerd/containerd/v2/plugins/diff/walking/plugin"
	_ "github.com/containerd/containerd/v2/plugins/events"
	_ "github.com/containerd/containerd/v2/plugins/gc"
	_ "github.com/containerd/containerd/v2/plugins/leases"
	_ "github.com/containerd/containerd/v2/plugins/metadata"
	_ "github.com/containerd/containerd/v2/plugins/mount"
	_ "github.com/containerd/containerd/v2/plugins/server/grpc"
	_ "github.com/containerd/containerd/v2/plugins/services/content"
	_ "github.com/containerd/containerd/v2/plugins/services/diff"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"
	_ "github.com/containerd/containerd/v2/plugins/services/leases"
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"
	_ "github.com/containerd/containerd/v2/plugins/services/version"
	_ "github.com/containerd/containerd/v2/plugins/services/warning"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin"
)

// Main runs the daemon until SIGTERM and returns its exit status. It writes a byte to file descriptor 3 once it
// serves, and keeps what it was given beyond that open as long as it runs. Its arguments:
//
//	-root DIR     images and snapshots; kept
//	-state DIR    what a reboot may take
//	-socket PATH  where it serves gRPC
//	-inflated N   bytes that a layer may unpack to whatever its size; 1 GiB
func Main(args []string) int {
	flags := flag.NewFlagSet("containerd", flag.ContinueOnError)
	root := flags.String("root", "", "`directory` of images and snapshots")
	state := flags.String("state", "", "`directory` of what a reboot may take")
	socket := flags.String("socket", "", "unix `path` to serve on")
	inflated := flags.Int64("inflated", inflatedBytes, "`bytes` that a layer may unpack to whatever its size")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	boundLayers(*inflated)
	if err := run(*root, *state, *socket); err != nil {
		fmt.Fprintln(os.Stderr, "containerd:", err)
		return 1
	}
	return 0
}

func run(root, state, socket string) error {
	if root == "" || state == "" || socket == "" {
		return fmt.Errorf("-root, -state and -socket are required")
	}
	if err := unix.CloseRange(4, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil { // what is held is not for what this runs
		return fmt.Errorf("keep files from children: %w", err)
	}
	debug.SetGCPercent(30)
	debug.SetMemoryLimit(48 << 20) // soft: a pull may pass it, idling gives it back
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	_ = log.SetLevel("warn")

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	config := &srvconfig.Config{
		Version: version.ConfigVersion,
		Root:    root,
		State:   state,
		RequiredPlugins: []string{
			"io.containerd.snapshotter.v1.overlayfs",
			"io.containerd.metadata.v1.bolt",
			"io.containerd.server.v1.grpc",
		},
		Plugins: map[string]any{
			"io.containerd.server.v1.grpc": map[string]any{"address": socket},
		},
	}
	if err := server.CreateTopLevelDirectories(config); err != nil {
		return err
	}
	if err := mount.SetTempMountLocation(filepath.Join(root, "tmpmounts")); err != nil {
		return fmt.Errorf("temporary mounts: %w", err)
	}
	if warnings, err := mount.CleanupTempMounts(0); err != nil || len(warnings) > 0 {
		log.L.Warn("temporary mounts of a former run: ", err, warnings)
	}
	s, err := server.New(ctx, config)
	if err != nil {
		return err
	}
	defer s.Stop()
	if err := s.Start(ctx); err != nil {
		return err
	}
	s.Wait()
	if ready := os.NewFile(3, "ready"); ready != nil {
		_, _ = io.WriteString(ready, "1")
		ready.Close()
	}
	go residence.Keep(ctx)
	<-stop
	return nil
}
