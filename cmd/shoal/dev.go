package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

func newDev(*globals) *cobra.Command {
	var o agentOptions
	var keep bool
	var images string
	var nodes int
	cmd := &cobra.Command{
		Use: "dev DIR", Short: "Run a directory of manifests on this machine, and every change of it",
		Long: `Runs agent, Git server and registry in this terminal, and makes every state of DIR a commit in a store of its own: your index,
HEAD and objects are never touched. What Git ignores is left out. Ctrl-C stops the pods and removes what was made on the machine; data
stays for the next time.

--nodes 3 does it on a ring of three: an agent for each node, as several machines run it, each in a network namespace of its own with an
address that this machine reaches. Git server and registry are those of node1, and commands ask it. To see a node lost, pull its cable:

  sudo ip -n shoal-node2-... link set eth0 down      ("ip netns" lists them)`,
		Args: exactly(1, "a directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var handedOn []string // to the agents of --nodes
			if !cmd.Flags().Changed("disk-pressure") {
				_ = cmd.Flags().Set("disk-pressure", "none") // a laptop's disk is often nearly full, and nobody would know why nothing starts
			}
			if o.logLevel == "info" && !cmd.Flags().Changed("log-level") {
				o.logLevel = "warn"
			}
			if cmd.Flags().Changed("nodes") {
				args, err := localArgs(cmd)
				if err == nil && (nodes < 1 || nodes > maxLocalNodes) {
					err = usageError{fmt.Errorf("--nodes %d: expected 1 to %d", nodes, maxLocalNodes)}
				}
				if err != nil {
					return err
				}
				handedOn = args
			}
			for flag, to := range map[string]*string{"gossip": &o.gossip, "peers": &o.peers} {
				if !cmd.Flags().Changed(flag) {
					*to = "127.0.0.1" + *to // nobody else is to come in
				}
			}
			out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
			terminal := newLive(out)
			if terminal != nil {
				out = terminal
				if isTerminal(errs) { // the same one: the log goes above the foot too
					errs, o.logFormat = terminal, cmp.Or(o.logFormat, "text")
				}
			}
			log, err := newLog(errs, o)
			if err != nil {
				return err
			}
			d := devOptions{o, args[0], images, keep, terminal}
			if nodes > 0 {
				return devNodes(cmd.Context(), d, nodes, handedOn, out, errs, log)
			}
			return dev(cmd.Context(), d, out, log)
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the pods running at the end")
	cmd.Flags().IntVar(&nodes, "nodes", 0, "run a ring of so many nodes on this machine, each in a network namespace; 1 to 9")
	cmd.Flags().StringVar(&images, "images", "", "OCI archive whose images are put into the registry first")
	return cmd
}

type devOptions struct {
	agent  agentOptions
	dir    string
	images string
	keep   bool
	live   *live // nil: no terminal
}

func dev(ctx context.Context, o devOptions, w io.Writer, log *slog.Logger) error {
	root, err := repositoryRoot(o.dir)
	if err != nil {
		return err
	}
	m, err := openMachine(ctx, o.agent, log, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "git       %s\nregistry  %s\nwatching  %s\n", m.gitURL(), m.registryAddress(), root)
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return m.run(running) })
	g.Go(func() error { m.showProgress(running, o.live, w); return nil })
	g.Go(func() error {
		if o.images != "" {
			names, err := loadArchive(running, o.images, m.registryAddress())
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "images    %s\n", strings.Join(names, " "))
		}
		return m.watchDirectory(running, root, w)
	})
	err = g.Wait()
	if ctx.Err() == nil || o.keep {
		return err
	}
	fmt.Fprintln(w, "stopping")
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return reset(end, o.agent, true)
}

// watchDirectory commits every state of a directory to the node's default branch and shows what becomes of it.
func (m *machine) watchDirectory(ctx context.Context, root string, w io.Writer) error {
	commit := func() (source.ID, error) { return commitDirectory(ctx, m.mirror, m.opt.branch, root) }
	return watchDirectory(ctx, root, w, commit, func(ctx context.Context) {
		m.pushed(ctx, w)
		m.announce(ctx, w)
	})
}

// watchDirectory has every state of a directory committed, and what becomes of it shown. A newer state does not wait for
// the roll-out of the one before: its showing is ended.
func watchDirectory(ctx context.Context, root string, w io.Writer, commit func() (source.ID, error), show func(ctx context.Context)) error {
	const pause = 200 * time.Millisecond // between looks; a look of an unchanged tree reads names and times alone
	var last string
	var committed source.ID
	stop := func() {} // ends what is shown of the last commit
	defer func() { stop() }()
	for {
		now, err := fingerprint(root)
		if err != nil {
			return err
		}
		if now != last {
			last = now
			id, err := commit()
			if err != nil {
				fmt.Fprintln(w, err)
			} else if id != committed {
				committed = id
				stop()
				stop = begin(ctx, show)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// begin sets f going; the function it returns ends it.
func begin(ctx context.Context, f func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		f(ctx)
	}()
	return func() { cancel(); <-over }
}

// fingerprint changes when a file below root does: names, sizes and times of change.
func fingerprint(root string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile: the next look sees it
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d %d %o\n", path, info.Size(), info.ModTime().UnixNano(), info.Mode())
		return nil
	})
	return string(h.Sum(nil)), err
}

// commitDirectory writes the directory's state as a commit on a branch of a store of ours. An unchanged tree makes no
// commit.
func commitDirectory(ctx context.Context, mirror *gitsync.Mirror, branch, root string) (source.ID, error) {
	tree, err := source.FromFS(os.DirFS(root), source.FSOptions{Ignore: gitIgnored(ctx, root)})
	if err != nil {
		return "", err
	}
	ref := source.FullRefName(branch)
	head, _, err := sourcePart{Mirror: mirror}.Head(ctx, ref)
	if err != nil {
		return "", err
	}
	c := source.Commit{Message: "working tree of " + root + "\n"}
	c.Author = source.Person{Name: "shoal dev", Email: "dev@shoal.local", When: time.Now()}
	c.Committer = c.Author
	return mirror.Write(ctx, ref, head, tree, c)
}

// announce waits until the node ports answer HTTP with 200 and prints where, for people to click on.
func (m *machine) announce(ctx context.Context, w io.Writer) {
	var urls []string
	for _, p := range m.agent.Tables().Ports {
		if p.NodePort != 0 && p.Protocol == "tcp" {
			urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", p.NodePort))
		}
	}
	announce(ctx, w, urls)
}

// announce prints the URLs as they answer with 200. What speaks something else, or does not answer within half a minute,
// is passed over.
func announce(ctx context.Context, w io.Writer, urls []string) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := &http.Client{Timeout: 2 * time.Second}
	for _, url := range urls {
		for ctx.Err() == nil {
			if answers(ctx, client, url) {
				fmt.Fprintf(w, "ready: %s\n", url)
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func answers(ctx context.Context, client *http.Client, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
