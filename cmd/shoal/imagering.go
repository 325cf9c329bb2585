package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent/containers"
)

// The built-in registry of a ring: any node may take a push. A tag is an entry of the ledger, appended once a majority of
// the voters has the image, so what was acknowledged outlives the node that took it; others fetch it when they need it.

// imagePatience bounds how long a push waits for a majority to have its image.
const imagePatience = 10 * time.Minute

// pushedImageRef is an image that the asking node has.
type pushedImageRef struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// agreeTag has the ring take an image.
func (m *machine) agreeTag(ctx context.Context, name, digest string) error {
	image := pushedImageRef{name, digest}
	err := m.onMajority(ctx, imagePatience, func(ctx context.Context, n place.NodeID) error { return m.peers.Call(ctx, n, pathImage, image, nil) })
	if err != nil {
		return err
	}
	out, err := m.ledger.Append(ctx, cluster.Input{Tag: &cluster.Tag{Name: name, Digest: digest}})
	if err == nil && out.Rejected != "" {
		err = fmt.Errorf("the ring refused it: %s", out.Rejected)
	}
	return err
}

// imageAsked makes an image ready here that the asking node has.
func (m *machine) imageAsked(ctx context.Context, _ place.NodeID, image pushedImageRef) (struct{}, error) {
	r := m.peering.containers.Load()
	if r == nil {
		return struct{}{}, errNotYet
	}
	return struct{}{}, r.Adopt(ctx, image.Name, image.Digest)
}

// storesAsked serves this node's store to another node.
func (m *machine) storesAsked(w http.ResponseWriter, r *http.Request) {
	if s := m.peering.registry.Load(); s != nil {
		s.ServeHTTP(w, r)
		return
	}
	http.Error(w, errNotYet.Error(), http.StatusServiceUnavailable)
}

// stores are the other nodes that an image may be fetched from.
func (m *machine) stores() (all []containers.Peer) {
	alive := m.alive()
	for _, id := range m.wanted() {
		if id != m.dir.Node.ID && alive[id] {
			all = append(all, containers.Peer{Name: string(id), Client: m.peers.Client(id)})
		}
	}
	return all
}

// taggedAs is what the ledger has for a name of the ring's own store.
func (m *machine) taggedAs(ref string) (digest string) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return ""
	}
	m.ledger.View(func(s *cluster.State) {
		if t, ok := s.Tags().Get(named.String()); ok {
			digest = t.Digest
		}
	})
	return digest
}
