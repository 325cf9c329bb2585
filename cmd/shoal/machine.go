package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/wire"
	"github.com/shoal-dev/shoal/internal/residence"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/containers"
	"github.com/shoal-dev/shoal/nodeagent/containers/embedded"
	"github.com/shoal-dev/shoal/nodeagent/dns"
	"github.com/shoal-dev/shoal/nodeagent/doors"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	"github.com/shoal-dev/shoal/nodeagent/githost"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
	"github.com/shoal-dev/shoal/nodeagent/identities"
	"github.com/shoal-dev/shoal/nodeagent/ledger"
	"github.com/shoal-dev/shoal/nodeagent/links"
	"github.com/shoal-dev/shoal/nodeagent/peers"
	"github.com/shoal-dev/shoal/nodeagent/probes"
	"github.com/shoal-dev/shoal/nodeagent/registry"
	"github.com/shoal-dev/shoal/nodeagent/renderer"
	"github.com/shoal-dev/shoal/nodeagent/ring"
	"github.com/shoal-dev/shoal/nodeagent/store"
	"github.com/shoal-dev/shoal/nodeagent/tunnel"
	"github.com/shoal-dev/shoal/nodeagent/volumes"
)

// machine is a node with all its parts, wired.
type machine struct {
	opt        agentOptions
	log        *slog.Logger
	trial      *trial // nil: there is none
	dir        *store.Dir
	content    *store.Content
	containers *containers.Runtime
	ledger     *ledger.Ledger[*cluster.State, cluster.Outcome]
	links      *links.Links
	tunnel     *tunnel.Tunnel
	firewall   *firewall.Firewall
	dns        *dns.Server
	volumes    *volumes.Volumes
	probes     *probes.Prober
	ring       *ring.Ring
	peers      *peers.Peers
	peering    peering
	joinedKeys [][]byte // of the gossip, from who took us in
	gossip     gossipPart
	rotating   sync.Mutex   // held while this node drives an exchange of keys
	adopted    []source.Ref // that the mirror has taken over from the ledger
	keeper     *nodeagent.Keeper
	disk       *nodeagent.DiskWatch
	collecting sync.Mutex // held while garbage is collected
	leases     *nodeagent.Leases
	mirror     *gitsync.Mirror
	renderer   *renderer.Renderer
	planner    *renderer.Renderer // of plans
	renders    *nodeagent.OwnRenders
	identities *identities.Store
	claims     *nodeagent.Claims
	agent      *nodeagent.Agent
	deployer   *nodeagent.Deployer
	previewing *nodeagent.Previewing
	doors      *doors.Doors
	node       *nodeagent.Node
	journal    *nodeagent.Journal
	looks      *looks
	flows      *flowWatch
	socket     net.Listener
	listeners  map[string]net.Listener
	address    netip.Addr
	ringFacts  cluster.Ring
	sourceMu   sync.Mutex // guards what follows
	sourceNow  api.Source
	warnings   []string // of this host
	inClear    []string // warnings of nodes that nothing is encrypted for
	pulls      pulls
	clocks     clocks
	ownPush    atomic.Int64  // until when a push to this node is judged by who shows it, ms since 1970; 0: none is
	pushShown  chan struct{} // it is over
	closers    []func() error
	stages     stages
	downMu     sync.Mutex // guards what follows
	down       bool       // pods were ended, and are not to start here
}

// gcPercent is how much garbage the agent lets gather, in percent of what it holds, before it collects it: while 100 pods
// start at once that takes 6 % of the machine's time at 40, and 3 % at 100. When all is quiet memory is given back
// anyway (package residence). GOGC overrules it.
const gcPercent = 100

// openMachine opens the parts in the order in which they need each other. What was opened is closed again if a
// later part fails.
func openMachine(ctx context.Context, o agentOptions, log *slog.Logger, t *trial) (_ *machine, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the agent needs root, for namespaces, mounts and nftables: sudo shoal agent")
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	m := &machine{opt: o, log: log, trial: t, journal: nodeagent.NewJournal(), listeners: map[string]net.Listener{}, pushShown: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.address, err = nodeAddress(o.address); err != nil {
		return nil, err
	}
	if _, err := parseTaints(o.taints); err != nil {
		return nil, err
	}
	if _, err := o.diskLimits(); err != nil {
		return nil, err
	}
	if err := o.checkWireguard(); err != nil {
		return nil, err
	}
	for _, open := range []func(context.Context) error{
		m.openStore, m.openMembership, m.openListeners, m.openPeers, m.openLedger, m.openNetwork, m.openContainers, m.openKeeping, m.openPods, m.openSource,
	} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	m.wire()
	return m, nil
}

// onClose registers what gives a part back.
func (m *machine) onClose(f func() error) { m.closers = append(m.closers, f) }

// close gives the parts back, the newest first. Containers go on.
func (m *machine) close() {
	for _, v := range slices.Backward(m.closers) {
		if err := v(); err != nil && !errors.Is(err, net.ErrClosed) { // servers close their listeners
			m.log.Warn("close", "err", err)
		}
	}
	m.closers = nil
}

func (m *machine) openStore(context.Context) (err error) {
	if m.dir, err = store.Open(m.opt.dataDir, m.log); err != nil {
		return err
	}
	m.onClose(m.dir.Close)
	m.content, err = store.OpenContent(m.dir.Path("content"), 32<<20, m.log)
	return err
}

// openListeners takes the ports before anything is changed, so that a taken one is said at once.
func (m *machine) openListeners(context.Context) (err error) {
	if m.socket, err = api.Listen(filepath.Join(m.opt.runDir, "agent.sock")); err != nil {
		return err
	}
	m.onClose(m.socket.Close)
	for name, port := range map[string]int{"git": m.opt.gitPort, "registry": m.opt.registryPort} {
		if port == 0 {
			continue
		}
		at := net.JoinHostPort(m.opt.listen, strconv.Itoa(port))
		l, err := net.Listen("tcp", at)
		if err != nil {
			return fmt.Errorf("%s server: %w%s", name, err, holder(port))
		}
		m.listeners[name] = l
		m.onClose(l.Close)
	}
	return nil
}

func (m *machine) openNetwork(ctx context.Context) error {
	ring, node, err := m.facts()
	if err != nil {
		return err
	}
	instance := m.dir.Node.Instance()
	m.ringFacts = ring
	server := wire.DNSAddress(ring.ServiceCIDR)
	if err := overlap(ring.PodCIDR, ring.ServiceCIDR, instance); err != nil {
		return err
	}
	if m.tunnel, err = newTunnel(m.opt, m.dir, m.log); err != nil {
		return err
	}
	m.onClose(func() error { m.tunnel.Close(); return nil })
	m.links, err = links.Open(links.Options{
		Instance: instance, PodCIDR: node.PodCIDR, ServiceCIDR: ring.ServiceCIDR, DNS: server,
		Tunnel: m.tunnel, Encrypt: m.opt.encrypts(), Record: filepath.Join(m.opt.runDir, "sysctls"), Log: m.log,
	})
	if err != nil {
		return err
	}
	m.onClose(func() error { m.links.Close(); return nil })
	if err := m.links.EnsureNode(ctx); err != nil {
		return err
	}
	if err := m.openTunnel(ctx); err != nil {
		return err
	}
	if m.firewall, err = firewall.Open(firewall.Options{Instance: instance, Log: m.log}); err != nil {
		return err
	}
	m.onClose(func() error { m.firewall.Close(); return nil })
	if err := m.openDNS(ctx, server); err != nil {
		return err
	}
	return m.openRing(ctx, ring)
}

func (m *machine) openContainers(ctx context.Context) (err error) {
	shim, runc := m.opt.shim, m.opt.runc
	if shim == "" {
		if shim, err = embedded.Unpack(m.dir.Path("bin"), embedded.Shim); err != nil {
			return err
		}
	}
	if runc == "" {
		if runc, err = embedded.Unpack(m.dir.Path("bin"), embedded.Runc); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := containers.Options{
		Instance: m.dir.Node.Instance(), DataDir: m.dir.Path("containerd"), RunDir: m.containersRunDir(), LogDir: m.opt.logDir,
		Shim: shim, Runc: runc, Daemon: []string{self, roleContainerd}, Private: m.volumesOptions().Private(), Deadline: m.leaseFile(), Peers: m.stores, Hold: m.dns.Files, Log: m.log,
	}
	if m.opt.containerd != "" {
		o.Daemon, o.Address = nil, m.opt.containerd
	}
	if m.containers, err = containers.Open(ctx, o); err != nil {
		return err
	}
	m.onClose(m.containers.Close)
	inside, err := registry.New(ctx, registry.Options{
		Content: m.containers.Content(), Images: m.containers.Images(), Leases: m.containers.Client().LeasesService(),
		Namespace: m.containers.Namespace(), Inside: true, Log: m.log,
	})
	if err != nil {
		return err
	}
	m.onClose(inside.Close)
	m.peering.containers.Store(m.containers)
	m.peering.registry.Store(inside)
	return nil
}

func (m *machine) openPods(context.Context) (err error) {
	if m.volumes, err = volumes.Open(m.volumesOptions()); err != nil {
		return err
	}
	m.probes = newProber(m)
	return m.openIdentities()
}

func (m *machine) openSource(ctx context.Context) (err error) {
	auth := gitsync.Auth{Token: m.opt.repositoryToken, KnownHosts: m.opt.knownHosts}
	if m.opt.repositoryKey != "" {
		if auth.Key, err = os.ReadFile(m.opt.repositoryKey); err != nil {
			return fmt.Errorf("--repository-key: %w", err)
		}
	}
	m.mirror, err = gitsync.Open(ctx, gitsync.Options{
		Dir: m.dir.Path("git"), URL: m.opt.repository, Branch: m.opt.branch, Auth: auth, Interval: m.opt.poll, Log: m.log,
		Agree: m.agreeRefs, Every: m.forgeEvery,
	})
	if err != nil {
		return err
	}
	m.onClose(func() error { m.mirror.Close(); return nil })
	inside, err := githost.New(githost.Options{Repo: m.mirror, Inside: true, Log: m.log})
	if err != nil {
		return err
	}
	m.peering.mirror.Store(m.mirror)
	m.peering.git.Store(inside)
	m.openForge()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m.renderer = renderer.New(renderer.Options{Command: []string{self, roleRenderer}, Log: m.log})
	m.onClose(func() error { m.renderer.Close(); return nil })
	m.planner = renderer.New(renderer.Options{Command: []string{self, roleRenderer}, Cache: 16 << 20, Log: m.log})
	m.onClose(func() error { m.planner.Close(); return nil })
	m.renders, err = nodeagent.OpenOwnRenders(m.dir.Path("renders"))
	return err
}

// wire joins the parts: the loop, and what makes commits the desired state.
func (m *machine) wire() {
	ledger := newLedgerPart(m)
	m.claims = m.newClaims()
	m.doors = doors.New(doors.Options{Wake: func(ctx context.Context, preview string) error { return m.node.WakePreview(ctx, preview) }, Log: m.log})
	m.agent = nodeagent.New(nodeagent.Options{
		Node: m.dir.Node.ID, Ledger: ledger, Content: m.content, Containers: containersPart{m.containers, &m.pulls, m.taggedAs}, Links: linksPart{m.links, m.opt.wireguard == wireguardStrict, m.tellClear},
		Firewall: firewallPart{m.firewall, m.opt.wireguard == wireguardStrict}, Names: namesPart{m.dns}, Doors: m.doors, Volumes: newVolumesPart(m, m.ringFacts, wire.DNSAddress(m.ringFacts.ServiceCIDR)), Probes: probesPart{m.probes}, Lease: m.leases, Secrets: m.identities, Renders: m.renders, Resync: m.opt.resync, Log: m.log,
	}, m.journal)
	m.deployer = nodeagent.NewDeployer(nodeagent.DeployOptions{
		Node: m.dir.Node.ID, Ring: ringPart{m}, Votes: nodeagent.NewVotes(), Renders: m.renders, Claims: m.claims,
		Ledger: ledger, Content: m.content, Source: sourcePart{m.mirror, m.bring, m.unpushed}, Renderer: newRendererPart(m.renderer), Images: containersPart{m.containers, &m.pulls, m.taggedAs},
		Lander: landerPart{m}, Merger: mergerPart{m.mirror, m.agreedRefs}, Sign: m.signAsRing, Branch: source.FullRefName(m.opt.branch), Journal: m.journal, Log: m.log,
	})
	m.node = &nodeagent.Node{
		Facts: m.ringFactsFor(),
		Agent: m.agent, Deployer: m.deployer, Claims: m.claims, Source: m.sourceStatus, Mirror: m.mirror, Renderer: newRendererPart(m.planner), Version: version, LogDir: m.opt.logDir, Warnings: m.hostWarnings, Pulls: m.pulls.list, Down: m.shutdown,
	}
	m.previewing = m.newPreviewing()
	m.node.Previewing, m.node.PeerPreviews = m.previewing, m.peerPreviews
	m.disk = newDiskWatch(m)
	m.flows = newFlowWatch(m.log)
	m.peering.deployer.Store(m.deployer)
	m.peering.node.Store(m.node)
	m.looks = newLooks(m.deployer, m.yield, m.log)
}

// run serves until ctx ends or a part fails, then gives everything back. Containers go on.
func (m *machine) run(ctx context.Context) error {
	defer m.close()
	defer m.farewell()
	g, ctx := errgroup.WithContext(ctx)
	m.stages.agent.run(ctx, g, m.agent.Run)
	g.Go(func() error { return m.probes.Run(ctx) })
	g.Go(func() error { return m.gossip.run(ctx) })
	g.Go(func() error { return m.followNodes(ctx) })
	g.Go(func() error { return m.followLeave(ctx) })
	g.Go(func() error { return m.followKeys(ctx) })
	m.stages.keeper.run(ctx, g, m.keeper.Run)
	m.stages.leases.run(ctx, g, m.leases.Run)
	g.Go(func() error { m.volumes.Watch(ctx); return nil })
	g.Go(func() error { return m.identities.Run(ctx) })
	g.Go(func() error { return api.NewServer(m.node, m.log).Serve(ctx, m.socket) })
	g.Go(func() error { return api.NewPodsServer(m.node.Here(), m.log).Serve(ctx, m.peers.Commands()) })
	g.Go(func() error { return m.looks.run(ctx) })
	g.Go(func() error { return m.promoting().Run(ctx) })
	g.Go(func() error { return m.previewing.Run(ctx) })
	g.Go(func() error { return m.pushLater(ctx) })
	g.Go(func() error { return m.followPreviews(ctx) })
	g.Go(func() error { return m.doors.Run(ctx) })
	g.Go(func() error { return m.newIdleWatch().Run(ctx) })
	g.Go(func() error { return m.newGoneWatch().Run(ctx) })
	g.Go(func() error { return m.follow(ctx) })
	g.Go(func() error { return m.renderWanted(ctx) })
	g.Go(func() error { return m.followRefs(ctx) })
	g.Go(func() error { return m.followForge(ctx) })
	g.Go(func() error { return m.claims.Run(ctx) })
	if l := m.listeners["git"]; l != nil {
		server, err := githost.New(githost.Options{
			Repo: m.mirror, Token: m.opt.gitToken, Log: m.log,
			Accept: func(context.Context, githost.Push) error { m.renderer.Warm(); return nil },
			Pushed: func(ctx context.Context, _ []source.RefUpdate, progress io.Writer) { m.pushed(ctx, progress) },
		})
		if err != nil {
			return err
		}
		mux := http.NewServeMux()
		mux.Handle("/", server)
		mux.Handle("/webhook", githost.Webhook(m.opt.webhookSecret, func() { m.mirror.Wake(); m.previewing.Wake() }))
		g.Go(func() error { return serve(ctx, l, mux) })
	}
	g.Go(func() error { return m.collect(ctx) })
	g.Go(func() error { return m.disk.Run(ctx) })
	g.Go(func() error { return m.flows.run(ctx) })
	g.Go(func() error { return m.fetchAhead(ctx) })
	g.Go(func() error { residence.Keep(ctx); return nil })
	if l := m.listeners["registry"]; l != nil {
		ahead := newUnpacker()
		server, err := registry.New(ctx, registry.Options{
			Content: m.containers.Content(), Images: m.containers.Images(), Leases: m.containers.Client().LeasesService(),
			Namespace: m.containers.Namespace(), Token: m.opt.gitToken, Log: m.log,
			Agree: m.agreeTag, Pushed: ahead.note,
		})
		if err != nil {
			return err
		}
		g.Go(func() error { defer server.Close(); return serve(ctx, l, server) })
		g.Go(func() error { return ahead.run(ctx, m.pullPushed, m.log) })
	}
	g.Go(func() error { m.lookForBlockers(ctx); return nil })
	if m.trial != nil {
		g.Go(func() error { return m.runTrial(ctx) })
	}
	m.log.InfoContext(ctx, "ready", "node", m.opt.name(), "id", m.dir.Node.ID, "git", m.gitURL(), "registry", m.registryAddress())
	return g.Wait()
}

// pullPushed makes an image ready that is in the node's own store.
func (m *machine) pullPushed(ctx context.Context, name, digest string) error {
	_, err := m.containers.Pull(ctx, name, digest, nil, nil)
	return err
}

// serve answers HTTP on l until ctx ends; requests under way get five seconds.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if s.Shutdown(end) != nil {
			s.Close()
		}
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}
