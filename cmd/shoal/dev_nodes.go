package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/internal/durable"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	"github.com/shoal-dev/shoal/nodeagent/peers"
)

// maxLocalNodes is how many nodes one machine plays at most.
const maxLocalNodes = 9

// wholeWithin is how long the nodes of a ring on one machine may take until all are ready.
const wholeWithin = 2 * time.Minute

// localRing is a ring on one machine: agents like those of several machines, each in a network namespace of its own. This
// process starts and ends them, commits and pushes the directory as its user would, and shows what they say.
type localRing struct {
	opt   devOptions
	out   io.Writer
	log   *slog.Logger
	base  string // directory of the nodes' data
	net   localNet
	nodes []*localNode
}

// localFacts are what is kept of a ring on one machine for the next time.
type localFacts struct {
	Nodes int          `json:"nodes"`
	Range netip.Prefix `json:"range"` // the nodes' addresses; nodes find each other by them
}

// notLocal are the agent's flags that a ring on one machine gives its nodes itself, or that make no sense there.
var notLocal = []string{"node-name", "address", "listen", "gossip", "peers", "join", "token", "repository", "repository-token", "repository-key", "repository-known-hosts", "keep"}

// localArgs are the flags that are handed on to each node's agent.
func localArgs(cmd *cobra.Command) (args []string, err error) {
	known := newAgent(nil).Flags()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch {
		case slices.Contains(notLocal, f.Name):
			err = usageError{fmt.Errorf("--%s does not go with --nodes", f.Name)}
		case known.Lookup(f.Name) == nil || slices.Contains([]string{"data-dir", "run-dir", "log-dir", "log-level", "log-format"}, f.Name):
		case f.Name == "label":
			labels, _ := cmd.Flags().GetStringToString(f.Name)
			for _, k := range sortedKeys(labels) {
				args = append(args, "--label", k+"="+labels[k])
			}
		default:
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	return args, err
}

// devNodes runs a directory on a ring of count nodes on this machine, until ctx ends.
func devNodes(ctx context.Context, o devOptions, count int, args []string, out, errs io.Writer, log *slog.Logger) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("nodes need root, for namespaces, mounts and nftables: sudo shoal dev --nodes")
	}
	if o.agent.gitPort == 0 {
		return usageError{errors.New("--git-port 0 does not go with --nodes: the directory is pushed there")}
	}
	root, err := repositoryRoot(o.dir)
	if err != nil {
		return err
	}
	base, err := filepath.Abs(filepath.Join(o.agent.dataDir, "nodes"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return err
	}
	unlock, err := lockLocal(filepath.Join(base, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	r := &localRing{opt: o, out: out, log: log, base: base}
	r.net.mark = fmt.Sprintf("%.3x", sha256.Sum256([]byte(base)))
	r.net.record = filepath.Join(o.agent.runDir, "forwarding-"+r.net.mark)
	if err := r.clear(ctx); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if err := r.facts(count); err != nil {
		return err
	}
	r.setNodes(count, args, errs)
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		err = errors.Join(err, r.clear(end))
	}()
	return r.live(ctx, root)
}

// lockLocal has one process at a time run the ring that lies in a directory.
func lockLocal(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another `shoal dev --nodes` runs the ring in %s: choose another --data-dir and --run-dir", filepath.Dir(path))
	}
	return func() { f.Close() }, nil
}

// facts settles how many nodes there are, and their addresses.
func (r *localRing) facts(count int) error {
	path := filepath.Join(r.base, "ring.json")
	var facts localFacts
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &facts)
	}
	pods, services, bad := r.opt.agent.ranges()
	switch {
	case bad != nil:
		return bad
	case errors.Is(err, fs.ErrNotExist):
		if facts.Range, err = freeRange(pods, services); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("%s: %w; remove %s to begin a new ring", path, err, r.base)
	case facts.Nodes > count:
		return fmt.Errorf("the ring in %s has %d nodes: say --nodes %d, or remove that directory to begin a new one", r.base, facts.Nodes, facts.Nodes)
	default:
		routed, err := routedRanges()
		if err != nil {
			return err
		}
		if with := overlapping(facts.Range, routed); with != nil {
			return fmt.Errorf("the ring in %s has the addresses %s, and this machine has a route to %s now: remove that directory to begin a new one", r.base, facts.Range, with)
		}
	}
	r.net.prefix, facts.Nodes = facts.Range, count
	if b, err = json.Marshal(facts); err != nil {
		return err
	}
	return durable.WriteFile(path, append(b, '\n'))
}

func (r *localRing) setNodes(count int, args []string, errs io.Writer) {
	a := r.opt.agent
	for i := range count {
		n := r.node(fmt.Sprintf("node%d", i+1))
		n.address = r.net.address(i + 1)
		n.args = append(append([]string{}, args...), "--log-level", a.logLevel, "--log-format", "text")
		n.says = &lineWriter{w: errs, prefix: n.name + ": "}
		if i > 0 {
			n.args = append(n.args, "--git-port", "0", "--registry-port", "0")
		}
		r.nodes = append(r.nodes, n)
	}
}

// node is a node by its name.
func (r *localRing) node(name string) *localNode {
	a := r.opt.agent
	return &localNode{
		name: name, namespace: r.net.namespace(name),
		data: filepath.Join(r.base, name), run: filepath.Join(a.runDir, name), log: filepath.Join(a.logDir, name),
	}
}

// live runs the ring until ctx ends or a part fails.
func (r *localRing) live(ctx context.Context, root string) error {
	var names []string
	for _, n := range r.nodes {
		names = append(names, n.name)
		if err := os.MkdirAll(n.run, 0o755); err != nil { // by these the next run knows what there is to remove
			return err
		}
	}
	if err := r.linkSocket(); err != nil {
		return err
	}
	if err := r.net.make(names); err != nil {
		return err
	}
	r.reportBlockers(ctx)
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return r.openDoors(running, g) })
	g.Go(func() error {
		if err := r.assemble(running, g); err != nil {
			return err
		}
		r.introduce(root)
		g.Go(func() error { r.showProgress(running); return nil })
		if err := r.loadImages(running); err != nil {
			return err
		}
		return r.watchDirectory(running, root)
	})
	err := g.Wait()
	if ctx.Err() != nil {
		fmt.Fprintln(r.out, "stopping")
		return nil
	}
	return err
}

// linkSocket has commands reach the first node where they look for an agent.
func (r *localRing) linkSocket() error {
	link := filepath.Join(r.opt.agent.runDir, "agent.sock")
	if _, err := api.NewClient(link).Status(context.Background()); err == nil {
		return fmt.Errorf("an agent answers on %s: choose another --run-dir", link)
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(filepath.Join(r.nodes[0].name, "agent.sock"), link)
}

// openDoors has the first node's Git server and registry answer on this machine's loopback, and this machine's resolver
// on the nodes'.
func (r *localRing) openDoors(ctx context.Context, g *errgroup.Group) error {
	for what, port := range map[string]int{"git": r.opt.agent.gitPort, "registry": r.opt.agent.registryPort} {
		if port == 0 {
			continue
		}
		l, err := openDoor(what, port)
		if err != nil {
			return err
		}
		through := dialIn(r.nodes[0].namespace, l.Addr().String())
		g.Go(func() error { return keepDoor(ctx, l, through) })
	}
	for _, n := range r.nodes {
		if err := leadResolvers(ctx, g, n.namespace, r.log); err != nil {
			return err
		}
	}
	return nil
}

// assemble starts the agents, has those join that are not in the ring yet, and waits until all are ready.
func (r *localRing) assemble(ctx context.Context, g *errgroup.Group) error {
	begun := time.Now()
	start := func(n *localNode) { g.Go(func() error { return n.keep(ctx) }) }
	rings := make([]string, len(r.nodes))
	for i, n := range r.nodes {
		var err error
		if rings[i], err = peers.Membership(filepath.Join(n.data, "peers")); err != nil {
			return err
		}
		if rings[i] != "" && rings[i] != rings[0] {
			return fmt.Errorf("%s and %s are of two rings: remove %s to begin a new one", r.nodes[0].data, n.data, r.base)
		}
		if i == 0 || rings[i] != "" {
			start(n)
		}
	}
	first := r.nodes[0].client()
	if err := await(ctx, begun, func() error { _, err := first.Status(ctx); return err }); err != nil {
		return err
	}
	for i, n := range r.nodes {
		if i == 0 || rings[i] != "" {
			continue
		}
		token, err := first.CreateToken(ctx, time.Hour)
		if err != nil {
			return fmt.Errorf("a token for %s: %w", n.name, err)
		}
		n.token, n.args = token.Text, append(n.args, "--join", token.Address)
		start(n)
	}
	err := await(ctx, begun, func() error {
		list, err := first.Ring(ctx, false)
		if err != nil {
			return err
		}
		var not []string
		for _, n := range list.Nodes {
			if n.State != "Ready" {
				not = append(not, n.Name+" is "+n.State)
			}
		}
		if len(not) > 0 || len(list.Nodes) < len(r.nodes) {
			return fmt.Errorf("%d of %d nodes have joined; %s", len(list.Nodes), len(r.nodes), strings.Join(not, ", "))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, n := range r.nodes {
		n.up.Store(true)
	}
	return nil
}

// await tries until f has no error, or wholeWithin is over since begun.
func await(ctx context.Context, begun time.Time, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Since(begun) > wholeWithin {
			return fmt.Errorf("the ring is not whole after %s: %w", wholeWithin, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// introduce says where everything is.
func (r *localRing) introduce(root string) {
	a := r.opt.agent
	for _, n := range r.nodes {
		fmt.Fprintf(r.out, "%-9s %s\n", n.name, n.address)
	}
	if a.gitPort != 0 {
		fmt.Fprintf(r.out, "git       http://127.0.0.1:%d/repo.git\n", a.gitPort)
	}
	if a.registryPort != 0 {
		fmt.Fprintf(r.out, "registry  127.0.0.1:%d\n", a.registryPort)
	}
	look := "sudo shoal nodes"
	if a.runDir != defaultRunDir {
		look = "sudo shoal --server " + filepath.Join(a.runDir, "agent.sock") + " nodes"
	}
	fmt.Fprintf(r.out, "watching  %s\nlook      %s\n", root, look)
}

// loadImages puts the images of --images into the registry.
func (r *localRing) loadImages(ctx context.Context) error {
	if r.opt.images == "" {
		return nil
	}
	names, err := loadArchive(ctx, r.opt.images, fmt.Sprintf("127.0.0.1:%d", r.opt.agent.registryPort))
	if err == nil {
		fmt.Fprintf(r.out, "images    %s\n", strings.Join(names, " "))
	}
	return err
}

// reportBlockers says when a firewall of this machine drops what the nodes send out, and lets it through where that was
// asked for.
func (r *localRing) reportBlockers(ctx context.Context) {
	f, err := firewall.Open(firewall.Options{Instance: r.net.mark})
	if err != nil {
		r.log.WarnContext(ctx, "other firewalls were not looked at", "err", err)
		return
	}
	defer f.Close()
	tables := wire.Tables{Cluster: r.net.prefix, PodCIDR: r.net.prefix}
	if r.opt.agent.allowForward {
		if err := f.AllowForward(ctx, tables); err != nil {
			r.log.WarnContext(ctx, "the nodes are not let through another firewall", "err", err)
		}
	}
	blockers, err := f.Blockers(ctx, tables)
	if err != nil {
		r.log.WarnContext(ctx, "other firewalls were not looked at", "err", err)
	}
	for _, b := range blockers {
		if b.Hook == "forward" {
			r.log.WarnContext(ctx, "a firewall keeps the nodes from other networks: images of other registries cannot be pulled", "whose", b.Whose, "chain", b.Chain, "let them through", strings.Join(b.Remedy, "; "))
		}
	}
}

// clear removes what this ring made on the machine, now or in an earlier run that had no end. Data stays.
func (r *localRing) clear(ctx context.Context) error {
	runs, err := filepath.Glob(filepath.Join(r.opt.agent.runDir, "node[1-9]"))
	if err != nil {
		return err
	}
	var g errgroup.Group
	for _, run := range runs {
		n := r.node(filepath.Base(run))
		g.Go(func() error {
			if _, err := os.Stat(filepath.Join(netnsDir, n.namespace)); errors.Is(err, fs.ErrNotExist) {
				if err := newNamespace(n.namespace); err != nil {
					return err
				}
			}
			if err := n.reset(ctx); err != nil {
				return err
			}
			return os.RemoveAll(n.run)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	problems := []error{r.net.remove()}
	if f, err := firewall.Open(firewall.Options{Instance: r.net.mark}); err == nil {
		problems = append(problems, f.Purge(ctx))
		f.Close()
	}
	link := filepath.Join(r.opt.agent.runDir, "agent.sock")
	if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, "node1/") {
		problems = append(problems, os.Remove(link))
	}
	return errors.Join(problems...)
}
