package links

import (
	"crypto/sha256"
	"encoding/base32"
	"net"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/engine/control"
)

// candidates is how many names a pod's link may have. With 110 pods on a node one in 5,000 nodes has two that
// share their first name, and none in practice three.
const candidates = 3

// Prefix is what the names of all links of an instance begin with: "sh-ab12cd-", 10 of the 15 bytes there are.
func Prefix(instance string) string { return "sh-" + instance + "-" }

// linkName is the n-th name a pod's link may have, 15 bytes.
func linkName(instance string, id control.PodID, n int) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(n) + "/" + string(id)))
	return Prefix(instance) + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:5])
}

// The node's own pair. Neither name can be a pod's: those have five digits.
func (l *Links) nodeName() string { return Prefix(l.opt.Instance) + "node" }
func (l *Links) peerName() string { return Prefix(l.opt.Instance) + "peer" }

// overlayName is the device that wraps what goes to nodes that are no neighbours.
func (l *Links) overlayName() string { return Prefix(l.opt.Instance) + "vx" }

// tunnelName is the device that encrypts what goes to other nodes.
func (l *Links) tunnelName() string { return TunnelName(l.opt.Instance) }

// TunnelName is the name of an instance's device that encrypts what goes to other nodes.
func TunnelName(instance string) string { return Prefix(instance) + "wg" }

// podInterface is the name of the interface in the pod.
const podInterface = "eth0"

// hostMAC is the hardware address of every host-side end: pods know it as their gateway's.
var hostMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// gateway is the address pods send everything to. It is on no interface.
var gateway = net.IPv4(169, 254, 1, 1).To4()

// podMAC is a locally administered unicast address of the pod's own.
func podMAC(id control.PodID) net.HardwareAddr {
	sum := sha256.Sum256([]byte("mac/" + string(id)))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^0x01 | 0x02
	return mac
}
