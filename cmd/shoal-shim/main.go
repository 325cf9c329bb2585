// Command shoal-shim keeps the containers of one pod: see package podshim. The agent starts it; it is of no use
// by hand. It is a binary of its own because it is started for every pod, and what a process of the whole of
// Shoal costs before main would be paid each time.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/shoal-dev/shoal/nodeagent/containers/podshim"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "shoal-shim:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "pause" {
		pause()
	}
	flags := flag.NewFlagSet("shoal-shim", flag.ContinueOnError)
	socket := flags.String("socket", "", "unix `path` to serve on")
	wake := flags.String("wake", "", "unix datagram `path` of the agent")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *socket == "" || flags.NArg() > 0 {
		return fmt.Errorf("usage: shoal-shim -socket PATH [-wake PATH]")
	}
	return podshim.Serve(ctx, podshim.Options{
		Socket: *socket,
		Wake:   *wake,
		Ready:  os.NewFile(3, "ready"),
		Log:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
}
