//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The kernel's table of connections is nearly full, as the agent reads it: `shoal status` warns, and says so no more when there is
// room again.
func TestFault_W9_StatusWarns(t *testing.T) {
	n := NewNode(t)
	n.must("sh", "-c", `echo $(($(cat /proc/sys/net/netfilter/nf_conntrack_max) * 8 / 10)) > "$0" && mount --bind "$0" /proc/sys/net/netfilter/nf_conntrack_count`, n.Run+"/count")
	n.Start()
	warned := func(want bool) {
		t.Helper()
		n.Eventually(30*time.Second, func() error {
			out, _, _ := n.Shoal("status")
			if strings.Contains(out, "the kernel's table of connections is ") != want {
				return fmt.Errorf("to warn: %t, status:\n%s", want, out)
			}
			return nil
		})
	}
	warned(true)
	n.must("sh", "-c", `echo 10 > "$0"`, n.Run+"/count")
	warned(false)
}
