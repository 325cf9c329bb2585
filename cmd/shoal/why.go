package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func newWhy(g *globals) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use: "why [KIND] [NAMESPACE/]NAME | ENVIRONMENT", Short: "Why something runs, or why it does not",
		Long: `Explains an object from what runs to the file and line it came from: the commit, who wrote it, where its
pods were placed and why, and what went wrong. KIND is a kind or its short form (deploy, po, svc, cj); without
one every object of that name is looked for.

Of an environment it says what runs there, what is next, and what that waits for: each gate with its evidence, whose turn it
is, and when it opens.

  shoal why deploy/web
  shoal why production`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{fmt.Errorf("expected an object: shoal why deploy web")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if env, sure := environmentAsked(args); env != "" && namespace == "" {
				switch w, ok, err := explainEnv(cmd.Context(), g.client(), env); {
				case ok && err == nil:
					return g.print(cmd.OutOrStdout(), w, func(out io.Writer) { printWhyEnv(out, w) })
				case ok || sure || errors.Is(err, api.ErrUnreachable):
					return err
				}
			}
			kind, name := "", args[len(args)-1]
			if len(args) == 2 {
				kind = args[0]
			} else if k, rest, ok := strings.Cut(name, "/"); ok && isKind(k) {
				kind, name = k, rest
			}
			if ns, rest, ok := strings.Cut(name, "/"); ok {
				namespace, name = ns, rest
			}
			answer, err := g.client().Why(cmd.Context(), kind, namespace, name)
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), answer, func(w io.Writer) {
				p := painter(w)
				fmt.Fprintln(w, p.bold(answer.Object))
				for _, l := range answer.Lines {
					fmt.Fprintln(w, "  "+l)
				}
				if len(answer.Events) > 0 {
					fmt.Fprintln(w, p.bold("events"))
					for _, e := range answer.Events {
						fmt.Fprintln(w, "  "+e)
					}
				}
			})
		},
	}
	g.outputFlag(cmd)
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the object")
	return cmd
}

func isKind(s string) bool {
	switch strings.ToLower(s) {
	case "po", "pod", "pods", "deploy", "deployment", "rs", "replicaset", "job", "cj", "cronjob", "svc", "service", "cm", "configmap", "secret", "ns", "namespace":
		return true
	}
	return false
}
