package main

import (
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/engine/source"
)

const auditHelp = `Reads from a clone alone what happened to an environment: who promoted what from where, with which evidence; what was rolled back, fixed in haste, pinned, and
why. BRANCH is the environment's branch, such as env/production, or any revision. A commit that is not what it says of itself is marked. No agent is asked.

  shoal audit origin/env/production`

func newAudit(g *globals) *cobra.Command {
	var dir string
	var most int
	cmd := &cobra.Command{
		Use: "audit BRANCH", Short: "What happened to an environment, read from Git alone", Long: auditHelp, Args: exactly(1, "BRANCH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := openHistory(dir)
			if err != nil {
				return err
			}
			rev, err := h.resolve(args[0])
			if err != nil {
				return err
			}
			events, err := h.audit(rev.commit, most)
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), events, func(w io.Writer) {
				for _, e := range events {
					fmt.Fprintln(w, e)
					for _, p := range e.Evidence {
						fmt.Fprintf(w, "    %s: %s\n", p.Gate, p.Text)
					}
				}
			})
		},
	}
	g.outputFlag(cmd)
	cmd.Flags().StringVar(&dir, "dir", ".", "the clone")
	cmd.Flags().IntVar(&most, "max", 100, "commits that are read")
	return cmd
}

// audit reads the history of an environment's branch.
func (h *history) audit(tip source.Commit, most int) ([]promote.Event, error) {
	var records []promote.Record
	for c := tip; len(records) < most; {
		r := promote.Record{Commit: c}
		if a, err := promote.Read(c.Message); err == nil && a.Source != "" {
			if of, err := h.commit(plumbing.NewHash(string(a.Source))); err == nil {
				r.Of = of.Tree
			}
		}
		records = append(records, r)
		if len(c.Parents) == 0 {
			break
		}
		next, err := h.commit(plumbing.NewHash(string(c.Parents[0])))
		if err != nil {
			break // a shallow clone
		}
		c = next
	}
	return promote.History(records), nil
}
