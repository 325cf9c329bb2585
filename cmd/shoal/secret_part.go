package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/identities"
	"github.com/shoal-dev/shoal/nodeagent/volumes"
)

func (m *machine) volumesOptions() volumes.Options {
	return volumes.Options{Dir: m.dir.Path("volumes"), RunDir: filepath.Join(m.opt.runDir, "v")}
}

// openIdentities opens the keys of environments. From here on no core file is made of this process, which would have them in it.
func (m *machine) openIdentities() (err error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	m.identities, err = identities.Open(identities.Options{Dir: m.dir.Path("identities"), Key: m.dir.Node.Key, Ask: m.askIdentity, Log: m.log})
	if err != nil {
		return err
	}
	m.peering.identities.Store(m.identities)
	return nil
}

// identityRequest asks for the identity of an environment by its recipient.
type identityRequest struct {
	Environment string `json:"environment"`
	Recipient   string `json:"recipient"`
}

// identityAsked gives a node the key of an environment, sealed to the node's own, if the ring has placed a pod of that environment on it.
func (m *machine) identityAsked(ctx context.Context, from place.NodeID, r identityRequest) ([]byte, error) {
	store := m.peering.identities.Load()
	if store == nil {
		return nil, errNotYet
	}
	var key ed25519.PublicKey
	placed := false
	m.state(func(s *cluster.State) { key, placed = mayHave(s, from, r.Environment) })
	if !placed {
		return nil, fmt.Errorf("no pod of environment %.80q is placed on you", r.Environment)
	}
	b, err := store.SealedTo(key, r.Environment, r.Recipient)
	if err == nil {
		m.log.InfoContext(ctx, "gave the key of an environment to another node", "environment", r.Environment, "node", from)
	}
	return b, err
}

// mayHave tells whether a pod that may have the secrets of an environment is placed on a node, and the node's key.
func mayHave(s *cluster.State, id place.NodeID, environment string) (key ed25519.PublicKey, placed bool) {
	node, ok := s.Nodes().Get(id)
	if !ok {
		return nil, false
	}
	b, err := base64.StdEncoding.DecodeString(node.Key)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, false
	}
	for p := range s.PodsOn(id) {
		if p.Deleting == 0 && p.Finished == 0 && nodeagent.SecretsOf(s, p.Environment) == environment {
			return b, true
		}
	}
	return nil, false
}

// askPatience bounds how long one node is asked.
const askPatience = 3 * time.Second

// askIdentity asks the nodes that are there, one after the other.
func (m *machine) askIdentity(ctx context.Context, environment, recipient string) ([]byte, error) {
	alive := m.alive()
	others := slices.DeleteFunc(m.wanted(), func(id place.NodeID) bool { return id == m.dir.Node.ID || !alive[id] })
	slices.Sort(others)
	if len(others) == 0 {
		return nil, errors.New("there is no other node to ask")
	}
	var why []string
	for _, id := range others {
		var sealed []byte
		one, cancel := context.WithTimeout(ctx, askPatience)
		err := m.peers.Call(one, id, pathSecret, identityRequest{environment, recipient}, &sealed)
		cancel()
		if err == nil {
			return sealed, nil
		}
		why = append(why, fmt.Sprintf("%s: %v", m.nameOf(id), err))
	}
	return nil, errors.New("other nodes: " + strings.Join(why, "; "))
}

// nameOf is a node's name, or its id if it has none any more.
func (m *machine) nameOf(id place.NodeID) string {
	name := string(id)
	m.state(func(s *cluster.State) {
		if n, ok := s.Nodes().Get(id); ok && n.Name != "" {
			name = n.Name
		}
	})
	return name
}
