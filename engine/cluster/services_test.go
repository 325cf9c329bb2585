package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/enginetest"
)

func service(name, fields string) string {
	return `
apiVersion: v1
kind: Service
metadata: {name: ` + name + `}
spec:
  selector: {app: web}
  ` + fields + "\n"
}

func nodePort(name string, port int) string {
	return service(name, fmt.Sprintf("type: NodePort\n  ports: [{port: 80, nodePort: %d}]", port))
}

func all(manifests ...string) string { return strings.Join(manifests, "\n---\n") }

func servicesText(r *enginetest.Ring) string {
	var lines []string
	for k, s := range r.State.Services().All() {
		line := k.Namespace + "/" + k.Name
		if s.ClusterIP.IsValid() {
			line += " " + s.ClusterIP.String()
		}
		for _, p := range s.NodePorts {
			line += fmt.Sprintf(" %d->%d/%s", p.NodePort, p.Port, p.Protocol)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func TestServices(t *testing.T) {
	r := enginetest.NewRing(t)
	plain := "ports: [{port: 80}]"
	for _, c := range []struct{ environment, text, want string }{
		{"dev", all(service("a", plain), service("b", plain)), "dev/a 10.43.0.2; dev/b 10.43.0.3"},
		{"dev", all(service("b", plain), service("c", plain)), "dev/b 10.43.0.3; dev/c 10.43.0.2"},
		{"dev", all(service("b", plain+"\n  sessionAffinity: ClientIP"), service("c", plain)), "dev/b 10.43.0.3; dev/c 10.43.0.2"},
		{"dev", service("b", "clusterIP: None\n  clusterIPs: [None]\n  "+plain), "dev/b"},
		{"dev", service("b", "type: NodePort\n  ports: [{name: p, port: 80}, {name: q, port: 81, nodePort: 30000}]"), "dev/b 10.43.0.2 30001->80/TCP 30000->81/TCP"},
		{"dev", service("b", "type: NodePort\n  ports: [{name: r, port: 79}, {name: p, port: 82}]"), "dev/b 10.43.0.2 30000->79/TCP 30001->82/TCP"},
		{"dev", service("b", "type: NodePort\n  ports: [{name: t, port: 53, nodePort: 30053, protocol: TCP}, {name: u, port: 53, nodePort: 30053, protocol: UDP}]"), "dev/b 10.43.0.2 30053->53/TCP 30053->53/UDP"},
		{"dev", all(nodePort("b", 30001), nodePort("c", 30002)), "dev/b 10.43.0.2 30001->80/TCP; dev/c 10.43.0.3 30002->80/TCP"},
		{"dev", all(nodePort("b", 30002), nodePort("c", 30001)), "dev/b 10.43.0.2 30002->80/TCP; dev/c 10.43.0.3 30001->80/TCP"},
		{"prod", nodePort("b", 30003), "dev/b 10.43.0.2 30002->80/TCP; dev/c 10.43.0.3 30001->80/TCP; prod/b 10.43.0.4 30003->80/TCP"},
		{"dev", service("b", "type: ExternalName\n  externalName: example.org"), "dev/b; prod/b 10.43.0.4 30003->80/TCP"},
	} {
		r.Commit(c.environment, c.text)
		if got := servicesText(r); got != c.want {
			t.Fatalf("got  %s\nwant %s", got, c.want)
		}
	}
	many := make([]string, 12)
	for i := range many {
		many[i] = service(fmt.Sprintf("s%02d", i), plain)
	}
	r.Commit("dev", all(many...))
	if got := servicesText(r); !strings.Contains(got, "dev/s06 10.43.0.9; dev/s07 10.43.0.11;") {
		t.Errorf("the address of DNS is not left out: %s", got)
	}
	enginetest.Check(t, r)
}

// TestServiceConflicts shows commits that are refused whole, naming both sides.
func TestServiceConflicts(t *testing.T) {
	r := enginetest.NewRing(t)
	shared := strings.Replace(nodePort("s", 30009), "name: s", "name: s, namespace: shared", 1)
	r.Commit("prod", all(nodePort("a", 30001), shared, web(1, "x")))
	before := servicesText(r)
	for _, c := range []struct{ text, want string }{
		{nodePort("b", 30001), "Service dev/b in environment dev and Service prod/a in environment prod both have nodePort 30001"},
		{shared, "Service shared/s is in environment prod and in environment dev"},
	} {
		in := r.Activation("dev", c.text)
		out := r.Step(in)
		if out.Rejected != c.want {
			t.Errorf("got %q, want %q", out.Rejected, c.want)
		}
		if got := servicesText(r); got != before {
			t.Errorf("a refused commit changed %s", got)
		}
		if _, ok := r.State.Environments().Get("dev"); ok {
			t.Error("a refused commit made its environment")
		}
	}
	r.Commit("dev", nodePort("b", 30002)) // the next good one goes through
	enginetest.Check(t, r)
}
