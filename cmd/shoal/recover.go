package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent/ledger"
	"github.com/shoal-dev/shoal/nodeagent/store"
)

func newRecover() *cobra.Command {
	var dataDir string
	var skip uint64
	var cut bool
	cmd := &cobra.Command{
		Use: "recover --skip INDEX | --cut", Short: "Help an agent over an entry of its ledger", Args: exactly(0, "no arguments"),
		Long: `Works on this node's ledger while the agent is stopped.

--skip INDEX marks one entry as skipped: the next agent takes it as if it had changed nothing. For an entry that no agent can step, as
its log says with the index. Run it on every node alike.

--cut lets the ledger go on without what follows the first damaged entry, for a disk that gave back other bytes than were written, when there is
no copy to restore. What was decided after that entry is forgotten: the agent judges the newest commit again. The damaged files are kept in
the ledger's quarantine. A ledger that is not damaged is left alone.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case skip == 0 && !cut:
				return usageError{errors.New("expected --skip INDEX, the index of the entry from the agent's log, or --cut")}
			case skip != 0 && cut:
				return usageError{errors.New("expected --skip or --cut, not both: first one, then the agent, then the other")}
			}
			if _, err := os.Stat(filepath.Join(dataDir, "ledger")); err != nil {
				return fmt.Errorf("%s has no ledger (--data-dir): %w", dataDir, err)
			}
			dir, err := store.Open(dataDir, nil)
			if err != nil {
				return err
			}
			defer dir.Close()
			if cut {
				return cutLedger(cmd.OutOrStdout(), dir.Path("ledger"), slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			}
			if err := ledger.Skip(dir.Path("ledger"), skip); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "entry %d will be skipped\n", skip)
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", defaultDataDir, "the agent's")
	cmd.Flags().Uint64Var(&skip, "skip", 0, "index of the entry")
	cmd.Flags().BoolVar(&cut, "cut", false, "go on without what follows the first damaged entry")
	return cmd
}

func cutLedger(w io.Writer, dir string, log *slog.Logger) error {
	damage, last, err := ledger.Cut(dir, log)
	if err != nil {
		return err
	}
	if damage == nil {
		fmt.Fprintln(w, "the ledger is not damaged; nothing was changed")
		return nil
	}
	fmt.Fprintf(w, "%s was damaged: %s\nthe log ends at entry %d now; what was cut off is in %s\n", damage.Path, damage.Why, last, filepath.Join(dir, "quarantine"))
	return nil
}
