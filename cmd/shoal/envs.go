package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

const envsHelp = `Shows the environments in the order in which commits go through them: what each runs and since when, whether it is healthy, how far it is behind
those before it, and what would have to happen for it to catch up; and by app, which commit was the last to change it there. -e shows one with
its gates, and in which fields it differs from the environment that it should be the same as.`

func newEnvs(g *globals) *cobra.Command {
	var environment string
	cmd := &cobra.Command{
		Use: "envs", Short: "What runs where, and what is between the environments", Long: envsHelp, Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := g.client().Envs(cmd.Context(), environment)
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), e, func(w io.Writer) {
				printEnvs(w, e)
				if len(e.Environments) > 1 {
					printApps(w, e)
				}
				if environment != "" && len(e.Environments) == 1 {
					printEnv(w, e.Environments[0])
				}
			})
		},
	}
	g.outputFlag(cmd)
	cmd.Flags().StringVarP(&environment, "environment", "e", "", "one environment, in full")
	return cmd
}

func printEnvs(w io.Writer, all api.Envs) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ENVIRONMENT\tAFTER\tCOMMIT\tSINCE\tHEALTH\tBEHIND\tGATES")
	for _, e := range all.Environments {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Name, dash(strings.Join(e.After, ",")), dash(fmt.Sprintf("%.12s", e.Commit)), sinceMS(e.Since), health(e), behind(e), gatesOf(e))
	}
	table.Flush()
}

// printApps shows which commit was the last to change each app in each environment.
func printApps(w io.Writer, all api.Envs) {
	apps := map[string][]string{} // cells by environment
	ahead := false
	for i, e := range all.Environments {
		for _, a := range e.Apps {
			if apps[a.Name] == nil {
				apps[a.Name] = slices.Repeat([]string{"-"}, len(all.Environments))
			}
			cell := dash(fmt.Sprintf("%.12s", a.Commit))
			if a.Ahead {
				cell += "*"
			}
			apps[a.Name][i] = cell
			ahead = ahead || a.Ahead
		}
	}
	if len(apps) == 0 {
		return
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "APP")
	for _, e := range all.Environments {
		fmt.Fprint(table, "\t", e.Name)
	}
	fmt.Fprintln(table)
	for _, name := range slices.Sorted(maps.Keys(apps)) {
		fmt.Fprintln(table, name+"\t"+strings.Join(apps[name], "\t"))
	}
	table.Flush()
	if ahead {
		fmt.Fprintln(w, "* an environment before it runs another state of the app")
	}
}

func sinceMS(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return age(time.UnixMilli(ms))
}

func health(e api.EnvOf) string {
	switch {
	case e.Since == 0:
		return "-"
	case e.Healthy != 0:
		return "for " + age(time.UnixMilli(e.Healthy))
	}
	return "no"
}

// behind is how far an environment is behind those before it.
func behind(e api.EnvOf) string {
	var out []string
	for _, b := range e.Behind {
		if b.Commits == 0 {
			out = append(out, b.Environment+": 0")
			continue
		}
		out = append(out, fmt.Sprintf("%s: %d, for %s", b.Environment, b.Commits, age(time.UnixMilli(b.Since))))
	}
	return dash(strings.Join(out, "; "))
}

// gatesOf says in a few words what an environment waits for.
func gatesOf(e api.EnvOf) string {
	var out []string
	if e.Pin != nil {
		out = append(out, "pinned until "+time.UnixMilli(e.Pin.Until).UTC().Format("2006-01-02 15:04"))
	}
	if e.Held == "" && e.Next == "" {
		return dash(strings.Join(out, "; "))
	}
	what := "next"
	if e.Held != "" {
		what = fmt.Sprintf("%.12s is held", e.Held)
	}
	var blocks []string
	for _, g := range e.Verdict.Blocks() {
		if g.Name != promote.GatePin {
			blocks = append(blocks, g.Name)
		}
	}
	if len(blocks) == 0 && e.Pin == nil {
		out = append(out, what+": open")
	} else if len(blocks) > 0 {
		out = append(out, what+": "+strings.Join(blocks, ", "))
	}
	return strings.Join(out, "; ")
}

func printEnv(w io.Writer, e api.EnvOf) {
	if e.Commit != "" {
		fmt.Fprintf(w, "\nruns %.12s %q by %s, of %s\n", e.Commit, e.Subject, dash(string(e.Act)), strings.TrimPrefix(e.Ref, "refs/heads/"))
	}
	if e.Ill != "" {
		fmt.Fprintf(w, "not healthy: %s\n", e.Ill)
	}
	if e.Pin != nil {
		fmt.Fprintf(w, "pinned by %s until %s: %s\n", dash(e.Pin.By), time.UnixMilli(e.Pin.Until).UTC().Format(time.RFC3339), e.Pin.Reason)
	}
	for _, d := range e.Owed {
		fmt.Fprintf(w, "hotfix %s is not merged back: %s (%s)\n", d.Commit.Short(), d.Reason, dash(d.By))
	}
	if len(e.Apps) > 0 {
		fmt.Fprintln(w)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "APP\tCHANGED BY\tSTANDS")
		for _, a := range e.Apps {
			stands := "-"
			if len(e.After) > 0 {
				stands = "same as before it"
			}
			if a.Ahead {
				stands = "another before it"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", a.Name, dash(fmt.Sprintf("%.12s", a.Commit)), stands)
		}
		table.Flush()
	}
	if e.As != "" {
		printSameness(w, e)
	}
	if e.Held != "" || e.Next != "" {
		fmt.Fprintln(w)
		if e.Held != "" {
			fmt.Fprintf(w, "%.12s is held\n", e.Held)
		} else {
			fmt.Fprintf(w, "a promotion would bring %.12s\n", e.Next)
		}
		printGates(w, e.Verdict)
	}
}

func printSameness(w io.Writer, e api.EnvOf) {
	paint := painter(w)
	var listed, news []promote.Difference
	for _, d := range e.Different {
		if d.Allowed == "" {
			news = append(news, d)
		} else {
			listed = append(listed, d)
		}
	}
	fmt.Fprintf(w, "\nthe same as %s but for %s that is listed", e.As, count(len(listed), "field", "fields"))
	if len(news) == 0 {
		fmt.Fprintln(w)
	} else {
		fmt.Fprintf(w, " and %s that is not:\n", count(len(news), "field", "fields"))
	}
	for _, d := range news {
		fmt.Fprintln(w, paint.red("  "+d.String()))
	}
	for _, d := range listed {
		fmt.Fprintf(w, "  %s\n", d)
	}
}
