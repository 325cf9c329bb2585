package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func newToken(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Tokens by which machines join the ring", Args: exactly(0, "create")}
	var life time.Duration
	create := &cobra.Command{
		Use: "create", Short: "Make a token, and print the line to run on the machine that joins", Args: exactly(0, "no arguments"),
		Long: `Makes a token and prints the whole line to run on the machine that is to join. Each is good for one machine, until it expires. It
proves the ring to the machine, too: nothing is sent to a stranger.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := g.client().CreateToken(cmd.Context(), life)
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), t, func(w io.Writer) {
				fmt.Fprintf(w, "shoal agent --join %s --token %s\n", t.Address, t.Text)
			})
		},
	}
	create.Flags().DurationVar(&life, "ttl", time.Hour, "how long it may wait to be used; at most 720h")
	g.outputFlag(create)
	cmd.AddCommand(create)
	return cmd
}

func newNodes(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "nodes", Short: "The machines of the ring", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := g.client().Ring(cmd.Context(), false)
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), r, func(w io.Writer) { printNodes(w, r) })
		},
	}
	g.outputFlag(cmd)
	return cmd
}

func printNodes(w io.Writer, r api.Ring) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tROLE\tADDRESS\tPODS\tPOD CIDR\tZONE\tAGE")
	for _, n := range r.Nodes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", n.Name, stateText(n), role(n), n.Address, n.Pods, n.PodCIDR, dash(n.Zone), age(n.Joined))
	}
	table.Flush()
	printTaints(w, r)
	for _, n := range r.Nodes {
		if n.Short != "" {
			fmt.Fprintf(w, "%s gets no more pods, its disk is short: %s\n", n.Name, n.Short)
		}
		if n.ClockAhead != 0 {
			fmt.Fprintf(w, "%s gets no more pods, its clock is %s\n", n.Name, api.Astray(n.ClockAhead))
		}
	}
}

func stateText(n api.Node) string {
	words := []string{n.State}
	switch {
	case n.Draining:
		words = append(words, "draining")
	case n.Cordoned:
		words = append(words, "cordoned")
	}
	if n.Short != "" {
		words = append(words, "DiskPressure")
	}
	if n.ClockAhead != 0 {
		words = append(words, "ClockSkew")
	}
	return strings.Join(words, ",")
}

func role(n api.Node) string {
	switch {
	case n.Leader:
		return "leader"
	case n.Voter:
		return "voter"
	}
	return "-"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newRing(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "ring", Short: "How the ring is, its keys and its repository", Args: exactly(0, "status, rotate, claim or key")}
	status := &cobra.Command{
		Use: "status", Short: "Members, voters, and how far each node is", Args: exactly(0, "no arguments"),
		Long: `Asks every node how far its copy of the ledger is, and what its own render of each environment came to. Nodes that have applied the
same entries have the same state hash; nodes that have rendered the same commit have the same digest.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := g.client().Ring(cmd.Context(), true)
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), r, func(w io.Writer) { printRing(w, r) })
		},
	}
	g.outputFlag(status)
	cmd.AddCommand(status, newRotate(g), newClaim(g), newRingKey(g))
	return cmd
}

func printRing(w io.Writer, r api.Ring) {
	var newest uint64
	for _, n := range r.Nodes {
		if n.Now != nil {
			newest = max(newest, n.Now.Index)
		}
	}
	fmt.Fprintf(w, "ring %s, engine version %d\n", r.Ring, r.Engine)
	if r.Claim != nil {
		printClaim(w, *r.Claim)
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tROLE\tENTRY\tBEHIND\tSTATE HASH\tVERSION")
	for _, n := range r.Nodes {
		if n.Now == nil {
			fmt.Fprintf(table, "%s\t%s\t%s\t-\t-\tdoes not answer\t-\n", n.Name, stateText(n), role(n))
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%.12s\t%s\n", n.Name, stateText(n), role(n), n.Now.Index, newest-n.Now.Index, n.Now.StateHash, n.Now.Version)
	}
	table.Flush()
	printWireguard(w, r.Nodes)
	printForge(w, r.Nodes)
	printKeys(w, r.Nodes)
	for _, n := range r.Nodes {
		if n.Now == nil {
			continue
		}
		for _, name := range sortedKeys(n.Now.Environments) {
			e := n.Now.Environments[name]
			fmt.Fprintf(w, "%s %s: commit %.12s render %.12s %s\n", n.Name, name, e.Commit, dash(e.Digest), e.Problem)
		}
	}
}

// printWireguard names the nodes without it, in a ring that has it elsewhere.
func printWireguard(w io.Writer, nodes []api.Node) {
	var with, without []string
	for _, n := range nodes {
		if n.WireGuard != 0 {
			with = append(with, n.Name)
		} else {
			without = append(without, n.Name)
		}
	}
	switch {
	case len(nodes) < 2 || len(with) == 0:
	case len(without) == 0:
		fmt.Fprintln(w, "wireguard: on all nodes, packets between their pods are encrypted")
	default:
		fmt.Fprintf(w, "wireguard: not on %s; packets between pods there and elsewhere are not encrypted\n", strings.Join(without, ", "))
	}
}

// printForge says how each node stands to the forge, in a ring of several.
func printForge(w io.Writer, nodes []api.Node) {
	if len(nodes) < 2 {
		return
	}
	for _, n := range nodes {
		if n.Now == nil || n.Now.Forge == nil {
			continue
		}
		f, text := n.Now.Forge, "never read"
		if f.Ago >= 0 {
			text = fmt.Sprintf("read %s ago", (time.Duration(f.Ago) * time.Millisecond).Round(100*time.Millisecond))
			if f.By != n.Name {
				text += " by " + f.By
			}
		}
		if f.Polls {
			text += ", polls"
		}
		if f.Problem != "" {
			text += ", cannot read it: " + f.Problem
		}
		fmt.Fprintf(w, "%s forge: %s\n", n.Name, text)
	}
}

func newChange(g *globals, what, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: what + " NODE", Short: short, Long: long, Args: exactly(1, "a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := g.client().Change(cmd.Context(), args[0], what); err != nil {
				return err
			}
			if what == "drain" {
				return awaitDrained(cmd, g, args[0])
			}
			return nil
		},
	}
}

// awaitDrained waits until a node runs nothing any more, and says what it still waits for.
func awaitDrained(cmd *cobra.Command, g *globals, node string) error {
	last := -1
	for {
		r, err := g.client().Ring(cmd.Context(), false)
		if err != nil {
			return err
		}
		for _, n := range r.Nodes {
			if n.Name != node && n.ID != node {
				continue
			}
			if n.Pods == 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s runs no pods\n", n.Name)
				return nil
			}
			if n.Pods != last {
				last = n.Pods
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d pods are to move; `shoal why` says what a pod waits for\n", n.Name, n.Pods)
			}
		}
		select {
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

const drainHelp = `Keeps new pods off a node and moves those that are there: each stays until its substitute on another node is available. What may run once
only (bare Pods, Jobs, strict workloads) is stopped first and started elsewhere once nothing is left of it. Waits until the node runs nothing; an
interruption changes nothing, and "shoal uncordon" takes it back.`

const removeHelp = `Takes a node out of the ring for good: one that was drained, or one that is lost and whose lease is over. Its certificate is refused from
then on, and its agent, if it is there, ends for good. A voter hands its seat over first. A machine comes back with a new token. On the machine
itself "shoal leave" does both.`
