package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/nodeagent/containers"
	"github.com/shoal-dev/shoal/nodeagent/containers/embedded"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/store"
	"github.com/shoal-dev/shoal/nodeagent/volumes"
)

func newReset() *cobra.Command {
	var o agentOptions
	var yes, keepData bool
	cmd := &cobra.Command{
		Use: "reset", Short: "Remove everything Shoal made on this machine", Args: exactly(0, "no arguments"),
		Long: `Stops all pods of this node and removes what carries its mark: containers, network links and rules, mounts, cgroups,
sysctls that were changed are put back. Its data directory goes too, unless --keep-data. Refuses while the agent runs. May be repeated after
an interruption.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return usageError{errors.New("this removes all pods and data of this node: say --yes")}
			}
			if os.Geteuid() != 0 {
				return errors.New("reset needs root: sudo shoal reset")
			}
			if err := reset(cmd.Context(), o, keepData); err != nil {
				return err
			}
			if keepData {
				return nil
			}
			if err := os.RemoveAll(o.dataDir); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "removed", o.dataDir)
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&yes, "yes", false, "really")
	f.BoolVar(&keepData, "keep-data", false, "keep the data directory: Git objects, ledger, images, volumes")
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "the agent's")
	f.StringVar(&o.runDir, "run-dir", defaultRunDir, "the agent's")
	f.StringVar(&o.logDir, "log-dir", defaultLogDir, "the agent's")
	f.StringVar(&o.containerd, "containerd-address", "", "the agent's: our images are taken out of that containerd")
	return cmd
}

// reset removes what carries the mark of the node in o.dataDir. Its data stays, images among it only if they are to be kept.
func reset(ctx context.Context, o agentOptions, keepImages bool) error {
	if _, err := os.Stat(filepath.Join(o.dataDir, "VERSION")); errors.Is(err, fs.ErrNotExist) {
		return nil // no agent ever ran here
	}
	dir, err := store.Open(o.dataDir, nil)
	if err != nil {
		return err
	}
	defer dir.Close()
	return errors.Join(
		resetTunnel(o, dir), resetContainers(ctx, o, keepImages, dir), resetVolumes(ctx, o, dir), resetNetwork(ctx, o, dir), os.RemoveAll(o.runDir),
	)
}

func resetContainers(ctx context.Context, o agentOptions, keepImages bool, dir *store.Dir) error {
	shim, err := embedded.Unpack(dir.Path("bin"), embedded.Shim)
	if err != nil {
		return err
	}
	runc, err := embedded.Unpack(dir.Path("bin"), embedded.Runc)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	co := containers.Options{
		Instance: dir.Node.Instance(), DataDir: dir.Path("containerd"), RunDir: filepath.Join(o.runDir, "c"), LogDir: o.logDir, Shim: shim, Runc: runc,
		Daemon: []string{self, roleContainerd}, Ending: true,
	}
	if o.containerd != "" {
		co.Daemon, co.Address = nil, o.containerd
	}
	r, err := containers.Open(ctx, co)
	if err != nil {
		return err
	}
	if keepImages {
		return r.Clear(ctx)
	}
	return r.Purge(ctx)
}

func resetVolumes(ctx context.Context, o agentOptions, dir *store.Dir) error {
	v, err := volumes.Open(volumes.Options{Dir: dir.Path("volumes"), RunDir: filepath.Join(o.runDir, "v")})
	if err != nil {
		return err
	}
	return v.Purge(ctx)
}

func resetNetwork(ctx context.Context, o agentOptions, dir *store.Dir) error {
	services := netip.MustParsePrefix("10.43.0.0/16") // any will do: what is removed is found by its mark
	l, err := links.Open(links.Options{
		Instance: dir.Node.Instance(), PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), ServiceCIDR: services, DNS: wire.DNSAddress(services),
		Record: filepath.Join(o.runDir, "sysctls"),
	})
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := firewall.Open(firewall.Options{Instance: dir.Node.Instance()})
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(f.Purge(ctx), l.Purge(ctx))
}
