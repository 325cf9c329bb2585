package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

// The limits of Kubernetes' pods; glibc's resolver reads the first three servers.
const (
	maxServers     = 3
	maxSearches    = 32
	maxSearchBytes = 2048
)

// resolver is a resolv.conf.
type resolver struct {
	servers, searches, options []string
}

// resolv is the text of the pod's resolv.conf by its dnsPolicy and dnsConfig.
func (v *Volumes) resolv(pod *plan.Pod, files Files) (string, error) {
	var r resolver
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		host, err := v.hostResolver()
		if err != nil {
			return "", err
		}
		r = host
	case corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, "":
		host, err := v.hostResolver()
		if err != nil {
			return "", err
		}
		for _, a := range files.DNS {
			r.servers = append(r.servers, a.String())
		}
		r.searches = []string{pod.Namespace + ".svc." + files.Domain, "svc." + files.Domain, files.Domain}
		r.searches = append(r.searches, host.searches...)
		r.options = []string{"ndots:5"}
	default:
		return "", fmt.Errorf("dnsPolicy %q is not known", policy)
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.servers = append(r.servers, c.Nameservers...)
		r.searches = append(r.searches, c.Searches...)
		for _, o := range c.Options {
			r.option(o)
		}
	}
	return r.String(), nil
}

// option adds one, in the place of one of the same name.
func (r *resolver) option(o corev1.PodDNSConfigOption) {
	text := o.Name
	if o.Value != nil && *o.Value != "" {
		text += ":" + *o.Value
	}
	i := slices.IndexFunc(r.options, func(have string) bool {
		name, _, _ := strings.Cut(have, ":")
		return name == o.Name
	})
	if i < 0 {
		r.options = append(r.options, text)
		return
	}
	r.options[i] = text
}

// String is the file's text, within the limits: what is too much at the end is left out.
func (r resolver) String() string {
	var b strings.Builder
	servers := unique(r.servers)
	for _, s := range servers[:min(len(servers), maxServers)] {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	searches := unique(r.searches)
	searches = searches[:min(len(searches), maxSearches)]
	for len(strings.Join(searches, " ")) > maxSearchBytes {
		searches = searches[:len(searches)-1]
	}
	if len(searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(searches, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.String()
}

// hostResolver reads the host's configuration. systemd-resolved's stub on the host's loopback is out of a
// pod's reach, so the file behind it is taken.
func (v *Volumes) hostResolver() (resolver, error) {
	name := v.opt.Resolv
	if name == "" {
		name = "/etc/resolv.conf"
	}
	r, err := readResolver(name)
	if err != nil || v.opt.Resolv != "" {
		return r, err
	}
	stub := slices.ContainsFunc(r.servers, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.IsLoopback()
	})
	if !stub {
		return r, nil
	}
	real, err := readResolver("/run/systemd/resolve/resolv.conf")
	if err != nil || len(real.servers) == 0 {
		return r, err
	}
	return real, nil
}

func readResolver(name string) (resolver, error) {
	var r resolver
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil // a host without one asks nobody
	}
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			r.servers = append(r.servers, words[1])
		case "domain", "search": // the last one counts
			r.searches = slices.DeleteFunc(words[1:], func(s string) bool { return s == "." })
		case "options":
			r.options = append(r.options, words[1:]...)
		}
	}
	return r, nil
}

func unique(all []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
