package cluster

import (
	"encoding/base64"
	"fmt"
)

// TunnelSince is the engine version from which nodes say that what goes to their pods can be encrypted.
const TunnelSince = 8

// Tunnel is a node's end of WireGuard: whoever knows it can encrypt what goes to the node's pods. The zero Tunnel is
// that of a node without it.
type Tunnel struct {
	Key  string `json:"key"`  // X25519 public key, base64 as wg prints it
	Port uint16 `json:"port"` // UDP
}

// Check says what is wrong with a Tunnel; the zero one is fine.
func (t Tunnel) Check() error {
	if t == (Tunnel{}) {
		return nil
	}
	if key, err := base64.StdEncoding.DecodeString(t.Key); err != nil || len(key) != 32 || len(t.Key) != 44 {
		return fmt.Errorf("WireGuard: key %q: want 32 bytes in base64", clip(t.Key, 64))
	}
	if t.Port == 0 {
		return fmt.Errorf("WireGuard: want a UDP port")
	}
	return nil
}

// tunnel takes what a node says of its end of WireGuard. Before the ring's engine version knows it that counts for nothing
// (asOf): the node says it again (package keep).
func (t *tx) tunnel(now *Node, said Tunnel) error {
	if err := said.Check(); err != nil {
		return err
	}
	now.Tunnel = said
	return nil
}
