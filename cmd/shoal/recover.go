package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/ledger"
	"github.com/shoal-dev/shoal/nodeagent/store"
)

func newRecover() *cobra.Command {
	var dataDir string
	var skip uint64
	cmd := &cobra.Command{
		Use: "recover --skip INDEX", Short: "Help an agent over an entry of its ledger", Args: exactly(0, "no arguments"),
		Long: `Marks one entry of this node's ledger as skipped: the next agent takes it as if it had changed nothing. For an entry that no
agent can step, as its log says with the index. Run it on every node alike, while the agent is stopped.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if skip == 0 {
				return usageError{errors.New("expected --skip INDEX: the index of the entry, from the agent's log")}
			}
			dir, err := store.Open(dataDir, nil)
			if err != nil {
				return err
			}
			defer dir.Close()
			if err := ledger.Skip(dir.Path("ledger"), skip); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "entry %d will be skipped\n", skip)
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", defaultDataDir, "the agent's")
	cmd.Flags().Uint64Var(&skip, "skip", 0, "index of the entry")
	return cmd
}
