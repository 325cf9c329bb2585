package cluster

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/desired"
)

// Node ports are given out of this range, both ends included.
const (
	nodePortFirst = 30000
	nodePortLast  = 32767
)

// serve gives the Services that came or changed their addresses and ports: what they ask for themselves first,
// then what they had, then the lowest that is free.
func (t *tx) serve(objects []*Object) error {
	had := map[desired.Key]*Service{}
	for _, o := range objects {
		if old, ok := t.s.services.Get(o.Key); ok {
			had[o.Key] = old
			t.s.services.drop(&t.s, o.Key)
		}
	}
	made := make([]*Service, len(objects))
	for i, o := range objects {
		svc := object[corev1.Service](t, o.Digest)
		made[i] = &Service{Key: o.Key, Environment: o.Environment, Object: o.Digest}
		if err := t.claim(made[i], svc); err != nil {
			return err
		}
	}
	for i, o := range objects {
		svc := object[corev1.Service](t, o.Digest)
		if err := t.allot(made[i], svc, had[o.Key]); err != nil {
			return err
		}
	}
	return nil
}

// claim gives a Service the address and the node ports that it names.
func (t *tx) claim(s *Service, svc *corev1.Service) error {
	if ip := svc.Spec.ClusterIP; hasClusterIP(svc) && ip != "" {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return fmt.Errorf("%s: clusterIP %q is no address", s.Key, clip(ip, 64))
		}
		if err := t.mayServe(s, addr); err != nil {
			return err
		}
		s.ClusterIP = addr
	}
	if hasNodePorts(svc) {
		for _, p := range svc.Spec.Ports {
			if p.NodePort == 0 {
				continue
			}
			if p.NodePort < nodePortFirst || p.NodePort > nodePortLast {
				return fmt.Errorf("%s: nodePort %d: want %d to %d", s.Key, p.NodePort, nodePortFirst, nodePortLast)
			}
			if err := t.mayListen(s, portKey{protocolOf(p), p.NodePort}); err != nil {
				return err
			}
			s.NodePorts = append(s.NodePorts, NodePort{Name: p.Name, Protocol: protocolOf(p), Port: p.Port, NodePort: p.NodePort})
		}
	}
	t.s.services.set(&t.s, s)
	return nil
}

func (t *tx) mayServe(s *Service, addr netip.Addr) error {
	ring, _ := t.s.Ring()
	switch {
	case !ring.ServiceCIDR.Contains(addr):
		return fmt.Errorf("%s: clusterIP %s is outside of %s", s.Key, addr, ring.ServiceCIDR)
	case ring.reserved(addr):
		return fmt.Errorf("%s: clusterIP %s is reserved", s.Key, addr)
	}
	for other := range t.s.clusterIPs.at(addr) {
		return fmt.Errorf("%s and %s both have clusterIP %s", s.Key, other, addr)
	}
	return nil
}

func (t *tx) mayListen(s *Service, p portKey) error {
	for _, own := range s.NodePorts {
		if own.Protocol == p.protocol && own.NodePort == p.port {
			return fmt.Errorf("%s has nodePort %d twice", s.Key, p.port)
		}
	}
	for k := range t.s.nodePorts.at(p) {
		other, _ := t.s.services.Get(k)
		return fmt.Errorf("%s in environment %s and %s in environment %s both have nodePort %d", s.Key, s.Environment, k, other.Environment, p.port)
	}
	return nil
}

// allot completes a Service with what it had before, or what is free.
func (t *tx) allot(s *Service, svc *corev1.Service, had *Service) error {
	now := *s
	now.NodePorts = slices.Clone(s.NodePorts)
	if hasClusterIP(svc) && !now.ClusterIP.IsValid() {
		if had != nil && had.ClusterIP.IsValid() && !t.s.clusterIPs.has(had.ClusterIP) {
			now.ClusterIP = had.ClusterIP
		} else {
			ip, err := t.freeClusterIP()
			if err != nil {
				return fmt.Errorf("%s: %w", s.Key, err)
			}
			now.ClusterIP = ip
		}
	}
	if hasNodePorts(svc) {
		for _, p := range svc.Spec.Ports {
			if p.NodePort != 0 {
				continue
			}
			port, err := t.freeNodePort(now, p, had)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Key, err)
			}
			now.NodePorts = append(now.NodePorts, NodePort{Name: p.Name, Protocol: protocolOf(p), Port: p.Port, NodePort: port})
		}
	}
	slices.SortFunc(now.NodePorts, func(a, b NodePort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	t.s.services.set(&t.s, &now)
	return nil
}

func (t *tx) freeNodePort(s Service, p corev1.ServicePort, had *Service) (int32, error) {
	free := func(port int32) bool {
		return !t.s.nodePorts.has(portKey{protocolOf(p), port}) &&
			!slices.ContainsFunc(s.NodePorts, func(o NodePort) bool { return o.Protocol == protocolOf(p) && o.NodePort == port })
	}
	if had != nil {
		for _, o := range had.NodePorts {
			if o.Name == p.Name && o.Protocol == protocolOf(p) && (p.Name != "" || o.Port == p.Port) && free(o.NodePort) {
				return o.NodePort, nil
			}
		}
	}
	for port := int32(nodePortFirst); port <= nodePortLast; port++ {
		if free(port) {
			return port, nil
		}
	}
	return 0, errors.New("every node port is taken")
}

// freeClusterIP is the lowest address of the service range that is not taken. Within one Step addresses are
// only taken, so the search goes on where it ended.
func (t *tx) freeClusterIP() (netip.Addr, error) {
	ring, _ := t.s.Ring()
	cidr := ring.ServiceCIDR
	last := uint32(1)<<(32-cidr.Bits()) - 1 // the broadcast address
	for n := max(t.nextService, 1); n < last; n++ {
		ip := nth(cidr, n)
		if !ring.reserved(ip) && !t.s.clusterIPs.has(ip) {
			t.nextService = n + 1
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("every address of %s is taken", cidr)
}

// DNS is the address of the ring's name server: the tenth of the service range.
func (r *Ring) DNS() netip.Addr { return nth(r.ServiceCIDR, 10) }

// API is the address of the Service default/kubernetes: the first of the service range.
func (r *Ring) API() netip.Addr { return nth(r.ServiceCIDR, 1) }

// reserved tells whether an address is no Service's to have: network, API, DNS, broadcast.
func (r *Ring) reserved(ip netip.Addr) bool {
	return ip == nth(r.ServiceCIDR, 0) || ip == r.API() || ip == r.DNS() || ip == nth(r.ServiceCIDR, uint32(1)<<(32-r.ServiceCIDR.Bits())-1)
}

// nth is the address n above the first of an IPv4 range.
func nth(p netip.Prefix, n uint32) netip.Addr {
	b := p.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}

func hasClusterIP(svc *corev1.Service) bool {
	return svc.Spec.Type != corev1.ServiceTypeExternalName && svc.Spec.ClusterIP != corev1.ClusterIPNone
}

func hasNodePorts(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	default:
		return false
	}
}

// protocolOf is "TCP" unless the port says otherwise.
func protocolOf(p corev1.ServicePort) string {
	return cmp.Or(string(p.Protocol), string(corev1.ProtocolTCP))
}
