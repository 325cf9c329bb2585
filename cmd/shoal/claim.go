package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

const claimHelp = `The repository that a ring follows names its ring: refs/shoal/ring stands for a commit with the ring's identity. A ring that finds another's
name there, born of a lost disk say, renders and plans, and activates nothing: the other still runs it all. The leader claims a repository that nobody has.

Without flags this asks the repository's host whose it is, and claims it if nobody has. --yes takes it over from another ring, by compare-and-swap on what was
read: this ring activates its newest commits then, and the other, when it fetches next, nothing new. What the other runs goes on there: end it first (shoal
reset --yes on its machines), or everything runs twice.

--print prints the commands by which somebody claims it who may write to the repository where this node may not.`

func newClaim(g *globals) *cobra.Command {
	var yes, commands bool
	cmd := &cobra.Command{
		Use: "claim", Short: "Have this ring run its repository, and no other", Long: claimHelp, Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client().Claim(cmd.Context())
			if err != nil {
				return err
			}
			switch {
			case commands:
				printClaimCommands(cmd.OutOrStdout(), c)
				return nil
			case !c.Own && !yes && c.Held != "":
				return usageError{fmt.Errorf("%s --yes\nwhat runs elsewhere goes on there: end it first, or everything runs twice", c.Held)}
			case !c.Own:
				if c, err = g.client().TakeClaim(cmd.Context(), c.Shown()); err != nil {
					return err
				}
			}
			return g.print(cmd.OutOrStdout(), c, func(w io.Writer) { printClaim(w, c) })
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "take it over from another ring")
	cmd.Flags().BoolVar(&commands, "print", false, "print the git commands instead")
	g.outputFlag(cmd)
	return cmd
}

// printClaim says whose the repository is, in a line.
func printClaim(w io.Writer, c api.Claim) {
	p := painter(w)
	switch {
	case c.Held != "":
		fmt.Fprintln(w, p.red("activates nothing: "+c.Held))
	case c.Own:
		fmt.Fprintf(w, "%s is claimed for this ring, %.8s, by %s, since %s\n", c.URL, c.Ring, c.By, c.Since.UTC().Format("2006-01-02 15:04 UTC"))
	case c.Warning != "":
		fmt.Fprintln(w, p.yellow("warning: "+c.Warning))
	}
}

// printClaimCommands prints what claims the repository by hand, in any clone of it. The push is a compare-and-swap on what
// stands there.
func printClaimCommands(w io.Writer, c api.Claim) {
	if c.Own {
		fmt.Fprintf(w, "# %s is claimed for this ring, %.8s, already\n", c.URL, c.Ring)
		return
	}
	fmt.Fprintf(w, `# in any clone of the repository; by another URL of it if you push by another
claim=$(git commit-tree -m %s -m %s %s)
git push --force-with-lease=%s:%s %s "$claim:%s"
`, quoted(source.ClaimSubject(c.Ring)), quoted(source.ClaimTrailer(c.Ring)), source.EmptyTree, c.Ref, c.Shown(), quoted(c.URL), c.Ref)
}

// quoted is a word for a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
