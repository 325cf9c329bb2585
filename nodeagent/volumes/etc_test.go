package volumes

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestEtc(t *testing.T) {
	v := open(t)
	for _, c := range []struct{ name, spec, want string }{
		{"plain", "dnsPolicy: ClusterFirst", `
hosts: 127.0.0.1	localhost / 10.42.0.5	web-7d9f-x
hostname: web-7d9f-x
resolv.conf: nameserver 10.43.0.10 / search shop.svc.cluster.local svc.cluster.local cluster.local corp.example / options ndots:5`},
		{"named", "{hostname: db-0, subdomain: db, hostAliases: [{ip: 192.0.2.9, hostnames: [old, older]}]}", `
hosts: 127.0.0.1	localhost / 10.42.0.5	db-0.db.shop.svc.cluster.local	db-0 / # hostAliases of the pod / 192.0.2.9	old	older
hostname: db-0
resolv.conf: nameserver 10.43.0.10 / search shop.svc.cluster.local svc.cluster.local cluster.local corp.example / options ndots:5`},
		{"default", "dnsPolicy: Default", `
hosts: 127.0.0.1	localhost / 10.42.0.5	web-7d9f-x
hostname: web-7d9f-x
resolv.conf: nameserver 192.0.2.1 / search corp.example / options edns0`},
		{"none", "{dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.7], searches: [a.example], options: [{name: ndots, value: \"2\"}, {name: rotate}]}}", `
hosts: 127.0.0.1	localhost / 10.42.0.5	web-7d9f-x
hostname: web-7d9f-x
resolv.conf: nameserver 192.0.2.7 / search a.example / options ndots:2 rotate`},
		{"merged", "{dnsPolicy: ClusterFirst, dnsConfig: {nameservers: [10.43.0.10, 192.0.2.7, 192.0.2.8, 192.0.2.9], searches: [cluster.local], options: [{name: ndots, value: \"1\"}]}}", `
hosts: 127.0.0.1	localhost / 10.42.0.5	web-7d9f-x
hostname: web-7d9f-x
resolv.conf: nameserver 10.43.0.10 / nameserver 192.0.2.7 / nameserver 192.0.2.8 / search shop.svc.cluster.local svc.cluster.local cluster.local corp.example / options ndots:1`},
		{"host", "{hostNetwork: true, dnsPolicy: ClusterFirst}", `
hosts: 127.0.0.1 localhost
hostname: node1
resolv.conf: nameserver 192.0.2.1 / search corp.example / options edns0`},
		{"host with cluster DNS", "{hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet}", `
hosts: 127.0.0.1 localhost
hostname: node1
resolv.conf: nameserver 10.43.0.10 / search shop.svc.cluster.local svc.cluster.local cluster.local corp.example / options ndots:5`},
	} {
		pod := makePod(t, c.spec)
		if _, err := v.Prepare(t.Context(), pod, files); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := ""
		for _, name := range etcNames {
			b, err := os.ReadFile(v.run(string(pod.ID), "etc", name))
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for l := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
				if l != "" && !strings.Contains(l, "ip6-") && l != "# Written by Shoal." {
					lines = append(lines, l)
				}
			}
			got += "\n" + name + ": " + strings.Join(lines, " / ")
		}
		if got != c.want {
			t.Errorf("%s: got%s\nwant%s", c.name, got, c.want)
		}
	}
}

func TestResolverLimits(t *testing.T) {
	var r resolver
	for i := range 50 {
		r.searches = append(r.searches, fmt.Sprintf("%s%d.example", strings.Repeat("x", 90), i))
	}
	for line := range strings.Lines(r.String()) {
		if len(line) > maxSearchBytes+len("search \n") {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

func TestHostname(t *testing.T) {
	pod := makePod(t, "{}")
	pod.Name = strings.Repeat("a", 62) + "-b"
	if got := Hostname(pod); got != strings.Repeat("a", 62) {
		t.Errorf("got %s", got)
	}
}

func BenchmarkPrepare(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	dir := b.TempDir()
	v, err := Open(Options{Dir: dir + "/data", RunDir: dir + "/run"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := unmountBelow(dir); err != nil {
			b.Error(err)
		}
	}()
	pod := makePod(b, everything)
	pod.IP = netip.MustParseAddr("10.42.0.5")
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if _, err := v.Prepare(b.Context(), pod, files); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := v.Remove(b.Context(), pod.ID); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			if _, err := v.Prepare(b.Context(), pod, files); err != nil {
				b.Fatal(err)
			}
		}
	})
	if err := v.Purge(b.Context()); err != nil {
		b.Error(err)
	}
}
