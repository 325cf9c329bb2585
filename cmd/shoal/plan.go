package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

const planHelp = `Has the agent render a directory or a commit, fork the ring's state, and let the planner that runs the ring carry it out on the
fork: what is exposed, restarted, moved and deleted comes first, then all other objects in their fields, with what becomes of their
pods; the last line says how much is not touched. Apps with problems stay as they run, as they would in the ring. Nothing is changed.

  shoal plan                        the working tree, against what runs
  shoal plan my-branch              a branch, a tag, an id or the first digits of one, HEAD~2
  shoal plan DIR --commit origin/x  the same of a repository elsewhere
  shoal plan main..my-branch        what my-branch changes of main, in every environment
  shoal plan main..                 what the working tree changes of main

A revision is looked up in the Git repository of the directory, and where that does not know it in the mirror of the node. An
argument that is a directory is taken for one; --commit says that a commit is meant. Without -e, A..B is planned for all
environments, anything else for the one that follows the branch, or for the first by name; --all means all.

Of A..B the objects are compared as A and B render. Pods always go from what runs: where that is not A, the plan says so. The
digest names the changes of the objects and nothing else: what was planned and what was then done have the same.

-o markdown is a comment for a pull request, short enough for every forge. Its first line, <!-- shoal plan ENVIRONMENT -->, is how to
find it again.

--without says what happens next when nodes are lost: which pods start elsewhere and which find no place, which Services nobody
answers, and whether a majority is left to decide. With a directory or commit of what would run then, without one of what runs now:

  shoal plan --without node2        of what runs, when node2 is lost; node2,node3 when both are
  shoal plan --without any          when any one node is lost; 2: any one or two; the worst first

Exit status: 0, also with changes; with --exit-code 1 if there are any, as git diff has it. 1 if something would be held back.
With --without --exit-code is 1 if something finds no place, nobody answers a Service until a node is back, or no majority is left.`

func newPlan(g *globals) *cobra.Command {
	var o planOptions
	var exitStatus, actions bool
	cmd := &cobra.Command{
		Use: "plan [DIR | COMMIT | A..B]", Short: "What a working tree, a commit or a branch would change of what runs", Long: planHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("expected one directory, commit or A..B at most; for both: shoal plan DIR --commit COMMIT")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(args); err != nil {
				return err
			}
			client := g.client()
			defer client.Close()
			plans, err := o.ask(cmd.Context(), client, args)
			if err != nil {
				return err
			}
			if err := printPlans(cmd.OutOrStdout(), g, plans, o.several(), actions); err != nil {
				return err
			}
			var problems render.Problems
			for _, p := range plans {
				problems = append(problems, p.Problems...)
			}
			if len(problems) > 0 {
				return problems.Sorted()
			}
			if exitStatus && slices.ContainsFunc(plans, func(p api.Plan) bool { return changes(p, o.without) }) {
				return exitCode(1)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&g.output, "output", "o", "text", "text, markdown, json or yaml")
	f.StringVar(&o.rev, "commit", "", "plan this commit of DIR's repository, not the working tree: a branch, tag or id, or A..B")
	f.StringVarP(&o.environment, "environment", "e", "", "environment; default: all for A..B, else the one that follows the branch, else the first by name")
	f.BoolVar(&o.all, "all", false, "all environments")
	f.BoolVar(&exitStatus, "exit-code", false, "exit with 1 if anything would change")
	f.StringSliceVar(&o.without, "without", nil, "also what happens when these nodes are lost; any: each one, 2: each one or two")
	f.BoolVar(&actions, "actions", false, "also the first steps of the node")
	return cmd
}

// changes says whether --exit-code is to tell of a plan.
func changes(p api.Plan, without []string) bool {
	if len(without) > 0 {
		return slices.ContainsFunc(p.Losses, harms)
	}
	return p.Report != nil && p.Report.Changes()
}

// planOptions say what is planned.
type planOptions struct {
	dir, rev, environment string
	all                   bool
	without               []string // nodes that are lost then

	from, to string // of rev; from is "" for what runs, to for the working tree
	ranged   bool   // rev is A..B
}

// parse finds out what an argument is: a directory that is there, or else a commit or a range.
func (o *planOptions) parse(args []string) error {
	if len(args) == 1 {
		o.dir = args[0]
		if _, err := os.Stat(o.dir); o.rev == "" && errors.Is(err, fs.ErrNotExist) {
			o.dir, o.rev = "", args[0]
		}
	}
	if o.all && o.environment != "" {
		return usageError{errors.New("expected -e ENVIRONMENT or --all, not both")}
	}
	o.to = o.rev
	from, to, ranged := strings.Cut(o.rev, "..")
	switch {
	case !ranged:
		return nil
	case strings.HasPrefix(o.rev, "../") || o.rev == "..":
		return usageError{fmt.Errorf("%s: there is no such directory", o.rev)}
	case strings.HasPrefix(to, "."):
		return usageError{fmt.Errorf("%q: expected two dots, A..B: A is compared with B as they are, not with where they parted; for that: shoal plan $(git merge-base A B)..B", o.rev)}
	case strings.Contains(to, ".."):
		return usageError{fmt.Errorf("%q: expected one A..B", o.rev)}
	case from == "":
		return usageError{fmt.Errorf("%q: expected a commit before the dots; against what runs: shoal plan %s", o.rev, to)}
	}
	o.from, o.to, o.ranged = from, to, true
	return nil
}

// several says whether the answer is a list of plans.
func (o *planOptions) several() bool { return o.all || o.ranged && o.environment == "" }

// ask brings the agent what it lacks of the trees, and has it plan them.
func (o *planOptions) ask(ctx context.Context, client *api.Client, args []string) ([]api.Plan, error) {
	req := api.PlanRequest{Environment: o.environment, Without: o.without}
	if len(o.without) > 0 && len(args) == 0 && o.rev == "" && o.environment == "" && !o.all {
		p, err := client.Plan(ctx, req)
		return []api.Plan{p}, err
	}
	trees := planTrees{client: client, dir: o.dir}
	var err error
	if req.To, err = trees.find(ctx, o.to); err != nil {
		return nil, err
	}
	if o.ranged {
		if req.From, err = trees.find(ctx, o.from); err != nil {
			return nil, err
		}
	}
	req.Objects = trees.objects
	first, err := client.Plan(ctx, req)
	if err != nil {
		return nil, trees.explain(err)
	}
	plans := []api.Plan{first}
	if !o.several() {
		return plans, nil
	}
	for _, side := range []struct {
		tree   *api.Tree
		commit string
	}{{req.To, first.Commit}, {req.From, first.FromCommit}} {
		if side.tree != nil && side.tree.Revision != "" {
			side.tree.Revision = side.commit // a branch may move between two questions
		}
	}
	for _, name := range slices.Concat(first.Declared, first.Undeclared) {
		if name == first.Environment {
			continue
		}
		req.Environment = name
		p, err := client.Plan(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		plans = append(plans, p)
	}
	slices.SortFunc(plans, func(a, b api.Plan) int { return strings.Compare(a.Environment, b.Environment) })
	return plans, nil
}

// printPlans writes plans as -o asks.
func printPlans(w io.Writer, g *globals, plans []api.Plan, several, actions bool) error {
	if g.output == "markdown" {
		return printMarkdown(w, plans)
	}
	var v any = plans[0]
	if several {
		v = plans
	}
	return g.print(w, v, func(w io.Writer) {
		for i, p := range plans {
			if i > 0 {
				fmt.Fprintln(w)
			}
			printPlan(w, p, actions)
		}
	})
}
