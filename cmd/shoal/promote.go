package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/promote"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

const promoteHelp = `Takes what FROM runs into ENVIRONMENT: all apps at once, by one commit on the environment's branch whose tree is that of FROM's commit, with
who, why and what the gates said in its message. Shows first which commits come in and what that changes.

Gates that are closed refuse it, and are shown with what is missing, whose turn it is, and when they open; --wait asks again until they are open.
shoal.cue says which environments come after which, and what their gates are.

  shoal promote staging production
  shoal promote production --dry-run`

const rollbackHelp = `Takes an environment back to what it ran before, config and images together, by a commit on its branch with that tree. It needs no gate, and no forge
to be reachable for what this node has. What the ring had promoted by itself is not promoted again; --pin keeps everybody from promoting for a time.

  shoal rollback production --reason "checkout fails" --pin 24h
  shoal rollback production --to 3f6c19a2`

const hotfixHelp = `Takes a commit into an environment that ran nowhere before. It stands on top of the environment's branch; gates that ask where it ran are waived by name, as far
as shoal.cue allows that (hotfix: waive). It remains a debt until it is merged where promotions come from: until then a promotion that would take it back is refused.

  shoal hotfix production fix/payments --waive soak,health --reason "payments are down"`

const pinHelp = `Keeps everybody from promoting into an environment until a time, by a commit on its branch. --lift ends that.

  shoal pin production --for 48h --reason "audit"`

// asking is what the commands that move environments have in common.
type asking struct {
	g       *globals
	req     api.PromoteRequest
	pinFor  string
	yes     bool
	wait    bool
	noAwait bool
}

func (a *asking) flags(cmd *cobra.Command) {
	a.g.outputFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&a.req.Reason, "reason", "", "why, in one line")
	f.StringVar(&a.req.By, "by", "", "who asks; the user who runs this unless set")
	f.BoolVar(&a.req.DryRun, "dry-run", false, "only show what would come in and what the gates say")
	f.BoolVar(&a.yes, "yes", false, "do not ask")
	f.BoolVar(&a.noAwait, "no-wait", false, "do not wait until it runs")
}

func newPromote(g *globals) *cobra.Command {
	a := &asking{g: g, req: api.PromoteRequest{Act: promote.Promotion}}
	cmd := &cobra.Command{
		Use: "promote [FROM] ENVIRONMENT", Short: "Take what one environment runs into the next", Long: promoteHelp, Args: between(1, 2, "[FROM] ENVIRONMENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.req.Environment = args[len(args)-1]
			if len(args) == 2 {
				a.req.From = args[0]
			}
			return a.run(cmd)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&a.req.Source, "to", "", "a commit that FROM ran, not the one it runs now")
	cmd.Flags().BoolVar(&a.wait, "wait", false, "wait until the gates are open")
	cmd.Flags().StringVar(&a.pinFor, "pin", "", "promote nothing more for so long: 24h, 7d")
	cmd.Flags().StringVar(&a.req.AllowDelete, "allow-delete", "", "a number, or all: objects that may be deleted")
	return cmd
}

func newRollback(g *globals) *cobra.Command {
	a := &asking{g: g, req: api.PromoteRequest{Act: promote.Rollback}}
	cmd := &cobra.Command{
		Use: "rollback ENVIRONMENT", Short: "Take an environment back to what it ran before", Long: rollbackHelp, Args: exactly(1, "ENVIRONMENT"),
		RunE: func(cmd *cobra.Command, args []string) error { a.req.Environment = args[0]; return a.run(cmd) },
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&a.req.Source, "to", "", "a commit that ran there; the one before unless set")
	cmd.Flags().StringVar(&a.pinFor, "pin", "", "promote nothing for so long: 24h, 7d")
	cmd.Flags().StringVar(&a.req.AllowDelete, "allow-delete", "", "a number, or all: objects that may be deleted")
	return cmd
}

func newHotfix(g *globals) *cobra.Command {
	a := &asking{g: g, req: api.PromoteRequest{Act: promote.Hotfix}}
	cmd := &cobra.Command{
		Use: "hotfix ENVIRONMENT COMMIT", Short: "Take a commit into an environment that ran nowhere before", Long: hotfixHelp, Args: exactly(2, "ENVIRONMENT COMMIT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.req.Environment, a.req.Source = args[0], args[1]
			return a.run(cmd)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringSliceVar(&a.req.Waive, "waive", nil, "gates that are left out: soak, health, verify, checks, approvals, window, freeze, same")
	return cmd
}

func newPin(g *globals) *cobra.Command {
	a := &asking{g: g, req: api.PromoteRequest{Act: promote.Pin}}
	var lift bool
	cmd := &cobra.Command{
		Use: "pin ENVIRONMENT", Short: "Promote nothing into an environment for a time", Long: pinHelp, Args: exactly(1, "ENVIRONMENT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.req.Environment = args[0]
			if lift {
				a.req.Act, a.pinFor = promote.Unpin, ""
			}
			return a.run(cmd)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&a.pinFor, "for", "", "for how long: 24h, 7d")
	cmd.Flags().BoolVar(&lift, "lift", false, "end the pin that stands")
	return cmd
}

// between is a number of arguments.
func between(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usageError{fmt.Errorf("expected %s", what)}
		}
		return nil
	}
}

// run shows what would be done, and does it.
func (a *asking) run(cmd *cobra.Command) error {
	ctx, client, out := cmd.Context(), a.g.client(), cmd.OutOrStdout()
	if a.pinFor != "" {
		d, err := promote.ParseDuration(a.pinFor)
		if err != nil {
			return usageError{err}
		}
		a.req.PinFor = time.Duration(d).Milliseconds()
	}
	if a.req.By == "" {
		a.req.By = whoRuns()
	}
	dry := a.req
	dry.DryRun = true
	p, err := client.Promote(ctx, dry)
	if err != nil {
		return err
	}
	if p, err = a.awaitGates(ctx, client, dry, p, cmd.ErrOrStderr()); err != nil {
		return err
	}
	text := a.g.output == "" || a.g.output == "text"
	if text {
		printPromotion(out, p)
	}
	goOn := !a.req.DryRun && !p.Already && p.Verdict.State == promote.Open
	if goOn && text && !a.yes && isTerminal(out) && !confirm(cmd, fmt.Sprintf("%s %s?", p.Act, p.Environment)) {
		return nil
	}
	if goOn { // what was shown, whatever goes by that name now
		a.req.Source, a.req.Render, a.req.Over = p.Source, p.Render, p.Over
		if p, err = client.Promote(ctx, a.req); err != nil {
			return err
		}
	}
	if !text {
		if err := a.g.print(out, p, nil); err != nil {
			return err
		}
	} else if p.Found {
		fmt.Fprintf(out, "commit %.12s is on %s already, made by %s\n", p.Commit, strings.TrimPrefix(p.Ref, "refs/heads/"), cmp.Or(p.By, "somebody"))
	} else if p.Commit != "" {
		fmt.Fprintf(out, "commit %.12s is on %s\n", p.Commit, strings.TrimPrefix(p.Ref, "refs/heads/"))
	}
	switch {
	case p.Commit != "" && !a.noAwait:
		return awaitActive(ctx, client, p, cmd.ErrOrStderr())
	case p.Verdict.State != promote.Open && !p.Already:
		return errors.New("its gates are closed")
	}
	return nil
}

// awaitGates asks again until the gates are open, if that is wanted.
func (a *asking) awaitGates(ctx context.Context, client *api.Client, dry api.PromoteRequest, p api.Promoted, progress io.Writer) (api.Promoted, error) {
	said := ""
	dry.Source, dry.Render = p.Source, p.Render // the commit that was meant, though FROM goes on to another
	for a.wait && p.Verdict.State == promote.Waiting && !p.Already {
		var texts []string
		for _, g := range p.Verdict.Blocks() {
			texts = append(texts, g.Why())
		}
		if now := strings.Join(texts, "; "); now != said {
			fmt.Fprintln(progress, "waiting: "+now)
			said = now
		}
		select {
		case <-ctx.Done():
			return p, context.Cause(ctx)
		case <-time.After(time.Second):
		}
		next, err := client.Promote(ctx, dry)
		if err != nil {
			return p, err
		}
		p = next
	}
	return p, nil
}

// activatedWithin bounds how long a command waits until what it has put onto a branch runs.
const activatedWithin = 2 * time.Minute

// awaitActive waits until a commit is what its environment should run, or is held.
func awaitActive(ctx context.Context, client *api.Client, p api.Promoted, progress io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, activatedWithin, fmt.Errorf("commit %.12s is on its branch, and was not activated within %s: shoal status says why", p.Commit, activatedWithin))
	defer cancel()
	begun := time.Now()
	for {
		e, err := client.Envs(ctx, p.Environment)
		if err == nil && len(e.Environments) == 1 {
			switch now := e.Environments[0]; {
			case now.Commit == p.Commit:
				fmt.Fprintf(progress, "%s runs it after %d ms\n", p.Environment, time.Since(begun).Milliseconds())
				return nil
			case now.Held == p.Commit:
				var texts []string
				for _, g := range now.Verdict.Blocks() {
					texts = append(texts, g.Why())
				}
				return fmt.Errorf("commit %.12s is held: %s", p.Commit, strings.Join(texts, "; "))
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// confirm asks somebody at a terminal.
func confirm(cmd *cobra.Command, question string) bool {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !isTerminal(in) {
		return true
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s [y/N] ", question)
	var answer string
	_, _ = fmt.Fscanln(in, &answer)
	answer = strings.ToLower(answer)
	return answer == "y" || answer == "yes"
}

// whoRuns is the name of the user who runs a command, behind sudo too.
func whoRuns() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

func printPromotion(w io.Writer, p api.Promoted) {
	paint := painter(w)
	switch {
	case p.Already:
		fmt.Fprintf(w, "%s runs that already\n", p.Environment)
		return
	case p.From != "":
		fmt.Fprintf(w, "%s: %s of %s %.12s over %s\n", paint.bold(p.Environment), p.Act, p.From, p.Source, cmp.Or(fmt.Sprintf("%.12s", p.Active), "nothing"))
	default:
		fmt.Fprintf(w, "%s: %s to %.12s over %s\n", paint.bold(p.Environment), p.Act, p.Source, cmp.Or(fmt.Sprintf("%.12s", p.Active), "nothing"))
	}
	if len(p.Coming) > 0 {
		fmt.Fprintln(w, "comes in:")
		for _, c := range p.Coming {
			fmt.Fprintf(w, "  %.12s %s (%s)\n", c.Commit, c.Subject, c.Author)
		}
		if p.More > 0 {
			fmt.Fprintf(w, "  and %d more\n", p.More)
		}
	}
	if p.Report != nil {
		fmt.Fprint(w, p.Report.Text())
	}
	printGates(w, p.Verdict)
}

func printGates(w io.Writer, v promote.Verdict) {
	if len(v.Gates) == 0 {
		return
	}
	paint := painter(w)
	fmt.Fprintln(w, "gates:")
	for _, g := range v.Gates {
		line := "  " + g.String()
		switch g.State {
		case promote.Refused:
			line = paint.red(line)
		case promote.Waiting, promote.Waived:
			line = paint.yellow(line)
		case promote.Open:
		}
		fmt.Fprintln(w, line)
	}
}
