package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/nodeagent"
)

// agentOptions are the agent's flags.
type agentOptions struct {
	dataDir, runDir, logDir string
	nodeName                string
	address                 string
	zone                    string
	labels                  map[string]string
	taints                  []string
	podCIDR, serviceCIDR    string
	domain                  string
	listen                  string
	gitPort, registryPort   int
	repository, branch      string
	gitToken                string
	repositoryToken         string
	repositoryKey           string
	knownHosts              []string
	webhookSecret           string
	forgeToken              string
	gossip, peers           string
	join                    []string
	token                   string
	poll                    time.Duration
	resync                  time.Duration
	endTogether             bool // an agent that ends does not wait for others to know it: they end, too
	diskPressure            string
	runc, shim, containerd  string
	allowForward            bool
	wireguard               string
	wireguardPort           int
	logLevel                string
	logFormat               string
	trialAfter, trialLimit  time.Duration
}

// Where things lie unless flags say otherwise.
const (
	defaultDataDir = "/var/lib/shoal"
	defaultRunDir  = "/run/shoal"
	defaultLogDir  = "/var/log/pods"
)

func newAgent(*globals) *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use: "agent", Short: "Run this machine's agent", Args: exactly(0, "no arguments"),
		Long: `Runs the agent in the foreground; "shoal install" makes a systemd service of it. On an empty data directory it
makes a ring of one, usable at once: git push to http://127.0.0.1:7443/repo.git, images to localhost:5000.

SIGTERM ends the agent and leaves containers running; the next agent takes them over.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLog(cmd.ErrOrStderr(), o)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancelCause(cmd.Context())
			defer cancel(nil)
			trial := beginTrial(o, log, cancel)
			m, err := openMachine(ctx, o, log, trial)
			if err == nil {
				err = m.run(ctx)
			}
			if cmd.Context().Err() != nil {
				trial.excuse()
			}
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	o.flags(cmd)
	return cmd
}

func (o *agentOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "what outlives a reboot: Git objects, ledger, images, volumes")
	f.StringVar(&o.runDir, "run-dir", defaultRunDir, "what does not: sockets, namespaces")
	f.StringVar(&o.logDir, "log-dir", defaultLogDir, "containers' logs")
	f.StringVar(&o.nodeName, "node-name", "", "name of this node; default: the host name")
	f.StringVar(&o.address, "address", "", "this node's address for others; default: that of the default route")
	f.StringVar(&o.zone, "zone", "", "zone of this node")
	f.StringToStringVar(&o.labels, "label", nil, "label of this node, key=value, by which pods and environments choose it; may be repeated")
	f.StringArrayVar(&o.taints, "taint", nil, "taint that this node is to have when it comes into its ring, key=value:Effect; may be repeated; later: shoal taint")
	f.StringVar(&o.podCIDR, "pod-cidr", "10.42.0.0/16", "addresses of pods; fixed when the ring is made")
	f.StringVar(&o.serviceCIDR, "service-cidr", "10.43.0.0/16", "addresses of services; fixed when the ring is made")
	f.StringVar(&o.domain, "domain", "cluster.local", "DNS domain; fixed when the ring is made")
	f.StringVar(&o.listen, "listen", "127.0.0.1", "address of the Git server and the registry; beyond loopback they want --git-token")
	f.IntVar(&o.gitPort, "git-port", 7443, "port of the built-in Git server (/repo.git); 0: none")
	f.IntVar(&o.registryPort, "registry-port", 5000, "port of the built-in registry; 0: none")
	f.StringVar(&o.repository, "repository", "", "Git repository to follow (https, ssh, file); default: the built-in Git server")
	f.StringVar(&o.branch, "branch", "main", "default branch: environments are declared there")
	f.StringVar(&o.gitToken, "git-token", os.Getenv("SHOAL_GIT_TOKEN"), "token that pushes and pulls must carry; $SHOAL_GIT_TOKEN")
	f.StringVar(&o.repositoryToken, "repository-token", os.Getenv("SHOAL_REPOSITORY_TOKEN"), "token for --repository over https; $SHOAL_REPOSITORY_TOKEN")
	f.StringVar(&o.repositoryKey, "repository-key", "", "file with the private key for --repository over ssh")
	f.StringSliceVar(&o.knownHosts, "repository-known-hosts", nil, "files with the host keys for --repository over ssh; required there")
	f.StringVar(&o.forgeToken, "forge-token", os.Getenv("SHOAL_FORGE_TOKEN"), "token for the API of the forge that hosts --repository: previews of pull requests want it; $SHOAL_FORGE_TOKEN")
	f.StringVar(&o.webhookSecret, "webhook-secret", os.Getenv("SHOAL_WEBHOOK_SECRET"), "secret of a forge's webhooks to /webhook on the Git server's port; $SHOAL_WEBHOOK_SECRET")
	f.StringVar(&o.gossip, "gossip", ":7946", "address and port of the gossip among nodes; without an address, that of --address")
	f.StringVar(&o.peers, "peers", ":7947", "address and port on which other nodes are answered")
	f.StringSliceVar(&o.join, "join", nil, "nodes of the ring to join, HOST:PORT of their --peers; nothing happens if this node is in the ring already")
	f.StringVar(&o.token, "token", os.Getenv("SHOAL_TOKEN"), "token to join with, from shoal token create; $SHOAL_TOKEN")
	f.DurationVar(&o.poll, "poll", 30*time.Second, "between looks at --repository; in a ring two nodes look for all")
	f.DurationVar(&o.resync, "resync", 30*time.Second, "between looks at everything although nothing was reported")
	f.StringVar(&o.diskPressure, "disk-pressure", nodeagent.DefaultDiskLimits, "how little of a disk may be left, in percent or as an amount, before no more pods come to this node; none: never")
	f.StringVar(&o.runc, "runc", "", "runc to use; default: the one inside this binary")
	f.StringVar(&o.shim, "shim", "", "shoal-shim to use; default: the one inside this binary")
	f.StringVar(&o.containerd, "containerd-address", "", "socket of a containerd to use; default: a child of our own")
	f.BoolVar(&o.allowForward, "allow-forward", false, "add a rule where another firewall drops forwarded packets")
	f.StringVar(&o.wireguard, "wireguard", wireguardOff, "encrypt packets between pods of different nodes: off, on (with nodes that have it on) or strict (with no others at all)")
	f.IntVar(&o.wireguardPort, "wireguard-port", 51820, "UDP port of WireGuard")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&o.trialAfter, "trial-after", provenAfter, "how long a new binary must be in touch with its ring")
	f.DurationVar(&o.trialLimit, "trial-limit", trialLimit, "how long it may take to get there")
	f.BoolVar(&o.endTogether, "end-together", false, "all nodes of the ring end at the same time: none tells others")
	_, _, _ = f.MarkHidden("trial-after"), f.MarkHidden("trial-limit"), f.MarkHidden("end-together")
	f.StringVar(&o.logFormat, "log-format", "", "text or json; default: text on a terminal, json otherwise")
}

// newLog makes the agent's log: text on a terminal, JSON otherwise.
func newLog(w io.Writer, o agentOptions) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %s: expected debug, info, warn or error", o.logLevel)}
	}
	format := o.logFormat
	if format == "" {
		format = "json"
		if isTerminal(w) {
			format = "text"
		}
	}
	opt := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opt)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opt)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %s: expected text or json", o.logFormat)}
}

// ranges are the parsed CIDRs, checked.
func (o agentOptions) ranges() (pods, services netip.Prefix, err error) {
	parse := func(flag, s string, most int) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(s)
		if err != nil || !p.Addr().Is4() || p.Bits() > most {
			return p, usageError{fmt.Errorf("--%s %s: expected an IPv4 range of /%d or larger", flag, s, most)}
		}
		return p.Masked(), nil
	}
	if pods, err = parse("pod-cidr", o.podCIDR, 24); err != nil {
		return pods, services, err
	}
	if services, err = parse("service-cidr", o.serviceCIDR, 26); err != nil {
		return pods, services, err
	}
	if pods.Overlaps(services) {
		return pods, services, usageError{fmt.Errorf("--pod-cidr %s and --service-cidr %s overlap", pods, services)}
	}
	return pods, services, nil
}

func (o agentOptions) name() string {
	host, _ := os.Hostname()
	return cmp.Or(o.nodeName, host, "node")
}
