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
	var cut, alone bool
	var ring string
	cmd := &cobra.Command{
		Use: "recover --skip INDEX | --cut | --alone", Short: "Help an agent over an entry of its ledger, or over the loss of most machines", Args: exactly(0, "no arguments"),
		Long: `Works on this node's ledger while the agent is stopped.

--skip INDEX marks one entry as skipped: the next agent takes it as if it had changed nothing. For an entry that no agent can step, as
its log says with the index. Run it on every node alike.

--cut lets the ledger go on without what follows the first damaged entry, for a disk that gave back other bytes than were written, when there is
no copy to restore. What was decided after that entry is forgotten: the agent judges the newest commit again. The damaged files are kept in
the ledger's quarantine. A ledger that is not damaged is left alone. One of several voters begins anew instead (shoal reset, and join): the
others have what would be cut off.

--alone makes this node the only voter of its ring, when most of the voters are lost for good and nothing can be decided any more. It goes on
with all entries it has. Should others of the ring answer, it refuses; what they still have must not come back.

--ring ID, the ring's identity in full, says that you know better.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ways := 0
			for _, way := range []bool{skip != 0, cut, alone} {
				if way {
					ways++
				}
			}
			switch {
			case ways == 0:
				return usageError{errors.New("expected --skip INDEX, the index of the entry from the agent's log, or --cut, or --alone")}
			case ways > 1:
				return usageError{errors.New("expected one of --skip, --cut and --alone: first one, then the agent, then the other")}
			case ring != "" && skip != 0:
				return usageError{errors.New("--ring goes with --cut and --alone")}
			}
			if _, err := os.Stat(filepath.Join(dataDir, "ledger")); err != nil {
				return fmt.Errorf("%s has no ledger (--data-dir): %w", dataDir, err)
			}
			dir, err := store.Open(dataDir, nil)
			if err != nil {
				return err
			}
			defer dir.Close()
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			switch {
			case alone:
				return goAlone(cmd.Context(), cmd.OutOrStdout(), dir, ring, log)
			case cut:
				if err := mayCut(dir, ring); err != nil {
					return err
				}
				return cutLedger(cmd.OutOrStdout(), dir.Path("ledger"), log)
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
	cmd.Flags().BoolVar(&alone, "alone", false, "go on as the only voter: the others are lost for good")
	cmd.Flags().StringVar(&ring, "ring", "", "identity of the ring, in full: to do it although it is refused")
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
