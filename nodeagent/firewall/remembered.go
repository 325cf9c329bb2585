package firewall

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/wire"
)

// Remembered are the connections of TCP that the kernel remembers as led to pods of a range by rules for a Service. It reads all that the
// kernel remembers: about 3 µs for each connection.
func Remembered(pods netip.Prefix) (map[wire.Flow]bool, error) {
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // then most of it came
		return nil, conntrackError("look for connections to pods that are gone", err)
	}
	out := map[wire.Flow]bool{}
	for _, f := range flows {
		if flow, ok := ledTo(f); ok && pods.Contains(flow.Pod) {
			out[flow] = true
		}
	}
	return out, nil
}

// Forget has the kernel forget such connections. The next packet of one is led to a pod that is there: a client that waits for an answer gets
// one, and one that was in the midst of something learns at once that its connection is over.
func Forget(flows map[wire.Flow]bool) (n uint, err error) {
	for range 3 { // a listing in which something changed may lack a flow
		var some uint
		some, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, among(flows))
		if n += some; !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return n, conntrackError("forget connections to pods that are gone", err)
	}
	return n, nil
}

// among matches the flows to delete.
type among map[wire.Flow]bool

func (a among) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	flow, ok := ledTo(f)
	return ok && a[flow]
}

// ledTo says to whom a rule has led a connection of TCP.
func ledTo(f *netlink.ConntrackFlow) (flow wire.Flow, ok bool) {
	if f.Forward.Protocol != unix.IPPROTO_TCP {
		return flow, false
	}
	to, ok := addrPort(f.Forward.DstIP, f.Forward.DstPort)
	by, ok2 := addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)
	if !ok || !ok2 || to == by {
		return flow, false
	}
	state, known := f.ProtoInfo.(*netlink.ProtoInfoTCP)
	return wire.Flow{Pod: by.Addr(), Answered: !known || state.State != nl.TCP_CONNTRACK_SYN_SENT}, true
}

// conntrackError is err with what was done, and errNoConntrack where the kernel shows nothing.
func conntrackError(what string, err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		err = fmt.Errorf("%w: %w", errNoConntrack, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
