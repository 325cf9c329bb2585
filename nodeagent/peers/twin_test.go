package peers

import (
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
)

// Who says that it is this node is its twin if it holds this node's key, and if it is not this node itself behind a relay.
func TestFault_N15_ATwinProvesIt(t *testing.T) {
	a := begin(t)
	b := a.join("b")
	if a.Twin(t.Context(), b.Addr()) {
		t.Error("another node passes for a twin")
	}
	if a.Twin(t.Context(), a.Addr()) {
		t.Error("it is its own twin")
	}
	if a.Twin(t.Context(), netip.MustParseAddrPort("127.0.0.1:1")) {
		t.Error("nobody is a twin")
	}
	relay, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	go func() {
		for {
			from, err := relay.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", a.Addr().String())
			if err != nil {
				from.Close()
				return
			}
			go func() { _, _ = io.Copy(to, from); to.Close() }()
			go func() { _, _ = io.Copy(from, to); from.Close() }()
		}
	}()
	if a.Twin(t.Context(), relay.Addr().(*net.TCPAddr).AddrPort()) {
		t.Error("it is its own twin, by a relay")
	}
	clone := newMachine(t, a.book)
	clone.key = a.key
	if err := os.CopyFS(clone.dir, os.DirFS(a.dir)); err != nil {
		t.Fatal(err)
	}
	clone.start().serve()
	if !a.Twin(t.Context(), clone.Addr()) || !clone.Twin(t.Context(), a.Addr()) {
		t.Error("a cloned disk is no twin")
	}
}
