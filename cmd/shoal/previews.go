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

const previewsHelp = `Shows the previews of pull requests, or of branches: what each runs, whether it is ready, where it answers, until when it stays; and the pull
requests that have none, and why. shoal.cue on the default branch says which get one (previews: {...}); docs/previews.md has the rest.

  shoal previews
  shoal previews wake pr-12       its pods start again, where shoal.cue has them stop (idle)
  shoal previews receipt pr-12    what is left of one, in the ledger and on all nodes; exit status 1 if that is anything, or unknown`

func newPreviews(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "previews", Short: "The environments of pull requests", Long: previewsHelp, Args: exactly(0, "wake, receipt or nothing"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := g.client().Previews(cmd.Context())
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), p, func(w io.Writer) { printPreviews(w, p) })
		},
	}
	g.outputFlag(cmd)
	wake := &cobra.Command{
		Use: "wake NAME", Short: "Start the pods of a preview that sleeps", Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return g.client().WakePreview(cmd.Context(), args[0]) },
	}
	receipt := &cobra.Command{
		Use: "receipt NAME", Short: "What is left of a preview that is gone", Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := g.client().Receipt(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := g.print(cmd.OutOrStdout(), r, func(w io.Writer) { fmt.Fprintln(w, r) }); err != nil {
				return err
			}
			if !r.Clean {
				return exitCode(1)
			}
			return nil
		},
	}
	g.outputFlag(receipt)
	cmd.AddCommand(wake, receipt)
	return cmd
}

func printPreviews(w io.Writer, all api.Previews) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PREVIEW\tBRANCH\tAUTHOR\tHEAD\tSTATE\tPORTS\tEXPIRES")
	for _, p := range all.Previews {
		expires := "-"
		if p.Expires != 0 && !p.Pinned {
			expires = time.UnixMilli(p.Expires).UTC().Format("2006-01-02 15:04")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.12s\t%s\t%s\t%s\n", p.Name, p.Branch, p.Author, p.Head, previewState(p), dash(strings.Join(p.Ports, ",")), expires)
	}
	table.Flush()
	for _, p := range all.Previews {
		if len(p.Names) > 0 {
			fmt.Fprintf(w, "%s: as long as it runs %.12s: %s\n", p.Name, p.Active, strings.Join(p.Names, ", "))
		}
		if p.Note != "" {
			fmt.Fprintf(w, "%s: %s\n", p.Name, p.Note)
		}
		for _, problem := range p.Problems {
			fmt.Fprintf(w, "%s: %s\n", p.Name, problem)
		}
	}
	for _, x := range all.Waiting {
		fmt.Fprintf(w, "%s (%s) has no preview: %s\n", x.Name, x.Branch, x.Why)
	}
}

func previewState(p api.PreviewOf) string {
	switch {
	case p.Asleep:
		return "asleep"
	case p.Ready:
		return "ready"
	case p.Active == "":
		return "rendering"
	case p.Ill != "":
		return "starting: " + p.Ill
	}
	return "updating"
}
