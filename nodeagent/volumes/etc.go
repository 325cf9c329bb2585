package volumes

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/shoal-dev/shoal/engine/plan"
)

// Files is what pods' files say of the node and the ring.
type Files struct {
	DNS    []netip.Addr // where pods ask: the ring's resolver
	Domain string       // of the ring, "cluster.local"
}

var etcNames = []string{"hosts", "hostname", "resolv.conf"}

// writeEtc writes the pod's files for /etc. They are bound into running containers, so they are rewritten in
// place, and only when they differ.
func (v *Volumes) writeEtc(pod *plan.Pod, files Files) error {
	dir := v.run(string(pod.ID), "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	hosts, err := v.hosts(pod, files.Domain)
	if err != nil {
		return fmt.Errorf("write hosts: %w", err)
	}
	resolv, err := v.resolv(pod, files)
	if err != nil {
		return fmt.Errorf("write resolv.conf: %w", err)
	}
	for name, text := range map[string]string{"hosts": hosts, "hostname": Hostname(pod) + "\n", "resolv.conf": resolv} {
		f := filepath.Join(dir, name)
		if have, err := os.ReadFile(f); err == nil && bytes.Equal(have, []byte(text)) {
			continue
		}
		if err := os.WriteFile(f, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if err := os.Chmod(f, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// Hostname is the name a pod's processes see: the spec's hostname, else the pod's name, at most 63 bytes; the
// node's for a pod on the host's network.
func Hostname(pod *plan.Pod) string {
	if pod.Spec.HostNetwork {
		return pod.NodeName
	}
	name := pod.Spec.Hostname
	if name == "" {
		name = pod.Name
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

// hosts is the text of /etc/hosts.
func (v *Volumes) hosts(pod *plan.Pod, domain string) (string, error) {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		host, err := os.ReadFile(v.opt.Hosts)
		if err != nil {
			return "", err
		}
		b.Write(host)
	} else {
		b.WriteString("# Written by Shoal.\n" +
			"127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::0\tip6-localnet\n" +
			"fe00::0\tip6-mcastprefix\n" +
			"fe00::1\tip6-allnodes\n" +
			"fe00::2\tip6-allrouters\n")
		if pod.IP.IsValid() {
			name := Hostname(pod)
			if pod.Spec.Subdomain != "" {
				name = fmt.Sprintf("%s.%s.%s.svc.%s\t%s", name, pod.Spec.Subdomain, pod.Namespace, domain, name)
			}
			fmt.Fprintf(&b, "%s\t%s\n", pod.IP, name)
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# hostAliases of the pod\n")
	}
	for _, a := range pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	return b.String(), nil
}
