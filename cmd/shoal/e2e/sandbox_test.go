//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serving is a Deployment of so many pods that answer on port 8080.
func serving(name string, replicas int, annotations string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}, annotations: {%[3]s}}
    spec:
      containers:
      - {name: main, image: "shoal.local/probe:v1", args: [serve], readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}}
`, name, replicas, annotations)
}

// silent tells whether nothing comes from an address that a pod asks for a connection.
func (n *Node) silent(uid, address string) error {
	return n.inPod(uid, func() error {
		c, err := net.DialTimeout("tcp", address, 500*time.Millisecond)
		if err == nil {
			_ = c.Close()
			return errors.New("there is a connection")
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) && !strings.Contains(err.Error(), "timeout") {
			return err
		}
		return nil
	})
}

func (n *Node) connects(uid, address string) error {
	return n.connectsWithin(uid, address, 5*time.Second)
}

// TestFault_P2_SandboxWhileTheAgentRestarts: pods that bear what a fork's preview gives them speak to each other alone, from before they
// begin, while the agent is killed and started again, and while they end.
func TestFault_P2_SandboxWhileTheAgentRestarts(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{
		"apps/fork/fork.yaml": serving("fork", 2, "shoal.dev/egress: environment"),
		"apps/free/free.yaml": serving("free", 1, ""),
	})
	repo.Push("a fork, and what is free")
	n.Eventually(soon, func() error { return n.podsReady(3) })
	uid, at := map[string][]string{}, map[string][]string{}
	for _, p := range n.Status().Pods {
		app, _, _ := strings.Cut(p.Name, "-")
		uid[app], at[app] = append(uid[app], p.UID), append(at[app], p.IP+":8080")
	}
	node := n.Status().Address + ":7443"
	fork, free := uid["fork"][0], uid["free"][0]
	for what, err := range map[string]error{
		"a fork's pod to the other":  n.connects(fork, at["fork"][1]),
		"a fork's pod to the free":   n.silent(fork, at["free"][0]),
		"a fork's pod to the node":   n.silent(fork, node),
		"the free to a fork's pod":   n.connects(free, at["fork"][0]),
		"the free to the fork again": n.connects(free, at["fork"][1]),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := n.inPod(fork, func() error {
		a, err := dns.Exchange(new(dns.Msg).SetQuestion("stolen.example.net.", dns.TypeA), "10.43.0.10:53")
		if err != nil || a.Rcode != dns.RcodeNameError {
			return fmt.Errorf("%v: %w", a, err)
		}
		return nil
	}); err != nil {
		t.Errorf("a name of the outside: %v", err)
	}

	stop, done := make(chan struct{}), make(chan struct{})
	var tries, through atomic.Int32
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := n.connectsWithin(fork, at["free"][0], 100*time.Millisecond); err == nil {
				through.Add(1)
			}
			tries.Add(1)
		}
	}()
	for range rounds(3, 10) {
		n.Kill()
		time.Sleep(300 * time.Millisecond)
		n.Start()
		time.Sleep(300 * time.Millisecond)
	}
	repo.Write("apps/fork/fork.yaml", serving("other", 1, ""))
	repo.Push("the fork ends")
	n.Eventually(soon, func() error { return n.podsReady(2) })
	close(stop)
	<-done
	if through.Load() > 0 || tries.Load() < 5 {
		t.Errorf("%d of %d tries of a fork's pod came through", through.Load(), tries.Load())
	}
}

func (n *Node) connectsWithin(uid, address string, wait time.Duration) error {
	return n.inPod(uid, func() error {
		c, err := net.DialTimeout("tcp", address, wait)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}
