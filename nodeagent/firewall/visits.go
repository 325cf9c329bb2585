package firewall

import (
	"errors"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Visits tells at which node ports somebody has asked, by what the kernel remembers of connections. For one goroutine.
type Visits struct {
	seen map[visit]uint32 // what was left of each flow's time, s
	at   time.Time
}

// visit is a flow to a node port.
type visit struct {
	protocol uint8
	from, to netip.AddrPort
}

// visitSlack is by how many seconds the rest of a flow's time may be off that nothing was sent of.
const visitSlack = 2

// maxVisits bounds the flows that are remembered; of more, each counts as new.
const maxVisits = 1 << 16

// Look says at which of the ports something came in, or went out, since the last look. After a gap of more than 10 s connections may have come
// and gone unseen.
func (v *Visits) Look(ports map[uint16]bool) (map[uint16]bool, error) {
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // then most of it came
		return nil, conntrackError("look for who asks at node ports", err)
	}
	now := time.Now()
	elapsed := now.Sub(v.at)
	v.at = now
	return v.judge(flows, ports, elapsed), nil
}

// judge compares flows with those of the last look. A packet sets the rest of a flow's time to something else than the seconds that have passed.
func (v *Visits) judge(flows []*netlink.ConntrackFlow, ports map[uint16]bool, elapsed time.Duration) map[uint16]bool {
	asked, seen := map[uint16]bool{}, map[visit]uint32{}
	for _, f := range flows {
		if !ports[f.Forward.DstPort] {
			continue
		}
		from, ok := addrPort(f.Forward.SrcIP, f.Forward.SrcPort)
		to, ok2 := addrPort(f.Forward.DstIP, f.Forward.DstPort)
		by, ok3 := addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)
		if !ok || !ok2 || !ok3 || by == to {
			continue // it was not led to a pod
		}
		at := visit{f.Forward.Protocol, from, to}
		was, known := v.seen[at]
		off := int64(f.TimeOut) - int64(was) + int64(elapsed/time.Second)
		if !known || off > visitSlack || off < -visitSlack {
			asked[f.Forward.DstPort] = true
		}
		if len(seen) < maxVisits {
			seen[at] = f.TimeOut
		}
	}
	v.seen = seen
	return asked
}
