package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func newLogs(g *globals) *cobra.Command {
	var o api.LogOptions
	var namespace string
	var since time.Duration
	cmd := &cobra.Command{
		Use: "logs [NAMESPACE/]POD", Short: "A container's log", Args: exactly(1, "the name of a pod, or the beginning of one"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pod, err := findPod(cmd, g, namespace, args[0])
			if err != nil {
				return err
			}
			if since > 0 {
				o.Since = time.Now().Add(-since)
			}
			return g.client().Logs(cmd.Context(), pod.Namespace, pod.Name, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the pod")
	cmd.Flags().StringVarP(&o.Container, "container", "c", "", "container; default: the first")
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on until the container ends")
	cmd.Flags().BoolVarP(&o.Previous, "previous", "p", false, "the instance before the last restart")
	cmd.Flags().BoolVar(&o.Timestamps, "timestamps", false, "put the time before each line")
	cmd.Flags().IntVar(&o.Tail, "tail", -1, "only the last lines; -1 for all")
	cmd.Flags().DurationVar(&since, "since", 0, "only what is newer, such as 5m")
	return cmd
}

// findPod finds a pod by its name, or by the beginning of a name that fits one pod or several of one owner
// (then the first). "namespace/name" and deploy/name are understood.
func findPod(cmd *cobra.Command, g *globals, namespace, name string) (api.Pod, error) {
	s, err := g.client().Status(cmd.Context())
	if err != nil {
		return api.Pod{}, err
	}
	if ns, rest, ok := strings.Cut(name, "/"); ok {
		switch ns {
		case "pod", "deploy", "deployment", "job", "replicaset":
		default:
			namespace = ns
		}
		name = rest
	}
	var found []api.Pod
	owners := map[string]bool{}
	for _, p := range s.Pods {
		if namespace != "" && p.Namespace != namespace {
			continue
		}
		if p.Name == name {
			return p, nil
		}
		if strings.HasPrefix(p.Name, name) {
			found = append(found, p)
			owners[p.Namespace+" "+p.Owner] = true
		}
	}
	switch {
	case len(found) == 0:
		return api.Pod{}, fmt.Errorf("no pod is named %q, or begins with it; `shoal status` lists them", name)
	case len(owners) > 1:
		names := make([]string, len(found))
		for i, p := range found {
			names[i] = p.Namespace + "/" + p.Name
		}
		return api.Pod{}, fmt.Errorf("%q fits several pods: %s", name, strings.Join(names, ", "))
	}
	for _, p := range found {
		if p.Status == "Running" {
			return p, nil
		}
	}
	return found[0], nil
}
