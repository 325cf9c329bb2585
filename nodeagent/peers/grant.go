package peers

import (
	"fmt"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// Grant is a token as the ledger keeps it.
type Grant struct {
	ID     string
	Hash   string
	End    time.Time
	Name   string       // the only name it may be used for; "" for any
	UsedBy place.NodeID // "" as long as it is good
}

// Judge says in words for the joiner why r does not fit the grant, as a *RefusedError; nil if it does. A nil grant is a
// token that is not in the ledger. The node that used the token may use it again until its end.
func (g *Grant) Judge(r JoinRequest, now time.Time) error {
	const anew = "make a new one on a node of the ring (`shoal token create`)"
	switch {
	case g == nil:
		return refused("the ring does not know token %s: it ran out and was forgotten, or was revoked; %s", r.TokenID, anew)
	case !SameHash(g.Hash, r.Hash):
		return refused("the secret of token %s is wrong; %s", r.TokenID, anew)
	case !now.Before(g.End):
		return refused("token %s ran out %s ago; %s", r.TokenID, now.Sub(g.End).Round(time.Second), anew)
	case g.UsedBy != "" && g.UsedBy != r.Node:
		return refused("token %s was used by node %s, and each is good for one; %s", r.TokenID, g.UsedBy, anew)
	case g.Name != "" && g.Name != r.Name:
		return refused("token %s is for a node named %q, this one is named %q: start it with that name, or %s", r.TokenID, g.Name, r.Name, anew)
	}
	return nil
}

func refused(format string, args ...any) error {
	return &RefusedError{Text: fmt.Sprintf(format, args...)}
}
