package wire

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/source"
)

// appendNames adds the names of a Service, by Kubernetes' DNS specification 1.1.0: the service itself, its named
// ports as SRV, and the pods of a headless service each by its own name.
func appendNames(names []Name, s *Service, pods selection, selected []int32, domain string) []Name {
	o := s.Object
	fqdn := strings.ToLower(o.Name + "." + o.Namespace + ".svc." + domain + ".")
	switch {
	case o.Spec.Type == corev1.ServiceTypeExternalName:
		return append(names, Name{Name: fqdn, CNAME: strings.ToLower(strings.TrimSuffix(o.Spec.ExternalName, ".") + ".")})
	case s.ClusterIP.IsValid():
		if s.Commit != "" {
			names = append(names, Name{Name: CommitName(s.Commit, o.Namespace, o.Name, domain) + ".", Address: []netip.Addr{s.ClusterIP}})
		}
		return appendCluster(names, s, fqdn)
	case o.Spec.ClusterIP == corev1.ClusterIPNone:
		return appendHeadless(names, o, pods, pods.serving(o, selected), fqdn)
	}
	return names // its address was not given yet
}

// CommitName is the name that a Service of a preview with an address has while the preview runs a commit, without the final dot. So what was
// written down for one commit never leads to another.
func CommitName(commit source.ID, namespace, service, domain string) string {
	return strings.ToLower(commit.Short() + "." + service + "." + namespace + ".svc." + domain)
}

func appendCluster(names []Name, s *Service, fqdn string) []Name {
	own := Name{Name: fqdn, Address: []netip.Addr{s.ClusterIP}, Reverse: true}
	for i := range s.Object.Spec.Ports {
		sp := &s.Object.Spec.Ports[i]
		srv := SRV{Target: fqdn, Port: uint16(sp.Port)}
		own.SRV = append(own.SRV, srv)
		if sp.Name != "" {
			names = append(names, Name{Name: portName(sp, fqdn), SRV: []SRV{srv}})
		}
	}
	own.SRV = sorted(own.SRV)
	return append(names, own)
}

func appendHeadless(names []Name, o *corev1.Service, pods selection, serving []int32, fqdn string) []Name {
	own := Name{Name: fqdn}
	byPort := make([][]SRV, len(o.Spec.Ports))
	first := len(names)
	each := make(map[string]int, len(serving)) // name of a pod -> its place in names
	for _, i := range serving {
		p := &pods.pods[i]
		own.Address = append(own.Address, p.IP)
		name := podLabel(p, o.Name) + "." + fqdn
		if at, twice := each[name]; twice { // two pods with one hostname
			names[at].Address = append(names[at].Address, p.IP)
		} else {
			each[name] = len(names)
			names = append(names, Name{Name: name, Address: []netip.Addr{p.IP}, Reverse: true})
		}
		for n := range o.Spec.Ports {
			if port := target(p, &o.Spec.Ports[n]); port != 0 {
				byPort[n] = append(byPort[n], SRV{Target: name, Port: port})
			}
		}
	}
	for i := range names[first:] {
		slices.SortFunc(names[first+i].Address, netip.Addr.Compare)
	}
	for n, srv := range byPort {
		own.SRV = append(own.SRV, srv...)
		if sp := &o.Spec.Ports[n]; sp.Name != "" && len(srv) > 0 {
			names = append(names, Name{Name: portName(sp, fqdn), SRV: sorted(srv)})
		}
	}
	if len(own.Address) == 0 {
		return names // without pods a headless service has no name, as in Kubernetes
	}
	slices.SortFunc(own.Address, netip.Addr.Compare)
	own.Address = slices.Compact(own.Address)
	own.SRV = sorted(slices.Clone(own.SRV))
	return append(names, own)
}

// podLabel is the first part of a pod's name under a headless service: its hostname if its subdomain is that
// service, otherwise its address with dashes.
func podLabel(p *Pod, service string) string {
	if p.Hostname != "" && p.Subdomain == service {
		return strings.ToLower(p.Hostname)
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(p.IP.String())
}

func portName(sp *corev1.ServicePort, fqdn string) string {
	return strings.ToLower("_" + sp.Name + "._" + string(protocol(sp.Protocol)) + "." + fqdn)
}

func sorted(srv []SRV) []SRV {
	slices.SortFunc(srv, func(a, b SRV) int { return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port)) })
	return slices.Compact(srv)
}
