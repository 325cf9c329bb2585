package wire

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// service makes a Service of namespace default that selects app=<name>; with changes it as a test needs.
func service(name, ip string, with func(*corev1.Service)) Service {
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name},
		Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
	}}
	if with != nil {
		with(o)
	}
	s := Service{Object: o}
	if ip != "" {
		s.ClusterIP = netip.MustParseAddr(ip)
	} else {
		o.Spec.ClusterIP = corev1.ClusterIPNone
	}
	return s
}

// pod is a ready pod of app at 10.42.0.<last>; flags: "unready", "deleting", "elsewhere".
func pod(app string, last byte, flags ...string) Pod {
	p := Pod{Namespace: "default", Name: fmt.Sprintf("%s-%d", app, last), Labels: map[string]string{"app": app, "tier": "x"}, IP: netip.AddrFrom4([4]byte{10, 42, 0, last}), Node: "n1", Ready: true}
	for _, f := range flags {
		switch f {
		case "unready":
			p.Ready = false
		case "deleting":
			p.Deleting = true
		case "elsewhere":
			p.Node = "n2"
		}
	}
	return p
}

// text is tables as lines: a port or a name each.
func text(t Tables) string {
	var b strings.Builder
	for _, p := range t.Ports {
		fmt.Fprintf(&b, "%s %s %s:%d -> %v", p.Service, p.Protocol, p.ClusterIP, p.Port, p.Endpoints)
		if p.NodePort != 0 {
			fmt.Fprintf(&b, " node %d -> %v", p.NodePort, p.External)
		}
		if p.Affinity != 0 {
			fmt.Fprintf(&b, " affinity %ds", p.Affinity)
		}
		if p.Local {
			b.WriteString(" local")
		}
		b.WriteString("\n")
	}
	for _, n := range t.Names {
		b.WriteString(n.Name)
		for _, a := range n.Address {
			fmt.Fprintf(&b, " %s", a)
		}
		for _, s := range n.SRV {
			fmt.Fprintf(&b, " %s:%d", s.Target, s.Port)
		}
		if n.CNAME != "" {
			b.WriteString(" = " + n.CNAME)
		}
		if n.Reverse {
			b.WriteString(" reverse")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestCompile(t *testing.T) {
	local := corev1.ServiceInternalTrafficPolicyLocal
	hour := int32(3600)
	for _, c := range []struct {
		name     string
		services []Service
		pods     []Pod
		want     string
	}{
		{
			"ready pods answer",
			[]Service{service("web", "10.43.0.7", nil)},
			[]Pod{pod("web", 3), pod("web", 2), pod("web", 4, "unready"), pod("web", 5, "deleting"), pod("other", 6)},
			"default/web tcp 10.43.0.7:80 -> [10.42.0.2:8080 10.42.0.3:8080]\n" +
				"_http._tcp.web.default.svc.cluster.local. web.default.svc.cluster.local.:80\n" +
				"web.default.svc.cluster.local. 10.43.0.7 web.default.svc.cluster.local.:80 reverse\n",
		},
		{
			"the last ones serve until they are gone",
			[]Service{service("web", "10.43.0.7", nil)},
			[]Pod{pod("web", 2, "deleting"), pod("web", 3, "deleting", "unready"), pod("web", 4, "unready")},
			"default/web tcp 10.43.0.7:80 -> [10.42.0.2:8080]\n" +
				"_http._tcp.web.default.svc.cluster.local. web.default.svc.cluster.local.:80\n" +
				"web.default.svc.cluster.local. 10.43.0.7 web.default.svc.cluster.local.:80 reverse\n",
		},
		{
			"publishNotReadyAddresses",
			[]Service{service("web", "10.43.0.7", func(o *corev1.Service) { o.Spec.PublishNotReadyAddresses, o.Spec.Ports[0].Name = true, "" })},
			[]Pod{pod("web", 2, "unready"), pod("web", 3)},
			"default/web tcp 10.43.0.7:80 -> [10.42.0.2:8080 10.42.0.3:8080]\n" +
				"web.default.svc.cluster.local. 10.43.0.7 web.default.svc.cluster.local.:80 reverse\n",
		},
		{
			"named target ports are each pod's own",
			[]Service{service("web", "10.43.0.7", func(o *corev1.Service) {
				o.Spec.Ports = []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("dns")}}
			})},
			func() []Pod {
				a, b, none := pod("web", 2), pod("web", 3), pod("web", 4)
				a.Ports = []corev1.ContainerPort{{Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP}}
				b.Ports = []corev1.ContainerPort{{Name: "dns", ContainerPort: 1, Protocol: corev1.ProtocolTCP}, {Name: "dns", ContainerPort: 5454, Protocol: corev1.ProtocolUDP}}
				return []Pod{none, b, a}
			}(),
			"default/web udp 10.43.0.7:53 -> [10.42.0.2:5353 10.42.0.3:5454]\n" +
				"web.default.svc.cluster.local. 10.43.0.7 web.default.svc.cluster.local.:53 reverse\n",
		},
		{
			"selectors ask for every label, and for the namespace",
			[]Service{service("web", "10.43.0.7", func(o *corev1.Service) { o.Spec.Selector["tier"], o.Spec.Ports[0].Name = "x", "" })},
			func() []Pod {
				other, ns, late := pod("web", 3), pod("web", 4), pod("web", 5)
				other.Labels = map[string]string{"app": "web", "tier": "y"}
				ns.Namespace = "elsewhere"
				late.IP = netip.Addr{}
				return []Pod{pod("web", 2), other, ns, late}
			}(),
			"default/web tcp 10.43.0.7:80 -> [10.42.0.2:8080]\n" +
				"web.default.svc.cluster.local. 10.43.0.7 web.default.svc.cluster.local.:80 reverse\n",
		},
		{
			"node port, affinity, externalTrafficPolicy Local",
			func() []Service {
				s := service("web", "10.43.0.7", func(o *corev1.Service) {
					o.Spec.ExternalTrafficPolicy, o.Spec.SessionAffinity, o.Spec.Ports[0].Name = corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceAffinityClientIP, ""
					o.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &hour}}
				})
				s.NodePorts = []uint16{30080}
				return []Service{s}
			}(),
			[]Pod{pod("web", 2), pod("web", 3, "elsewhere"), pod("web", 4, "deleting")},
			"default/web tcp 10.43.0.7:80 -> [10.42.0.2:8080 10.42.0.3:8080] node 30080 -> [10.42.0.2:8080] affinity 3600s local\n" +
				"web.default.svc.cluster.local. 10.43.0.7 web.default.svc.cluster.local.:80 reverse\n",
		},
		{
			"internalTrafficPolicy Local",
			func() []Service {
				s := service("web", "10.43.0.7", func(o *corev1.Service) { o.Spec.InternalTrafficPolicy, o.Spec.Ports[0].Name = &local, "" })
				s.NodePorts = []uint16{30080}
				return []Service{s}
			}(),
			[]Pod{pod("web", 2), pod("web", 3, "elsewhere")},
			"default/web tcp 10.43.0.7:80 -> [10.42.0.2:8080] node 30080 -> [10.42.0.2:8080 10.42.0.3:8080]\n" +
				"web.default.svc.cluster.local. 10.43.0.7 web.default.svc.cluster.local.:80 reverse\n",
		},
		{
			"headless",
			[]Service{service("db", "", nil)},
			func() []Pod {
				named := pod("db", 3)
				named.Hostname, named.Subdomain = "db-0", "db"
				stranger := pod("db", 4)
				stranger.Hostname, stranger.Subdomain = "db-1", "another"
				return []Pod{pod("db", 2), named, stranger}
			}(),
			"10-42-0-2.db.default.svc.cluster.local. 10.42.0.2 reverse\n" +
				"10-42-0-4.db.default.svc.cluster.local. 10.42.0.4 reverse\n" +
				"_http._tcp.db.default.svc.cluster.local. 10-42-0-2.db.default.svc.cluster.local.:8080 10-42-0-4.db.default.svc.cluster.local.:8080 db-0.db.default.svc.cluster.local.:8080\n" +
				"db-0.db.default.svc.cluster.local. 10.42.0.3 reverse\n" +
				"db.default.svc.cluster.local. 10.42.0.2 10.42.0.3 10.42.0.4 10-42-0-2.db.default.svc.cluster.local.:8080 10-42-0-4.db.default.svc.cluster.local.:8080 db-0.db.default.svc.cluster.local.:8080\n",
		},
		{
			"ExternalName, and one whose address is not known yet",
			[]Service{
				service("out", "", func(o *corev1.Service) {
					o.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "WWW.example.com"}
				}),
				service("late", "", func(o *corev1.Service) { o.Spec.ClusterIP = "" }),
			},
			nil,
			"out.default.svc.cluster.local. = www.example.com.\n",
		},
		{
			"what two services claim stays with the first",
			func() []Service {
				a, b := service("a", "10.43.0.7", nil), service("b", "10.43.0.8", nil)
				a.Object.Spec.Ports[0].Name, b.Object.Spec.Ports[0].Name = "", ""
				a.NodePorts, b.NodePorts = []uint16{30080}, []uint16{30080}
				return []Service{b, a}
			}(),
			[]Pod{pod("a", 2), pod("b", 3)},
			"default/a tcp 10.43.0.7:80 -> [10.42.0.2:8080] node 30080 -> [10.42.0.2:8080]\n" +
				"default/b tcp 10.43.0.8:80 -> [10.42.0.3:8080]\n" +
				"a.default.svc.cluster.local. 10.43.0.7 a.default.svc.cluster.local.:80 reverse\n" +
				"b.default.svc.cluster.local. 10.43.0.8 b.default.svc.cluster.local.:80 reverse\n",
		},
	} {
		got := text(Compile(Input{Node: "n1", Domain: "cluster.local", Services: c.services, Pods: c.pods}))
		if got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
}

// The order in which services and pods are given does not matter.
func TestOrderDoesNotMatter(t *testing.T) {
	in := town(60, 3)
	want := Compile(in)
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		r.Shuffle(len(in.Services), func(i, j int) { in.Services[i], in.Services[j] = in.Services[j], in.Services[i] })
		r.Shuffle(len(in.Pods), func(i, j int) { in.Pods[i], in.Pods[j] = in.Pods[j], in.Pods[i] })
		if got := Compile(in); !reflect.DeepEqual(got, want) {
			t.Fatal(text(got))
		}
	}
}

// town is n services with so many pods each, every third headless.
func town(n, each int) Input {
	in := Input{Node: "n1", Domain: "cluster.local"}
	for i := range n {
		ip := netip.AddrFrom4([4]byte{10, 43, byte(1 + i/250), byte(1 + i%250)}).String()
		if i%3 == 2 {
			ip = ""
		}
		name := fmt.Sprintf("app-%05d", i)
		in.Services = append(in.Services, service(name, ip, func(o *corev1.Service) { o.Spec.Selector["tier"] = "x" }))
		for e := range each {
			p := pod(name, byte(e))
			p.IP = netip.AddrFrom4([4]byte{10, byte(64 + i%64), byte(i / 64), byte(e)})
			in.Pods = append(in.Pods, p)
		}
	}
	return in
}

func BenchmarkCompile10000x3(b *testing.B) {
	in := town(10_000, 3)
	b.ReportAllocs()
	for b.Loop() {
		Compile(in)
	}
}
