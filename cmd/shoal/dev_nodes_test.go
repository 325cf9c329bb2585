package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func TestLocalNodesRefuseFlags(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--nodes 3 --node-name x .", "--node-name does not go with --nodes"},
		{"--nodes 3 --join 192.0.2.1:7947 .", "--join does not go with --nodes"},
		{"--nodes 3 --keep .", "--keep does not go with --nodes"},
		{"--nodes 3 --git-port 0 .", "--git-port 0 does not go with --nodes"},
		{"--nodes 0 .", "--nodes 0: expected 1 to 9"},
		{"--nodes 10 .", "--nodes 10: expected 1 to 9"},
	} {
		if os.Geteuid() != 0 && strings.Contains(tt.args, "git-port") {
			continue // that it needs root is said first
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"dev"}, strings.Fields(tt.args)...), strings.NewReader(""), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("shoal dev %s: exit %d: %s", tt.args, code, errs.String())
		}
	}
}

func TestLocalNodesTakeTheAgentsFlags(t *testing.T) {
	cmd := newDev(nil)
	if err := cmd.ParseFlags([]string{"--nodes=3", "--label=b=2,a=1", "--pod-cidr=10.9.0.0/16", "--images=x", "--data-dir=/x", "--allow-forward"}); err != nil {
		t.Fatal(err)
	}
	args, err := localArgs(cmd)
	if got := strings.Join(args, " "); err != nil || got != "--allow-forward=true --label a=1 --label b=2 --pod-cidr=10.9.0.0/16" {
		t.Errorf("%q %v", got, err)
	}
}

// The ring of a directory has one runner, does not shrink, and keeps its addresses.
func TestLocalFacts(t *testing.T) {
	o := devOptions{agent: agentOptions{podCIDR: "10.42.0.0/16", serviceCIDR: "10.43.0.0/16"}}
	r := &localRing{opt: o, base: t.TempDir()}
	if err := r.facts(3); err != nil {
		t.Fatal(err)
	}
	first := r.net.prefix
	if !first.IsValid() || r.net.address(2).As4()[3] != 2 || !first.Contains(r.net.gateway()) {
		t.Errorf("%s", first)
	}
	if err := r.facts(2); err == nil || !strings.Contains(err.Error(), "has 3 nodes: say --nodes 3") {
		t.Errorf("fewer nodes: %v", err)
	}
	if err := r.facts(5); err != nil || r.net.prefix != first {
		t.Errorf("more nodes: %v, %s then %s", err, first, r.net.prefix)
	}
	if err := os.WriteFile(r.base+"/ring.json", []byte(`{"nodes":1,"range":"127.0.0.0/24"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockLocal(r.base + "/lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockLocal(r.base + "/lock"); err == nil {
		t.Error("two run one ring")
	}
	unlock()
	if unlock, err = lockLocal(r.base + "/lock"); err != nil {
		t.Error(err)
	}
	unlock()
}

func TestFreeRangeKeepsOff(t *testing.T) {
	a, err := freeRange()
	if err != nil {
		t.Fatal(err)
	}
	b, err := freeRange(a)
	if err != nil || b.Overlaps(a) {
		t.Errorf("%s beside %s: %v", b, a, err)
	}
	if _, err := freeRange(netip.MustParsePrefix("10.0.0.0/8")); err == nil {
		t.Error("a range was found where none is free")
	}
}

func TestLineWriter(t *testing.T) {
	var b strings.Builder
	l := &lineWriter{w: &b, prefix: "node1: "}
	for _, s := range []string{"on", "e\ntwo\n\nth", "ree\n", strings.Repeat("x", 64<<10), "y\n"} {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	want := "node1: one\nnode1: two\nnode1: \nnode1: three\nnode1: " + strings.Repeat("x", 64<<10) + "\nnode1: y\n"
	if b.String() != want {
		t.Errorf("%.200q", b.String())
	}
	l.hush()
	if _, err := l.Write([]byte("more\n")); err != nil || b.String() != want {
		t.Errorf("it goes on: %v", err)
	}
}

func TestNodePortsOfServices(t *testing.T) {
	got := nodePorts([]api.Service{{Ports: []string{"80:30080/TCP", "53:30053/UDP", "6379/TCP"}}, {Ports: []string{"8080:30080/TCP", "81:30081/TCP"}}})
	if strings.Join(got, " ") != "30080 30081" {
		t.Errorf("%v", got)
	}
}

// What comes in by a door goes through, both ways and to the end of each; a question is answered.
func TestDoors(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	go func() {
		for {
			c, err := far.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			_, _ = c.Write(append([]byte("heard "), b...))
			c.Close()
		}
	}()
	near, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 2)
	go func() {
		over <- keepDoor(ctx, near, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", far.Addr().String())
		})
	}()
	c, err := net.Dial("tcp", near.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("hello"))
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "heard hello" {
		t.Errorf("%q %v", b, err)
	}

	resolver, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Close()
	go func() {
		b := make([]byte, 100)
		for n, from, err := resolver.ReadFrom(b); err == nil; n, from, err = resolver.ReadFrom(b) {
			_, _ = resolver.WriteTo(append([]byte("re: "), b[:n]...), from)
		}
	}()
	questions, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { over <- leadQuestions(ctx, questions, resolver.LocalAddr().String()) }()
	answer, err := askResolver([]byte("who"), questions.LocalAddr().String())
	if err != nil || string(answer) != "re: who" {
		t.Errorf("%q %v", answer, err)
	}
	cancel()
	for range 2 {
		select {
		case err := <-over:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a door stays open")
		}
	}
}
