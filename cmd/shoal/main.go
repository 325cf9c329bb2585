// Command shoal runs containers on your own machines straight from Git. See `shoal help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// version is set when the binary is built: -ldflags "-X main.version=...".
var version = "unknown"

func main() {
	if role, ok := roles[arg(1)]; ok {
		os.Exit(role(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func arg(i int) string {
	if i < len(os.Args) {
		return os.Args[i]
	}
	return ""
}

// Exit statuses, as `shoal help exit` lists them.
const (
	exitDone        = 0
	exitFailed      = 1 // refused or failed
	exitUsage       = 2
	exitUnreachable = 3 // no agent answers
	exitLeft        = 4 // this node left its ring
)

// exitCode is an error that only sets the exit status: of a command that ran in a container, say.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a command line that is off.
type usageError struct{ error }

// run carries out one command line and returns its exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	fmt.Fprintf(stderr, "shoal: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(stderr, "see: %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	if _, ok := errors.AsType[leftError](err); ok {
		return exitLeft
	}
	if errors.Is(err, api.ErrUnreachable) {
		fmt.Fprintln(stderr, "is it running? start one with: shoal agent, or shoal dev DIR")
		return exitUnreachable
	}
	return exitFailed
}
