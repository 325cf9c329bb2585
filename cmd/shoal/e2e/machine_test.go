//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// look is what of the machine an agent may change: addresses, routes, rules, sysctls, mounts, files. It reads the same
// before an agent came and after it was taken away.
func (n *Node) look(dirs ...string) string {
	n.t.Helper()
	text := n.must("sh", append([]string{"-c", `nft list ruleset; ip -o link; ip -o addr; ip route
sysctl net.ipv4.ip_forward net.ipv4.conf.all.route_localnet; awk '{print $5}' /proc/self/mountinfo
find "$@" ! -type d 2>/dev/null || true`, "sh"}, dirs...)...)
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "valid_lft") // of an address, after a state that soon changes
		lines = append(lines, strings.Join(strings.Fields(strings.NewReplacer("tentative", "", `\`, "").Replace(line)), " "))
	}
	return strings.Join(lines, "\n")
}

// left lists what of an instance is still on the machine: the processes in the node's namespaces or in cgroups that
// carry its mark, and those cgroups.
func (n *Node) left(instance string) []string {
	n.t.Helper()
	var found []string
	for _, dir := range n.runningOn(instance) {
		cmdline, err := os.ReadFile(dir + "/cmdline")
		if err == nil && len(cmdline) > 0 { // a zombie has none
			found = append(found, dir+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // what goes meanwhile is not there
			return err
		}
		if strings.Contains(filepath.Base(path), "shoal-"+instance) {
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// runningOn are the directories in /proc of those in the node's namespaces, but for the one that holds them, and in
// cgroups that carry an instance's mark.
func (n *Node) runningOn(instance string) (found []string) {
	n.t.Helper()
	holder := fmt.Sprintf("/proc/%d/ns/", n.holder.Process.Pid)
	ours := map[string]bool{}
	for _, kind := range []string{"net", "mnt"} {
		ns, err := os.Readlink(holder + kind)
		if err != nil {
			n.t.Fatal(err)
		}
		ours[ns] = true
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if dir == fmt.Sprintf("/proc/%d", n.holder.Process.Pid) || dir == fmt.Sprintf("/proc/%d", os.Getpid()) { // within may have used our first thread
			continue
		}
		inside := false
		for _, kind := range []string{"net", "mnt"} {
			ns, err := os.Readlink(dir + "/ns/" + kind)
			inside = inside || err == nil && ours[ns]
		}
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		if inside || strings.Contains(string(cgroup), "shoal-"+instance) {
			found = append(found, dir)
		}
	}
	return found
}
