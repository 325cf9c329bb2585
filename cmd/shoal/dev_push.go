package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/gitsync"
)

// watchDirectory commits every state of a directory to a store beside the nodes' data, pushes it to the first node as
// people push, and shows what that node says of it.
func (r *localRing) watchDirectory(ctx context.Context, root string) error {
	branch := r.opt.agent.branch
	store, err := gitsync.Open(ctx, gitsync.Options{Dir: filepath.Join(r.base, "tree"), Branch: branch, Log: r.log})
	if err != nil {
		return err
	}
	defer store.Close()
	commit := func() (source.ID, error) { return commitDirectory(ctx, store, branch, root) }
	return watchDirectory(ctx, root, r.out, commit, func(ctx context.Context) {
		said := ""
		for err := r.push(ctx, store); err != nil; err = r.push(ctx, store) {
			if ctx.Err() != nil {
				return
			}
			if said != err.Error() {
				said = err.Error()
				fmt.Fprintf(r.out, "not pushed, will be tried again: %v\n", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
		r.announce(ctx)
	})
}

// push brings the branch in a store to the first node, whose progress it shows to its end: go-git's own push ends with
// the report, which comes first.
func (r *localRing) push(ctx context.Context, store *gitsync.Mirror) error {
	a := r.opt.agent
	ref := source.FullRefName(a.branch)
	head, err := store.Head(ref)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/repo.git", a.gitPort)
	advertised, err := r.ask(ctx, http.MethodGet, url+"/info/refs?service=git-receive-pack", nil)
	if err != nil {
		return err
	}
	refs := packp.NewAdvRefs()
	err = errors.Join(refs.Decode(advertised), advertised.Close())
	if err != nil {
		return err
	}
	old := refs.References[ref]
	if old.String() == string(head) {
		return nil
	}
	var have []source.ID
	if id := source.ID(old.String()); store.Has(id) {
		have = append(have, id)
	}
	_, _, send, err := store.Prepare(ctx, []source.ID{head}, have, nil, 0)
	if err != nil {
		return err
	}
	request := packp.NewReferenceUpdateRequest()
	request.Commands = []*packp.Command{{Name: plumbing.ReferenceName(ref), Old: old, New: plumbing.NewHash(string(head))}}
	for _, c := range []capability.Capability{capability.ReportStatus, capability.Sideband64k} {
		if err := request.Capabilities.Set(c); err != nil {
			return err
		}
	}
	var body bytes.Buffer
	if err := errors.Join(request.Encode(&body), send(&body)); err != nil {
		return err
	}
	answer, err := r.ask(ctx, http.MethodPost, url+"/git-receive-pack", &body)
	if err != nil {
		return err
	}
	defer answer.Close()
	told := sideband.NewDemuxer(sideband.Sideband64k, answer)
	told.Progress = &lineWriter{w: r.out}
	text, err := io.ReadAll(told)
	if err != nil {
		return err
	}
	report := packp.NewReportStatus()
	if err := report.Decode(bytes.NewReader(text)); err != nil {
		return err
	}
	return report.Error()
}

// ask asks the first node's Git server.
func (r *localRing) ask(ctx context.Context, method, url string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-git-receive-pack-request")
	}
	if token := r.opt.agent.gitToken; token != "" {
		req.SetBasicAuth("shoal", token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return resp.Body, nil
}

// announce prints where the node ports answer on each node.
func (r *localRing) announce(ctx context.Context) {
	status, err := r.nodes[0].client().Status(ctx)
	if err != nil {
		return
	}
	var urls []string
	for _, port := range nodePorts(status.Services) {
		for _, n := range r.nodes {
			urls = append(urls, fmt.Sprintf("http://%s:%s", n.address, port))
		}
	}
	announce(ctx, r.out, urls)
}

// nodePorts are the TCP ports that Services have on every node.
func nodePorts(services []api.Service) (ports []string) {
	for _, s := range services {
		for _, p := range s.Ports { // "80:30080/TCP"
			_, rest, _ := strings.Cut(p, ":")
			if port, tcp := strings.CutSuffix(rest, "/TCP"); tcp {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// showProgress shows what rolls out, and what all nodes pull, until ctx ends.
func (r *localRing) showProgress(ctx context.Context) {
	showProgress(ctx, r.opt.live, r.out, 500*time.Millisecond, func() (rollouts []api.Rollout, pulls []api.Pull) {
		for i, n := range r.nodes {
			status, err := n.client().Status(ctx)
			if err != nil {
				continue
			}
			if i == 0 || rollouts == nil {
				rollouts = status.Rollouts
			}
			pulls = append(pulls, status.Pulls...)
		}
		slices.SortFunc(pulls, func(a, b api.Pull) int {
			return cmp.Or(cmp.Compare(a.Image, b.Image), cmp.Compare(a.Done, b.Done))
		})
		return rollouts, slices.CompactFunc(pulls, func(a, b api.Pull) bool { return a.Image == b.Image }) // the slowest tells
	})
}
