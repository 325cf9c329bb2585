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

func newStatus(g *globals) *cobra.Command {
	var environment, namespace string
	cmd := &cobra.Command{
		Use: "status", Short: "What runs, and what is held back", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := g.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			s.Pods = filter(s.Pods, func(p api.Pod) bool {
				return (environment == "" || p.Environment == environment) && (namespace == "" || p.Namespace == namespace)
			})
			s.Environments = filter(s.Environments, func(e api.Environment) bool { return environment == "" || e.Name == environment })
			return g.print(cmd.OutOrStdout(), s, func(w io.Writer) { printStatus(w, s) })
		},
	}
	g.outputFlag(cmd)
	cmd.Flags().StringVarP(&environment, "environment", "e", "", "only this environment")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only this namespace")
	return cmd
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

func printStatus(w io.Writer, s api.Status) {
	p := painter(w)
	fmt.Fprintf(w, "node %s (%s)  ring %s  entry %d  shoal %s\n", p.bold(s.Node), s.NodeID, short(s.Ring), s.Index, s.Version)
	if s.Source.URL != "" {
		fmt.Fprintf(w, "source %s\n", s.Source.URL)
	}
	if s.Source.Stale != "" {
		fmt.Fprintln(w, p.yellow("source cannot be read: "+s.Source.Stale))
	}
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
	if len(s.Pods) > 0 {
		fmt.Fprintln(w)
		t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		fmt.Fprintln(t, "NAMESPACE\tPOD\tREADY\tSTATUS\tRESTARTS\tAGE\tIP")
		for _, pod := range s.Pods {
			fmt.Fprintf(t, "%s\t%s\t%d/%d\t%s\t%d\t%s\t%s\n", pod.Namespace, pod.Name, pod.Ready, pod.Containers, pod.Status, pod.Restarts, age(pod.Created), pod.IP)
		}
		t.Flush()
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
