package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func newPlan(g *globals) *cobra.Command {
	var environment string
	var exitStatus, actions bool
	cmd := &cobra.Command{
		Use: "plan [DIR]", Short: "What a working tree would change of what runs",
		Long: `Renders this directory, forks the ring's state, and lets the planner that runs the ring carry it out on the fork:
which objects change in which fields, which pods are restarted, created and removed, and how many are not touched.

Exit status: 0, also with changes; with --exit-code 1 if there are any, as git diff has it.`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLocal(dirOf(args))
			if err != nil {
				return err
			}
			defer l.close()
			ctx := cmd.Context()
			tree, err := l.tree(ctx)
			if err != nil {
				return err
			}
			env, err := l.environment(ctx, tree, environment)
			if err != nil {
				return err
			}
			set, err := l.compile(ctx, tree, env)
			if err != nil {
				return err
			}
			if len(set.built.Problems) > 0 {
				return set.built.Problems
			}
			req := api.PlanRequest{Environment: env.Name, Namespace: env.Namespace, Manifest: set.built.Set.Encode(), Blobs: map[string][]byte{}}
			for d, b := range set.blobs {
				req.Blobs[string(d)] = b
			}
			p, err := g.client().Plan(ctx, req)
			if err != nil {
				return err
			}
			if err := g.print(cmd.OutOrStdout(), p, func(w io.Writer) { printPlan(w, p, actions) }); err != nil {
				return err
			}
			if exitStatus && len(p.Objects)+len(p.Pods) > 0 {
				return exitCode(1)
			}
			return nil
		},
	}
	g.outputFlag(cmd)
	cmd.Flags().StringVarP(&environment, "environment", "e", "", "environment; default: the first by name")
	cmd.Flags().BoolVar(&exitStatus, "exit-code", false, "exit with 1 if anything would change")
	cmd.Flags().BoolVar(&actions, "actions", false, "also the first steps of the node")
	return cmd
}

func printPlan(w io.Writer, p api.Plan, actions bool) {
	c := painter(w)
	sign := map[string]string{"create": c.green("+"), "update": c.yellow("~"), "restart": c.yellow("~"), "delete": c.red("-"), "remove": c.red("-")}
	if len(p.Objects) == 0 {
		fmt.Fprintf(w, "%s: nothing would change; %d pods go on untouched\n", p.Environment, p.Unchanged)
		return
	}
	fmt.Fprintf(w, "%s: %d objects differ\n", c.bold(p.Environment), len(p.Objects))
	for _, o := range p.Objects {
		fmt.Fprintf(w, "%s %s %s\n", sign[o.Op], o.Op, o.Name)
		for _, f := range o.Fields {
			fmt.Fprintf(w, "      %s\n", f)
		}
	}
	fmt.Fprintln(w, c.bold("pods"))
	for _, o := range p.Pods {
		fmt.Fprintf(w, "%s %s %s: %s\n", sign[o.Op], o.Op, o.Name, o.Why)
	}
	fmt.Fprintf(w, "  %d pods go on untouched\n", p.Unchanged)
	if actions {
		fmt.Fprintln(w, c.bold("first steps"))
		for _, a := range p.Actions {
			fmt.Fprintf(w, "  %s: %s\n", a.Node, a.Action)
		}
	}
}
