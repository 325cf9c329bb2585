package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/cluster"
)

func newVersion(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "This binary's version", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Version string `json:"version"`
				Engine  int    `json:"engine"` // the engine version it brings
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{version, cluster.EngineVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return g.print(cmd.OutOrStdout(), v, func(w io.Writer) {
				fmt.Fprintf(w, "shoal %s, engine %d, %s %s/%s\n", v.Version, v.Engine, v.Go, v.OS, v.Arch)
			})
		},
	}
	g.outputFlag(cmd)
	return cmd
}
