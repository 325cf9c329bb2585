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

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

func newPlan(g *globals) *cobra.Command {
	var o planOptions
	var exitStatus, actions bool
	cmd := &cobra.Command{
		Use: "plan [DIR | COMMIT]", Short: "What a working tree or a commit would change of what runs",
		Long: `Renders a directory, or a commit of the repository it is in, forks the ring's state, and lets the planner that runs the ring carry
it out on the fork: which objects change in which fields, which pods are restarted, created and removed and why, and how many are not
touched. Apps with problems stay as they run, as they would in the ring; what is wrong with them is said.

  shoal plan                        the working tree
  shoal plan my-branch              a branch, a tag, an id or the first digits of one, HEAD~2
  shoal plan DIR --commit origin/x  the same of a repository elsewhere

An argument that is a directory is taken for one; --commit says that a commit is meant. Without -e a branch is planned for the
environment that follows it.

--without says what happens next when nodes are lost: which pods start elsewhere and which find no place, which Services nobody
answers, and whether a majority is left to decide. With a directory or commit of what would run then, without one of what runs now:

  shoal plan --without node2        of what runs, when node2 is lost; node2,node3 when both are
  shoal plan --without any          when any one node is lost; 2: any one or two; the worst first

Exit status: 0, also with changes; with --exit-code 1 if there are any, as git diff has it. 1 if something would be held back.
With --without --exit-code is 1 if something finds no place, nobody answers a Service until a node is back, or no majority is left.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("expected one directory or commit at most; for both: shoal plan DIR --commit COMMIT")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.dir = args[0]
			}
			var p api.Plan
			var err error
			if len(o.without) > 0 && len(args) == 0 && o.commit == "" && o.environment == "" {
				p, err = g.client().Plan(cmd.Context(), api.PlanRequest{Without: o.without})
			} else {
				p, err = planned(cmd.Context(), g.client(), o)
			}
			if err != nil {
				return err
			}
			if err := g.print(cmd.OutOrStdout(), p, func(w io.Writer) { printPlan(w, p, actions) }); err != nil {
				return err
			}
			if len(p.Problems) > 0 {
				return p.Problems
			}
			if exitStatus && (len(o.without) == 0 && len(p.Objects)+len(p.Pods) > 0 || slices.ContainsFunc(p.Losses, harms)) {
				return exitCode(1)
			}
			return nil
		},
	}
	g.outputFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.commit, "commit", "", "plan this commit of DIR's repository, not the working tree: a branch, tag or id")
	f.StringVarP(&o.environment, "environment", "e", "", "environment; default: the one that follows the branch, else the first by name")
	f.BoolVar(&exitStatus, "exit-code", false, "exit with 1 if anything would change")
	f.StringSliceVar(&o.without, "without", nil, "also what happens when these nodes are lost; any: each one, 2: each one or two")
	f.BoolVar(&actions, "actions", false, "also the first steps of the node")
	return cmd
}

// planOptions say what is planned: a directory, or with commit a commit of the repository it is in. dir may be the
// commit, if commit is "" and there is no such directory.
type planOptions struct {
	dir, commit, environment string
	without                  []string // nodes that are lost then
}

// planned renders what is asked for and has the agent plan it.
func planned(ctx context.Context, client *api.Client, o planOptions) (api.Plan, error) {
	l, tree, rev, err := openPlanned(ctx, o)
	if err != nil {
		return api.Plan{}, err
	}
	defer l.close()
	env, err := l.environmentOf(ctx, tree, o.environment, rev.branch)
	if err != nil {
		return api.Plan{}, err
	}
	previous, content, err := active(ctx, client, env.Name)
	if err != nil {
		return api.Plan{}, err
	}
	set, err := l.compileOver(ctx, tree, env, previous, content)
	if err != nil {
		return api.Plan{}, err
	}
	warnings := set.built.Warnings
	allow, _ := rev.commit.Trailer(source.TrailerAllowDelete)
	if refused := desired.Guard(previous, set.built.Set, allow); len(refused) > 0 {
		if rev.commit.ID != "" {
			return api.Plan{}, append(set.built.Problems, refused...).Sorted()
		}
		warnings = append(warnings, refused...) // it is no commit yet: its message may still say so
	}
	req := request(set, previous)
	req.Without = o.without
	p, err := client.Plan(ctx, req)
	if err != nil {
		return api.Plan{}, err
	}
	p.Commit = string(rev.commit.ID)
	p.Held, p.Problems, p.Warnings = set.built.Held, set.built.Problems, warnings
	return p, nil
}

// openPlanned finds the tree that is planned, and the revision unless it is a working tree.
func openPlanned(ctx context.Context, o planOptions) (*local, source.Tree, revision, error) {
	if o.commit == "" && o.dir != "" {
		if _, err := os.Stat(o.dir); errors.Is(err, fs.ErrNotExist) {
			o.dir, o.commit = "", o.dir
		}
	}
	if o.dir == "" {
		o.dir = "."
	}
	if o.commit == "" {
		l, err := openLocal(o.dir)
		if err != nil {
			return nil, nil, revision{}, err
		}
		tree, err := l.tree(ctx)
		if err != nil {
			l.close()
		}
		return l, tree, revision{}, err
	}
	h, err := openHistory(o.dir)
	if err != nil {
		return nil, nil, revision{}, err
	}
	rev, err := h.resolve(o.commit)
	if err != nil {
		return nil, nil, revision{}, err
	}
	below, err := h.below(o.dir)
	if err != nil {
		return nil, nil, revision{}, err
	}
	tree, err := h.tree(rev.commit, h.manifests(rev.commit, below))
	if err != nil {
		return nil, nil, revision{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, revision{}, err
	}
	return newLocal(self, o.dir), tree, rev, nil
}

// request asks the agent about a set. It brings the objects along that what is active does not have.
func request(set compiledSet, previous *desired.Set) api.PlanRequest {
	req := api.PlanRequest{
		Environment: set.env.Name, Namespace: set.env.Namespace, Manifest: set.built.Manifest, Held: set.built.Held, Blobs: map[string][]byte{},
	}
	known := map[desired.Digest]bool{}
	if previous != nil {
		for _, e := range previous.Entries {
			known[e.Digest], known[e.Template] = true, true
		}
	}
	for d, b := range set.blobs {
		if !known[d] {
			req.Blobs[string(d)] = b
		}
	}
	return req
}

// active is what runs in an environment, nil if nothing does, and where its objects are.
func active(ctx context.Context, client *api.Client, environment string) (*desired.Set, objects, error) {
	content := objects(func(d desired.Digest) ([]byte, error) { return client.Blob(ctx, string(d)) })
	b, err := client.Manifest(ctx, environment)
	if errors.Is(err, api.ErrNotFound) {
		return nil, content, nil
	}
	if err != nil {
		return nil, nil, err
	}
	set, err := desired.DecodeSet(b)
	return set, content, err
}

// objects gives the bytes of a digest.
type objects func(desired.Digest) ([]byte, error)

// Get makes it a desired.Content.
func (o objects) Get(d desired.Digest) ([]byte, error) { return o(d) }

func printPlan(w io.Writer, p api.Plan, actions bool) {
	c := painter(w)
	if p.To == "" {
		printLosses(w, p.Losses)
		return
	}
	defer printLosses(w, p.Losses)
	sign := map[string]string{"create": c.green("+"), "update": c.yellow("~"), "restart": c.yellow("~"), "delete": c.red("-"), "remove": c.red("-"), "wait": c.red("!")}
	name := c.bold(p.Environment)
	if p.Commit != "" {
		name += " at " + source.ID(p.Commit).Short()
	}
	if p.Note != "" {
		fmt.Fprintln(w, c.yellow("none of this would happen now: "+p.Note))
	}
	for _, warning := range p.Warnings {
		fmt.Fprintln(w, c.yellow("warning: "+warning.String()))
	}
	if len(p.Held) > 0 {
		fmt.Fprintf(w, "%s: %s\n", name, c.red("would be held as they run: "+strings.Join(p.Held, ", ")))
	}
	if len(p.Objects) == 0 {
		fmt.Fprintf(w, "%s: nothing would change; %s untouched\n", name, goOn(p.Unchanged))
		return
	}
	fmt.Fprintf(w, "%s: %s\n", name, count(len(p.Objects), "object differs", "objects differ"))
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
	fmt.Fprintf(w, "  %s untouched\n", goOn(p.Unchanged))
	if actions {
		fmt.Fprintln(w, c.bold("first steps"))
		for _, a := range p.Actions {
			fmt.Fprintf(w, "  %s: %s\n", a.Node, a.Action)
		}
	}
}

func goOn(pods int) string { return count(pods, "pod goes on", "pods go on") }

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}
