// Command probe is what tests run in containers: a web server whose readiness can be switched, and small
// commands that exit, print, allocate, burn, look up, fetch and ignore signals. `probe help` lists them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// command is one thing probe can do; it gets the arguments after its name.
type command struct {
	usage string
	run   func(ctx context.Context, args []string) error
}

var commands map[string]command

func init() {
	commands = map[string]command{
		"serve": {"serve [-addr :8080] [-ready] [-ready-after D] [-linger D]: a web server; see /", serve},
		"exit":  {"exit [-after D] CODE", exit},
		"sleep": {"sleep DURATION|forever: ends at once on SIGTERM, with 0", sleep},
		"lines": {"lines [-rate N] [-count N] [-size N] [-stderr]: numbered lines, N a second; 0 is no limit", lines},
		"trap":  {"trap [-linger D] [-code N] [-ignore]: waits for SIGTERM, prints it, lingers, exits", trap},
		"alloc": {"alloc [-step MIB] [-child] MIB: touches that much memory, then waits", alloc},
		"burn":  {"burn [-threads N] DURATION: uses the processor", burn},
		"dns":   {"dns NAME: prints its addresses", lookup},
		"get":   {"get [-count N] [-every D] [-timeout D] URL: prints the answers, 1 unless all are 2xx", get},
		"env":   {"env: prints the environment, sorted", environment},
		"cat":   {"cat FILE...", cat},
		"ls":    {"ls DIR...: mode, owner, size, name and link of what is in there", list},
		"write": {"write FILE TEXT", write},
		"help":  {"help", help},
	}
}

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"help"}
	}
	c, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "probe: no command %q; try help\n", args[0])
		os.Exit(2)
	}
	ctx, stop := context.Background(), func() {}
	if args[0] != "trap" {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	}
	err := c.run(ctx, args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func help(context.Context, []string) error {
	var lines []string
	for _, c := range commands {
		lines = append(lines, c.usage)
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
	return nil
}
