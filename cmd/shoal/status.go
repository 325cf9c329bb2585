package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func newStatus(g *globals) *cobra.Command {
	var environment, namespace string
	var watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "What runs, and what is held back", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			look := func(w io.Writer) (state string, err error) {
				s, err := g.client().Status(cmd.Context())
				if err != nil {
					return "", err
				}
				s.Pods = filter(s.Pods, func(p api.Pod) bool {
					return (environment == "" || p.Environment == environment) && (namespace == "" || p.Namespace == namespace)
				})
				s.Environments = filter(s.Environments, func(e api.Environment) bool { return environment == "" || e.Name == environment })
				p := painter(cmd.OutOrStdout())
				state = fmt.Sprint(s.Index, s.Pulls, s.Warnings, s.Source.Stale, claimState(s), s.Drifts, s.Environments)
				return state, g.print(w, s, func(w io.Writer) { printStatus(w, s, p) })
			}
			if watch {
				return again(cmd.Context(), cmd.OutOrStdout(), look)
			}
			_, err := look(cmd.OutOrStdout())
			return err
		},
	}
	g.outputFlag(cmd)
	cmd.Flags().StringVarP(&environment, "environment", "e", "", "only this environment")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only this namespace")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing it: drawn anew on a terminal, else printed when it changes")
	return cmd
}

// claimState is what of a claim is news.
func claimState(s api.Status) string {
	if s.Source.Claim == nil {
		return ""
	}
	return s.Source.Claim.Held + s.Source.Claim.Warning
}

// again looks every second until ctx ends. What is no terminal gets a look only if the state is another: ages alone are
// no news.
func again(ctx context.Context, w io.Writer, look func(io.Writer) (state string, err error)) error {
	const home, restOfLine, restOfScreen = "\x1b[H", "\x1b[K", "\x1b[J"
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := ""
	for {
		var b strings.Builder
		state, err := look(&b)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case isTerminal(w):
			fmt.Fprint(w, home, strings.ReplaceAll(b.String(), "\n", restOfLine+"\n"), restOfScreen)
		case state != last:
			fmt.Fprint(w, b.String())
		}
		last = state
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func filter[T any](in []T, keep func(T) bool) []T {
	out := in[:0]
	for _, v := range in {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}

func printSource(w io.Writer, s api.Status, p paint) {
	if s.Source.URL != "" {
		fmt.Fprintf(w, "source %s", s.Source.URL)
		if !s.Source.Fetched.IsZero() {
			fmt.Fprintf(w, "  read %s ago", age(s.Source.Fetched))
			if s.Source.By != "" && s.Source.By != s.Node {
				fmt.Fprintf(w, " by %s", s.Source.By)
			}
		}
		if len(s.Source.Pollers) > 0 {
			fmt.Fprintf(w, "  polled by %s", strings.Join(s.Source.Pollers, ", "))
		}
		fmt.Fprintln(w)
	}
	if c := s.Source.Claim; c != nil && !c.Own {
		printClaim(w, *c)
	}
	switch others := slices.DeleteFunc(slices.Clone(s.Source.Pollers), func(n string) bool { return n == s.Node }); {
	case s.Source.Stale == "":
	case len(others) > 0:
		fmt.Fprintln(w, p.yellow("this node cannot read the source, and has it from the others: "+s.Source.Stale))
	default:
		fmt.Fprintln(w, p.yellow("source cannot be read: "+s.Source.Stale))
	}
}

func printStatus(w io.Writer, s api.Status, p paint) {
	fmt.Fprintf(w, "node %s (%s)  ring %s  entry %d  shoal %s\n", p.bold(s.Node), s.NodeID, short(s.Ring), s.Index, s.Version)
	printSource(w, s, p)
	for _, warning := range s.Warnings {
		fmt.Fprintln(w, p.yellow("warning: "+warning))
	}
	for _, e := range s.Environments {
		fmt.Fprintf(w, "\n%s  %s", p.bold(e.Name), strings.TrimPrefix(e.Ref, "refs/heads/"))
		if e.Commit == "" {
			fmt.Fprint(w, "  nothing runs yet")
		} else {
			fmt.Fprintf(w, "  %s %s  %d objects  since %s", short(e.Commit), e.Subject, e.Objects, age(e.Activated))
		}
		fmt.Fprintln(w)
		if e.Undeclared != "" {
			fmt.Fprintln(w, p.yellow("  "+e.Undeclared))
		}
		if len(e.Held) > 0 {
			fmt.Fprintln(w, p.red("  held at their last good version: "+strings.Join(e.Held, ", ")))
		}
		if len(e.Problems) > 0 {
			what := "problems:"
			if e.Candidate != "" {
				what = "commit " + short(e.Candidate) + " has problems:"
			}
			fmt.Fprintf(w, "  %s\n", p.red(what))
			for _, problem := range e.Problems {
				fmt.Fprintf(w, "    %s\n", problem)
			}
		}
		for _, warning := range e.Warnings {
			fmt.Fprintf(w, "  %s\n", p.yellow("warning: "+warning.String()))
		}
	}
	if text := progressText(s.Rollouts, s.Pulls); text != "" {
		fmt.Fprintf(w, "\nunder way: %s\n", p.yellow(text))
	}
	if len(s.Pods) > 0 {
		fmt.Fprintln(w)
		rows := &strings.Builder{} // painted afterwards: the columns are counted in what is seen
		t := tabwriter.NewWriter(rows, 0, 0, 3, ' ', 0)
		fmt.Fprintln(t, "NAMESPACE\tPOD\tREADY\tSTATUS\tRESTARTS\tAGE\tIP")
		for _, pod := range s.Pods {
			fmt.Fprintf(t, "%s\t%s\t%d/%d\t%s\t%d\t%s\t%s\n", pod.Namespace, pod.Name, pod.Ready, pod.Containers, pod.Status, pod.Restarts, age(pod.Created), pod.IP)
		}
		t.Flush()
		for i, row := range strings.Split(strings.TrimSuffix(rows.String(), "\n"), "\n") {
			if i > 0 {
				row = paintPod(p, s.Pods[i-1], row)
			}
			fmt.Fprintln(w, row)
		}
		for _, pod := range s.Pods {
			if pod.Message != "" {
				fmt.Fprintf(w, "%s/%s: %s\n", pod.Namespace, pod.Name, p.yellow(pod.Message))
			}
		}
	}
	if len(s.Services) > 0 {
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		fmt.Fprintln(t, "NAMESPACE\tSERVICE\tCLUSTER-IP\tPORTS\tENDPOINTS")
		for _, svc := range s.Services {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\n", svc.Namespace, svc.Name, svc.ClusterIP, strings.Join(svc.Ports, ","), svc.Endpoints)
		}
		t.Flush()
	}
	if len(s.CronJobs) > 0 {
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		fmt.Fprintln(t, "NAMESPACE\tCRONJOB\tSCHEDULE\tACTIVE\tLAST\tNEXT")
		for _, c := range s.CronJobs {
			last, next := "-", "-"
			if !c.Last.IsZero() {
				last = age(c.Last) + " ago"
			}
			if c.Suspended {
				next = "suspended"
			} else if !c.Next.IsZero() {
				next = c.Next.UTC().Format("2006-01-02 15:04 UTC")
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", c.Namespace, c.Name, c.Schedule, c.Active, last, next)
		}
		t.Flush()
	}
}

// paintPod is red for what fails and yellow for what is not ready yet.
func paintPod(p paint, pod api.Pod, row string) string {
	switch pod.Status {
	case "Completed":
		return row
	case "Running":
		if pod.Ready < pod.Containers {
			return p.yellow(row)
		}
		return row
	case "Pending", "ContainerCreating", "PodInitializing", "Terminating":
		return p.yellow(row)
	}
	return p.red(row)
}

// short is the first digits of an id, as Git shows them.
func short(id string) string { return id[:min(len(id), 10)] }

// age is how long ago t was, in kubectl's words.
func age(t time.Time) string {
	d := time.Since(t)
	switch {
	case t.IsZero():
		return "-"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
