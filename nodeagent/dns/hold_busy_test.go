package dns

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
)

// The process that holds the sockets opens and closes others all the while, as containerd does when an agent is killed: they are
// taken over each time.
func TestFault_W13_HolderIsBusy(t *testing.T) {
	tables := ringTables()
	first, err := Listen(Options{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Tables: &tables})
	if err != nil {
		t.Fatal(err)
	}
	at := first.Addr()
	held, err := first.Files()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var busy sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c, err := net.Dial("udp", "127.0.0.1:9"); err == nil {
					_ = c.Close()
				}
				if f, err := os.Open("/proc/self/stat"); err == nil {
					_ = f.Close()
				}
			}
		})
	}
	for i := range 300 {
		s, err := heldBy(os.Getpid(), at)
		if err != nil {
			t.Errorf("round %d: %v", i, err)
			break
		}
		_, _ = s.packets.Close(), s.connections.Close()
	}
	close(stop)
	busy.Wait()
	for _, f := range held {
		_ = f.Close()
	}
}
