package dns

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A server ends, its sockets are held, and the next one answers what was asked in between, over UDP and TCP. Who holds
// nothing of the address is no help, and no harm.
func TestFault_W13_QuestionsWaitForTheNextServer(t *testing.T) {
	tables := ringTables()
	question := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA)
	first, err := Listen(Options{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Holder: os.Getpid(), Tables: &tables})
	if err != nil {
		t.Fatal(err)
	}
	at := first.Addr()
	held, err := first.Files()
	if err != nil {
		t.Fatal(err)
	}
	holder := exec.CommandContext(t.Context(), "sleep", "100") // another process does not change how they are read
	holder.ExtraFiles = held
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	for _, network := range []string{"udp", "tcp"} {
		if _, _, err := (&dns.Client{Net: network}).Exchange(question, at.String()); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if err := first.Close(); err != nil || time.Since(begun) > 5*time.Second {
		t.Fatalf("after %s: %v", time.Since(begun), err)
	}
	var asked []*dns.Conn
	for _, network := range []string{"udp", "tcp"} {
		c, err := net.DialTimeout(network, at.String(), time.Second)
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		defer c.Close()
		conn := &dns.Conn{Conn: c}
		if err := conn.WriteMsg(question); err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		asked = append(asked, conn)
	}
	next, err := Listen(Options{Listen: at, Holder: holder.Process.Pid, Tables: &tables})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range held {
		_ = f.Close()
	}
	for i, conn := range asked {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		a, err := conn.ReadMsg()
		if err != nil || len(a.Answer) != 1 {
			t.Errorf("question %d: %v, %v", i, a, err)
		}
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	if c, err := net.DialTimeout("tcp", at.String(), time.Second); err == nil {
		c.Close()
		t.Error("nobody holds the socket any more, and it takes connections")
	}
}
