package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

const taintHelp = `Gives a node taints, which keep pods off it that do not tolerate them: key=value:NoSchedule keeps new ones off, key=value:PreferNoSchedule does
where there is another place, key=value:NoExecute also stops those that are there, at once or after the tolerationSeconds of what they tolerate. The value may
be left out. key:Effect- takes one away, key- all of a key.`

func newTaint(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "taint NODE KEY=VALUE:EFFECT... | KEY-...", Short: "Keep pods off a node that do not tolerate it", Long: taintHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError{errors.New("expected a node and taints, such as dedicated=db:NoSchedule, or dedicated- to take it away")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			changes := make([]api.Taint, 0, len(args)-1)
			for _, text := range args[1:] {
				c, err := parseTaint(text)
				if err != nil {
					return usageError{err}
				}
				changes = append(changes, c)
			}
			return g.client().Taint(cmd.Context(), args[0], changes)
		},
	}
}

// parseTaint reads one taint, or what takes one away.
func parseTaint(text string) (api.Taint, error) {
	rest, off := strings.CutSuffix(text, "-")
	if !off {
		t, err := place.ParseTaint(text)
		return api.Taint{Key: t.Key, Value: t.Value, Effect: string(t.Effect)}, err
	}
	key, effect, named := strings.Cut(rest, ":")
	check := place.Taint{Key: key, Effect: "NoSchedule"}
	if named {
		check.Effect = corev1.TaintEffect(effect)
	}
	if err := check.Check(); err != nil {
		return api.Taint{}, fmt.Errorf("taint %q: %w; expected key- or key:Effect-", text, err)
	}
	return api.Taint{Key: key, Effect: effect, Off: true}, nil
}

// parseTaints reads the agent's --taint.
func parseTaints(texts []string) (out []place.Taint, err error) {
	for _, text := range texts {
		t, err := place.ParseTaint(text)
		if err != nil {
			return nil, usageError{fmt.Errorf("--taint: %w", err)}
		}
		out = append(out, t)
	}
	return out, nil
}

// printTaints lists the nodes that have any.
func printTaints(w io.Writer, r api.Ring) {
	first := true
	for _, n := range r.Nodes {
		if len(n.Taints) == 0 {
			continue
		}
		if first {
			fmt.Fprintln(w)
			first = false
		}
		fmt.Fprintf(w, "%s is tainted: %s\n", n.Name, strings.Join(n.Taints, ", "))
	}
}
