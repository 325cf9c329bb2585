package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// globals are the flags of every command.
type globals struct {
	server string
	output string
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "shoal",
		Short: "Run containers on your own machines straight from Git",
		Long: `Shoal runs a team's containers on the team's own machines, straight from a Git repository
of CUE or YAML manifests. Every machine runs this one binary; there is no control plane.

Start:    shoal dev DIR        everything in one terminal, from a directory
          shoal agent          a machine of a ring
Look:     shoal status, logs, exec, why
Change:   git push             to the built-in Git server, or to your forge
Before:   shoal check, render, plan
Release:  shoal envs, promote, rollback, hotfix, pin, audit, previews
Secrets:  shoal secret set, edit, rotate, keys
Ring:     shoal token create, nodes, ring status, ring claim, drain, rebalance, leave

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no agent answers,
4 this node left its ring.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&g.server, "server", cmp.Or(os.Getenv("SHOAL_SERVER"), "/run/shoal/agent.sock"), "socket of the agent to ask; $SHOAL_SERVER")
	root.AddCommand(
		newAgent(g), newDev(g), newInit(), newCheck(), newRender(), newPlan(g), newApprove(), newSecret(g), newImage(), newStatus(g), newLogs(g), newExec(g), newWhy(g),
		newEnvs(g), newPromote(g), newRollback(g), newHotfix(g), newPin(g), newAudit(g), newPreviews(g),
		newToken(g), newNodes(g), newRing(g), newChange(g, "cordon", "Keep new pods off a node", ""), newChange(g, "uncordon", "Let pods onto a node again", ""),
		newChange(g, "drain", "Move a node's pods to other nodes", drainHelp), newRebalance(g), newTaint(g), newChange(g, "remove", "Take a node out of the ring for good", removeHelp), newLeave(g), newShutdown(g),
		newInstall(), newUninstall(), newReset(), newRecover(), newVersion(g),
	)
	return root
}

func (g *globals) client() *api.Client { return api.NewClient(g.server) }

// outputFlag adds -o to a command that can print its answer for machines.
func (g *globals) outputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&g.output, "output", "o", "text", "text, json or yaml")
}

// print writes v as -o asks, and calls text for people.
func (g *globals) print(w io.Writer, v any, text func(w io.Writer)) error {
	switch g.output {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	case "text", "":
		text(w)
		return nil
	}
	return usageError{fmt.Errorf("-o %s: expected text, json or yaml", g.output)}
}

// exactly is cobra.ExactArgs with our exit status and words.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("expected %s", what)}
		}
		return nil
	}
}

// isTerminal reports whether w is a terminal that wants colour.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// paint colours text for people on a terminal; NO_COLOR is honoured.
type paint bool

func painter(w io.Writer) paint { return paint(isTerminal(w) && os.Getenv("NO_COLOR") == "") }

func (p paint) as(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) red(s string) string    { return p.as("31", s) }
func (p paint) green(s string) string  { return p.as("32", s) }
func (p paint) yellow(s string) string { return p.as("33", s) }
func (p paint) bold(s string) string   { return p.as("1", s) }
