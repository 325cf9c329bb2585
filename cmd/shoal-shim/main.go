// Command shoal-shim keeps the containers of one pod: see package podshim. The agent starts it; it is of no use
// by hand. It is a binary of its own because it is started for every pod, and what a process of the whole of
// Shoal costs before main would be paid each time. With "guard" it is the node's guard: see package guard.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/shoal-dev/shoal/nodeagent/containers/guard"
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
	if len(args) > 0 && args[0] == "guard" {
		return runGuard(args[1:])
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

func runGuard(args []string) error {
	o := guard.Options{Ready: os.NewFile(3, "ready")}
	flags := flag.NewFlagSet("shoal-shim guard", flag.ContinueOnError)
	flags.StringVar(&o.Deadline, "deadline", "", "`file` of the deadline")
	flags.StringVar(&o.Fenced, "fenced", "", "`directory` of fenced pods")
	flags.StringVar(&o.Lock, "lock", "", "`file` to hold locked")
	flags.StringVar(&o.Mount, "mount", "/sys/fs/cgroup", "where the cgroup file systems are")
	flags.StringVar(&o.Cgroup, "cgroup", "", "its own, from each controller's root")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.Deadline == "" || o.Fenced == "" || o.Lock == "" || o.Cgroup == "" || flags.NArg() > 0 {
		return fmt.Errorf("usage: shoal-shim guard -deadline FILE -fenced DIR -lock FILE -cgroup PATH")
	}
	return guard.Run(o)
}
