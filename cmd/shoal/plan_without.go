package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

// harms says whether a loss leaves something without a place, a Service without an answer, or the ring without a majority.
func harms(l api.Loss) bool {
	return !l.Majority || l.Waiting > 0 || slices.ContainsFunc(l.Services, func(c api.Change) bool { return c.Op == "down" })
}

// maxShownLosses bounds how many of many losses are told of in full.
const maxShownLosses = 5

// printLosses prints one loss in full, and many as a table with the worst ones in full below.
func printLosses(w io.Writer, losses []api.Loss) {
	if len(losses) == 1 {
		printLoss(w, losses[0])
		return
	}
	if len(losses) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WITHOUT\tMAJORITY\tSTART ELSEWHERE\tNO PLACE\tSERVICES DOWN\tAWAY FOR A TIME")
	for _, l := range losses {
		down, gap := servicesOf(l)
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\n", strings.Join(l.Nodes, ","), majorityText(l), l.Moved, l.Waiting, dash(down), dash(gap))
	}
	table.Flush()
	shown := 0
	for _, l := range losses {
		if !harms(l) {
			break // the rest is no worse
		}
		if shown++; shown > maxShownLosses {
			fmt.Fprintf(w, "\nand more; ask for one: shoal plan --without %s\n", strings.Join(l.Nodes, ","))
			break
		}
		fmt.Fprintln(w)
		printLoss(w, l)
	}
}

// servicesOf names the Services that nobody answers, for good and for a time.
func servicesOf(l api.Loss) (down, gap string) {
	by := map[string][]string{}
	for _, c := range l.Services {
		by[c.Op] = append(by[c.Op], strings.TrimPrefix(c.Name, "Service "))
	}
	return strings.Join(by["down"], " "), strings.Join(by["gap"], " ")
}

func majorityText(l api.Loss) string {
	text := "yes"
	if !l.Majority {
		text = "NO"
	}
	if l.Voters > 0 {
		text += fmt.Sprintf(" (%d of %d)", l.Voters-l.Lost, l.Voters)
	}
	return text
}

func printLoss(w io.Writer, l api.Loss) {
	c := painter(w)
	sign := map[string]string{"move": c.yellow("~"), "gap": c.yellow("~"), "wait": c.red("!"), "stay": c.red("!"), "down": c.red("!")}
	name := c.bold("without " + strings.Join(l.Nodes, ", "))
	switch {
	case !l.Majority:
		fmt.Fprintf(w, "%s: %s\n", name, c.red(fmt.Sprintf("no majority is left, %d of %d voters: nothing is decided or started elsewhere", l.Voters-l.Lost, l.Voters)))
	case harms(l):
		fmt.Fprintf(w, "%s: %s elsewhere, %s; %d of %d voters are left\n", name, count(l.Moved, "pod starts", "pods start"), c.red(count(l.Waiting, "finds no place", "find no place")), l.Voters-l.Lost, l.Voters)
	default:
		fmt.Fprintf(w, "%s: %s elsewhere, everything has a place; %d of %d voters are left\n", name, count(l.Moved, "pod starts", "pods start"), l.Voters-l.Lost, l.Voters)
	}
	for _, o := range slices.Concat(l.Pods, l.Services) {
		fmt.Fprintf(w, "%s %s: %s\n", sign[o.Op], o.Name, o.Why)
	}
}
