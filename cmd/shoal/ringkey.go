package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/place"
	"github.com/shoal-dev/shoal/engine/trust"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// The ring signs the commits that it makes, promotions say, by a key of its own. It follows from the key of the ring's authority,
// and so it is where that one is: on the voters, of which one leads.

const (
	ringPrincipal = "ring"           // as whom the key is listed in keys/signers
	ringPurpose   = "commit signing" // what it is derived for
)

// ringSigner is the key by which this node signs for the ring. An error says that it does not hold it, or not yet.
func (m *machine) ringSigner() (ssh.Signer, error) {
	key, err := m.peers.Derive(ringPurpose)
	if err != nil {
		return nil, fmt.Errorf("the ring's key: %w", err)
	}
	return ssh.NewSignerFromKey(key)
}

// ringKey is the public part, from this node or the one that leads.
func (m *machine) ringKey(ctx context.Context) (out api.RingKey, err error) {
	if m.peers.HoldsKey() {
		return m.ringKeyAsked(ctx, m.dir.Node.ID, struct{}{})
	}
	leader, known := m.ledger.Leader()
	if !known {
		return out, nodeagent.ErrNotLeading
	}
	return out, m.peers.Call(ctx, leader, pathRingKey, struct{}{}, &out)
}

func (m *machine) ringKeyAsked(context.Context, place.NodeID, struct{}) (out api.RingKey, err error) {
	signer, err := m.ringSigner()
	if err != nil {
		return out, err
	}
	out = api.RingKey{Principal: ringPrincipal, Fingerprint: ssh.FingerprintSHA256(signer.PublicKey())}
	out.Line, err = trust.SignersLine(ringPrincipal, signer.PublicKey())
	return out, err
}

func newRingKey(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Print the line of keys/signers by which the ring's own commits count", Args: exactly(0, "no arguments"),
		Long: `The ring signs the commits that it makes, promotions say. Where keys/trust.yaml requires signatures its key must be listed as anybody's is:

  shoal ring key >> keys/signers

and keys/trust.yaml can limit it to environments and paths, by the name "ring". The key follows from that of the ring's authority: shoal ring rotate
authority exchanges both, and the new line is to be committed before the ring's next promotion.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := g.client().RingKey(cmd.Context())
			if err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), k, func(w io.Writer) { fmt.Fprint(w, k.Line) })
		},
	}
	g.outputFlag(cmd)
	return cmd
}
