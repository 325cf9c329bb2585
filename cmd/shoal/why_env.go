package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// whyEnv is why an environment runs what it does, and what it waits for.
type whyEnv struct {
	api.EnvOf
	Candidate string   `json:"candidate,omitempty"` // newest commit, which is not accepted
	Problems  []string `json:"problems,omitempty"`
	Pods      []string `json:"pods,omitempty"`  // that are not ready, and why
	Notes     []string `json:"notes,omitempty"` // of its branch
}

// maxIllPods bounds the pods that are listed.
const maxIllPods = 5

// environmentAsked is the environment that `shoal why` is asked about; "" if it is about an object.
func environmentAsked(args []string) (name string, sure bool) {
	kind, name := "", args[len(args)-1]
	if len(args) == 2 {
		kind = args[0]
	} else if k, rest, ok := strings.Cut(name, "/"); ok {
		kind, name = k, rest
	}
	switch strings.ToLower(kind) {
	case "env", "environment":
		return name, true
	case "":
		return name, false
	}
	return "", false
}

// explainEnv answers for an environment. It tells whether there is one of that name.
func explainEnv(ctx context.Context, client *api.Client, name string) (w whyEnv, ok bool, err error) {
	e, err := client.Envs(ctx, name)
	if err != nil {
		return w, false, err
	}
	if len(e.Environments) != 1 {
		return w, false, fmt.Errorf("environment %q: there is none of that name", name)
	}
	w.EnvOf = e.Environments[0]
	s, err := client.Status(ctx)
	if err != nil {
		return w, true, err
	}
	for _, env := range s.Environments {
		if env.Name == name {
			w.Candidate = env.Candidate
			for _, problem := range env.Problems {
				w.Problems = append(w.Problems, problem.String())
			}
		}
	}
	for _, pod := range s.Pods {
		if pod.Environment == name && pod.Message != "" && pod.Ready < pod.Containers && len(w.Pods) < maxIllPods {
			w.Pods = append(w.Pods, pod.Name+": "+pod.Message)
		}
	}
	for _, warning := range s.Warnings {
		if strings.HasPrefix(warning, strings.TrimPrefix(w.Ref, "refs/heads/")+": ") {
			w.Notes = append(w.Notes, warning)
		}
	}
	return w, true, nil
}

func printWhyEnv(w io.Writer, e whyEnv) {
	paint := painter(w)
	branch := strings.TrimPrefix(e.Ref, "refs/heads/")
	fmt.Fprintf(w, "%s  %s", paint.bold("Environment "+e.Name), branch)
	switch {
	case len(e.After) == 0:
		fmt.Fprint(w, ", which people push to")
	case e.Auto:
		fmt.Fprintf(w, ", promoted into from %s by the ring", strings.Join(e.After, " and "))
	default:
		fmt.Fprintf(w, ", promoted into from %s by people", strings.Join(e.After, " and "))
	}
	fmt.Fprintln(w)
	if e.Commit == "" {
		fmt.Fprintln(w, "  runs nothing yet")
	} else {
		fmt.Fprintf(w, "  runs %.12s %q by %s, for %s\n", e.Commit, e.Subject, dash(string(e.Act)), sinceMS(e.Since))
	}
	switch {
	case e.Healthy != 0:
		fmt.Fprintf(w, "  healthy for %s\n", sinceMS(e.Healthy))
	case e.Ill != "":
		fmt.Fprintln(w, paint.red("  not healthy: "+e.Ill))
	}
	for _, pod := range e.Pods {
		fmt.Fprintln(w, "    "+pod)
	}
	for _, note := range e.Notes {
		fmt.Fprintln(w, paint.yellow("  "+note))
	}
	if e.Pin != nil {
		fmt.Fprintf(w, "  pinned by %s until %s: %s\n", dash(e.Pin.By), time.UnixMilli(e.Pin.Until).UTC().Format(time.RFC3339), e.Pin.Reason)
	}
	for _, d := range e.Owed {
		fmt.Fprintf(w, "  hotfix %s is not merged back: %s (%s)\n", d.Commit.Short(), d.Reason, dash(d.By))
	}
	for _, b := range e.Behind {
		if b.Commits > 0 {
			fmt.Fprintf(w, "  behind %s by %s, for %s\n", b.Environment, count(b.Commits, "commit", "commits"), sinceMS(b.Since))
		}
	}
	printNext(w, e, branch)
}

// printNext says what would come in next, and what holds it.
func printNext(w io.Writer, e whyEnv, branch string) {
	paint := painter(w)
	switch {
	case e.Held != "":
		fmt.Fprintf(w, "next: %.12s of %s is held\n", e.Held, branch)
	case e.Candidate != "":
		fmt.Fprintln(w, paint.red(fmt.Sprintf("next: %.12s of %s is not accepted:", e.Candidate, branch)))
		for _, p := range e.Problems {
			fmt.Fprintln(w, "  "+p)
		}
		return
	case e.Next != "":
		fmt.Fprintf(w, "next: %.12s, by a promotion\n", e.Next)
	case len(e.After) == 0:
		fmt.Fprintf(w, "next: what is pushed to %s\n", branch)
		return
	default:
		fmt.Fprintf(w, "nothing is next: it runs what %s does\n", strings.Join(e.After, " and "))
		return
	}
	printGates(w, e.Verdict)
	fmt.Fprintln(w, paint.bold(turn(e)))
}

// turn says in a line who must do what for the next commit to come in.
func turn(e whyEnv) string {
	blocks := e.Verdict.Blocks()
	if len(blocks) == 0 {
		if e.Auto || e.Held != "" {
			return "all gates are open: it comes in now"
		}
		return "all gates are open: shoal promote " + e.Name
	}
	var who []string
	var until int64
	timed := true
	for _, g := range blocks {
		if g.Turn != "" && !slices.Contains(who, g.Turn) {
			who = append(who, g.Turn)
		}
		if g.State == promote.Refused || g.Until == 0 {
			timed = false
		}
		until = max(until, g.Until)
	}
	out := "turn: " + strings.Join(who, "; ")
	if timed {
		out += ", until " + time.UnixMilli(until).UTC().Format(time.RFC3339)
	}
	return out
}
