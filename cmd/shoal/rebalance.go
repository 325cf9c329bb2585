package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

const rebalanceHelp = `Shows which pods would be better on other nodes now, such as after a machine came back empty, and moves them once that is
confirmed: those of one workload one after the other, each as by a drain. It stays until its substitute is available; what may run once only is
stopped first, and pods of jobs and those that are kept for their node stay. A pod is moved off a node that it no longer suits, or that is unsteady;
to one that it prefers; to a zone or a node with fewer pods of its owner; and to one that is clearly freer. Of a workload that rolls out or is not whole
none is moved. A second rebalance after the first has nothing to do.

Waits until it is over; an interruption changes nothing, and "shoal rebalance --stop" ends it: what has moved stays. It is given up when pods do not
come to their places within ten minutes.`

func newRebalance(g *globals) *cobra.Command {
	var yes, stop bool
	cmd := &cobra.Command{
		Use: "rebalance", Short: "Move pods to nodes on which they would be better now", Long: rebalanceHelp, Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client := g.client()
			if stop {
				return client.Rebalance(cmd.Context(), true)
			}
			r, err := client.PlanRebalance(cmd.Context())
			if err != nil {
				return err
			}
			if err := g.print(cmd.OutOrStdout(), r, func(w io.Writer) { printRebalance(w, r) }); err != nil {
				return err
			}
			if !r.Going {
				if len(r.Moves) == 0 || !yes && !confirmed(cmd, count(len(r.Moves), "pod", "pods")) {
					return nil
				}
				if err := client.Rebalance(cmd.Context(), false); err != nil {
					return err
				}
			}
			return awaitBalanced(cmd.Context(), client, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&stop, "stop", false, "end the one that goes on")
	g.outputFlag(cmd)
	return cmd
}

func printRebalance(w io.Writer, r api.Rebalance) {
	switch {
	case r.Going:
		fmt.Fprintf(w, "a rebalance goes on, %s were told to move so far\n", count(r.Moved, "pod", "pods"))
	case len(r.Moves) == 0:
		fmt.Fprintln(w, "nothing is to be moved")
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "POD\tFROM\tTO\tWHY")
	for _, m := range r.Moves {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", m.Pod, m.From, m.To, m.Why)
	}
	table.Flush()
}

// confirmed asks whether to go on, if somebody is there to say so.
func confirmed(cmd *cobra.Command, what string) bool {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !isTerminal(in) || !isTerminal(cmd.OutOrStdout()) {
		fmt.Fprintf(cmd.ErrOrStderr(), "nothing was moved; --yes moves %s\n", what)
		return false
	}
	fmt.Fprintf(cmd.OutOrStdout(), "move %s? [y/N] ", what)
	line, _ := bufio.NewReader(in).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// awaitBalanced waits until it is over, and says how far it is.
func awaitBalanced(ctx context.Context, client *api.Client, w io.Writer) error {
	moved := 0
	for {
		r, err := client.PlanRebalance(ctx)
		if err != nil {
			return err
		}
		switch {
		case !r.Going && len(r.Moves) > 0:
			return fmt.Errorf("the rebalance ended before all had moved; %s would be: shoal rebalance shows them", count(len(r.Moves), "pod", "pods"))
		case !r.Going:
			fmt.Fprintln(w, "balanced")
			return nil
		}
		if r.Moved != moved {
			moved = r.Moved
			fmt.Fprintf(w, "%s told to move\n", count(moved, "pod was", "pods were"))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
