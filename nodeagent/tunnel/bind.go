package tunnel

import (
	"golang.zx2c4.com/wireguard/conn"
)

// patient is the UDP socket of WireGuard, that makes up for two things in which a batch of packets fails as a whole: the
// path has become narrower than the packets of it, which the kernel cuts when they come one by one; and the address of this
// machine that the peer was last heard at is gone.
type patient struct{ conn.Bind }

func (p patient) Send(packets [][]byte, to conn.Endpoint) error {
	err := p.Bind.Send(packets, to)
	if err == nil {
		return nil
	}
	to.ClearSrc()
	for i := range packets {
		err = p.Bind.Send(packets[i:i+1], to)
	}
	return err
}
