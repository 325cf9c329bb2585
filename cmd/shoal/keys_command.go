package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func newRotate(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate keys|authority", Short: "Exchange the key of the gossip, or the ring's authority", Args: exactly(1, "keys or authority"),
		Long: `Has all nodes take a new key and forget the old one, step by step, while everything goes on:

  keys        the key that the gossip is encrypted with
  authority   the ring's own authority, which signs the certificates by which nodes know each other

To be done when a machine was taken out that is not trusted any more, or a disk was lost. Tokens that were made before a new authority are
worthless then. All nodes that are up must answer; one that is down takes the keys over when it returns. What was interrupted goes on when it
is said again, at any node; "shoal ring status" shows how far it is.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{rotateKeys, rotateAuthority}, args[0]) {
				return usageError{fmt.Errorf("%q: expected %s or %s", args[0], rotateKeys, rotateAuthority)}
			}
			r, err := g.client().Rotate(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), r, func(w io.Writer) { printRotation(w, r) })
		},
	}
	g.outputFlag(cmd)
	return cmd
}

func printRotation(w io.Writer, r api.Rotation) {
	what := "the gossip's key"
	if r.What == rotateAuthority {
		what = "the ring's authority"
	}
	fmt.Fprintf(w, "%s was %s and is %s on %s\n", what, dash(r.From), r.To, strings.Join(r.Nodes, ", "))
	if len(r.Away) > 0 {
		fmt.Fprintf(w, "away, and to take it over: %s\n", strings.Join(r.Away, ", "))
	}
}

// printKeys says which keys the nodes have, and when they are not the same on all.
func printKeys(w io.Writer, nodes []api.Node) {
	print := func(what, rotate string, of func(api.Keys) string) {
		by := map[string][]string{}
		for _, n := range nodes {
			if n.Now != nil && len(n.Now.Keys.Gossip) > 0 {
				text := of(n.Now.Keys)
				by[text] = append(by[text], n.Name)
			}
		}
		switch texts := sortedKeys(by); {
		case len(texts) == 1 && !strings.Contains(texts[0], ","):
			fmt.Fprintf(w, "%s %s\n", what, texts[0])
		case len(texts) > 0:
			for _, text := range texts {
				fmt.Fprintf(w, "%s %s on %s\n", what, text, strings.Join(by[text], ", "))
			}
			fmt.Fprintf(w, "  an exchange is not over: shoal ring rotate %s goes on with it\n", rotate)
		}
	}
	print("gossip key", rotateKeys, func(k api.Keys) string { return strings.Join(k.Gossip, ",") })
	print("authority", rotateAuthority, func(k api.Keys) string {
		var pins []string
		for _, pin := range k.Authorities {
			pins = append(pins, shortPin(pin))
		}
		return strings.Join(pins, ",")
	})
}
