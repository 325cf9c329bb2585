package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/firewall"
	forgeapi "github.com/shoal-dev/shoal/nodeagent/forge"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// forgeClient is the forge that hosts the repository, once it was found out which one that is.
type forgeClient struct {
	m *machine

	mu     sync.Mutex
	client *forgeapi.Client
	tried  time.Time
}

// forgeAgainAfter is between tries to find out what forge it is.
const forgeAgainAfter = 30 * time.Second

// get is the forge; nil: there is none, or it does not say what it is.
func (f *forgeClient) get() nodeagent.Forge {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.client == nil {
		if f.m.opt.repository == "" || f.m.opt.forgeToken == "" || time.Since(f.tried) < forgeAgainAfter && !f.tried.IsZero() {
			return nil
		}
		f.tried = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		client, err := openForge(ctx, f.m.opt.repository, f.m.opt.forgeToken)
		if err != nil {
			f.m.log.WarnContext(ctx, "forge not reached, previews wait", "err", err)
			return nil
		}
		f.client = client
	}
	return forgePart{f.client}
}

func openForge(ctx context.Context, repository, token string) (*forgeapi.Client, error) {
	place, err := forgeapi.Locate(repository)
	if err != nil {
		return nil, err
	}
	if place, err = forgeapi.Probe(ctx, place, nil); err != nil {
		return nil, err
	}
	return forgeapi.New(place.Options(token))
}

// forgePart fits the forge to what the agent asks of it.
type forgePart struct{ *forgeapi.Client }

// laterError is a forge that asks to be left alone.
type laterError struct {
	error
	until time.Time
}

func (l laterError) NotBefore() time.Time { return l.until }

func later(err error) error {
	if l, ok := errors.AsType[*forgeapi.Later](err); ok {
		return laterError{err, l.NotBefore}
	}
	return err
}

func (f forgePart) Pulls(ctx context.Context, known []int) (out nodeagent.PullList, err error) {
	list, err := f.Client.Pulls(ctx, known)
	if err != nil {
		return out, later(err)
	}
	out.Complete, out.Why, out.At, out.Closed, out.Unknown = list.Complete, list.Why, list.At, list.Closed, list.Gone
	for _, p := range list.Open {
		out.Open = append(out.Open, nodeagent.OpenPull{HeadRef: p.HeadName, MergeRef: p.MergeName, Pull: preview.Pull{
			Number: p.Number, Branch: p.HeadRef, Author: p.Author, Fork: p.Fork, Draft: p.Draft, Base: p.BaseRef, Head: source.ID(p.Head),
			Opened: int64(p.Number), Updated: p.Updated.UnixMilli(), Labels: p.Labels, // numbers are given in the order of opening
		}})
	}
	return out, nil
}

func (f forgePart) Approved(ctx context.Context, number int, label string, head source.ID, seenAt time.Time) (bool, error) {
	a, err := f.Client.Approved(ctx, number, label, string(head), seenAt)
	return a.Approved, later(err)
}

// previewStatus names the mark on a commit.
const previewStatus = "shoal/preview"

// previewMarker is hidden in the one comment on a pull request.
const previewMarker = "shoal/preview"

func (f forgePart) Show(ctx context.Context, s nodeagent.Shown) error {
	err := f.SetStatus(ctx, string(s.Head), forgeapi.Status{State: forgeapi.State(s.State), Context: previewStatus, Description: s.Line, URL: s.URL, Ref: s.Branch})
	if s.Comment != "" {
		err = errors.Join(err, f.Comment(ctx, s.Number, previewMarker, s.Comment))
	}
	if s.Environment != "" && s.URL != "" {
		err = errors.Join(err, f.Deploy(ctx, forgeapi.Deployment{
			Environment: "preview/" + s.Environment, Commit: string(s.Head), Ref: s.Branch, URL: s.URL, State: forgeapi.State(s.State), Description: s.Line,
		}))
	}
	return later(err)
}

func (f forgePart) Hide(ctx context.Context, number int, environment, comment string) error {
	return later(errors.Join(f.Retire(ctx, "preview/"+environment), f.Comment(ctx, number, previewMarker, comment)))
}

// mergerPart fits the mirror to what previews ask of it.
type mergerPart struct {
	*gitsync.Mirror
	agreed func() []source.Ref // by the ring, where the mirror is the repository itself
}

func (m mergerPart) Branches(ctx context.Context) ([]source.Ref, error) {
	if m.Builtin() { // the mirror may not have come as far as the ledger
		return m.agreed(), nil
	}
	return m.Mirror.Branches(ctx)
}

func (m mergerPart) Take(ctx context.Context, refs []source.Ref) error {
	if m.Builtin() {
		return nil // they are on their way
	}
	return m.TakeHeads(ctx, refs)
}

// newPreviewing is what the leader does for pull requests.
func (m *machine) newPreviewing() *nodeagent.Previewing {
	client := &forgeClient{m: m}
	return nodeagent.NewPreviewing(nodeagent.PreviewingOptions{
		Deployer: m.deployer, Leading: m.ledger.Leading, Forge: client.get,
		Comment: m.previewSays, Farewell: previewFarewell, Every: min(10*time.Second, m.opt.poll), Log: m.log,
	})
}

// previewSays is what a pull request shows of its preview.
func (m *machine) previewSays(e preview.Environment) (state, line, url, comment string) {
	url = m.previewURL(e.Name)
	only := ""
	v := m.deployer.Verdicts()[e.Name]
	healthy, ill := false, ""
	m.ledger.View(func(s *cluster.State) {
		if s.PreviewRuns(e.Name) == e.Commit {
			only = nodeagent.PreviewName(s, e.Name)
		}
		env, ok := s.Environments().Get(e.Name)
		if !ok || env.Commit != e.Commit {
			return
		}
		texts, more := s.Ill(e.Name, 1)
		if healthy = len(texts) == 0; !healthy {
			ill = texts[0]
			if more > 0 {
				ill += fmt.Sprintf(", and %d more", more)
			}
		}
	})
	var problems []string
	if v.Commit == e.Commit {
		for _, p := range v.Problems {
			problems = append(problems, p.String())
		}
	}
	switch {
	case e.Note != "":
		state, line = "failure", e.Note
	case len(problems) > 0:
		state, line = "failure", problems[0]
	case e.Asleep && url == "":
		state, line = "success", "asleep; shoal previews wake "+e.Name
	case e.Asleep:
		state, line = "success", "asleep; a request wakes it"
	case healthy:
		state, line = "success", "runs "+e.Commit.Short()
	case ill != "":
		state, line = "pending", "starts: "+ill
	default:
		state, line = "pending", "is being rendered"
	}
	return state, line, url, previewComment(e, state, line, url, only, problems)
}

// previewComment is the one comment on a pull request. only is the name that leads to this commit alone, with a port; "": there is none.
func previewComment(e preview.Environment, state, line, url, only string, problems []string) string {
	const most = 20
	var b strings.Builder
	how := map[string]string{"success": "ready", "pending": "on its way", "failure": "not ready"}[state]
	if e.Note != "" {
		how = "does not show the newest commit"
	}
	fmt.Fprintf(&b, "**Preview `%s`**: %s\n\n", e.Name, how)
	if url != "" {
		fmt.Fprintf(&b, "%s\n\n", url)
	}
	fmt.Fprintf(&b, "`%s` merged with `%s` is `%s`.\n", e.Head.Short(), e.Base.Short(), e.Commit.Short())
	if only != "" {
		fmt.Fprintf(&b, "\nIn the ring, and as long as that is what runs: `http://%s`\n", only)
	}
	if state == "failure" {
		fmt.Fprintf(&b, "\n```\n%s\n```\n", fenced(line))
	}
	for i, p := range problems {
		if i == most {
			fmt.Fprintf(&b, "\nand %d more\n", len(problems)-most)
			break
		}
		if p != line {
			fmt.Fprintf(&b, "\n```\n%s\n```\n", fenced(p))
		}
	}
	if e.Sandbox != (preview.Sandbox{}) {
		b.WriteString("\nIt is of a fork: it has no secrets and no way out.\n")
	}
	return b.String()
}

// previewFarewell is the comment once a preview is gone.
func previewFarewell(g preview.Gone) string {
	return fmt.Sprintf("**Preview `%s`** is gone: %s\n", g.Name, fenced(g.Why))
}

// fenced is text that cannot leave a block of code.
func fenced(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "```", "'''")
}

// previewURL is where a preview answers: the first node port of a Service, on the node that leads.
func (m *machine) previewURL(name string) (url string) {
	m.ledger.View(func(s *cluster.State) {
		var address netip.Addr
		if n, ok := s.Nodes().Get(m.dir.Node.ID); ok {
			address = n.Address
		}
		for svc := range s.Services().Values() {
			if svc.Environment == name && len(svc.NodePorts) > 0 && url == "" && address.IsValid() {
				url = fmt.Sprintf("http://%s", netip.AddrPortFrom(address, uint16(svc.NodePorts[0].NodePort)))
			}
		}
	})
	return url
}

// newIdleWatch tells the ring which previews are asked for here.
func (m *machine) newIdleWatch() *nodeagent.IdleWatch {
	var visits firewall.Visits
	return nodeagent.NewIdleWatch(nodeagent.IdleWatchOptions{
		Deployer: m.deployer, Wake: m.node.WakePreview, Visited: visits.Look, Busy: m.doors.Busy, Log: m.log,
	})
}
