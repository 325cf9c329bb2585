//go:build e2e

package e2e

import (
	"context"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/nodeagent/containers/containerstest"
)

// floor is what a bare containerd client takes on this machine, without pods, network or reports.
type floor struct {
	one  float64 // ms for one container, the median
	many float64 // s for benchPods containers, two at a time
	cpu  float64 // s of the whole machine for those
}

func measureFloor(b *testing.B) (out floor) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	bare := containerstest.OpenFloor(b)
	start := func() (ms float64, remove func() error) {
		took, remove, err := bare.Start(ctx)
		if err != nil {
			b.Fatal(err)
		}
		return float64(took.Microseconds()) / 1000, remove
	}
	var ones []float64
	for range benchTurns {
		took, remove := start()
		if err := remove(); err != nil {
			b.Fatal(err)
		}
		ones = append(ones, took)
	}
	figure{Name: "floor: one container by the bare containerd client", Unit: "ms"}.print(ones...)
	out.one = ones[len(ones)/2]

	removes := make(chan func() error, benchPods)
	var g errgroup.Group
	g.SetLimit(2)
	began, busy := time.Now(), machineCPU()
	for range benchPods {
		g.Go(func() error {
			_, remove, err := bare.Start(ctx)
			if err == nil {
				removes <- remove
			}
			return err
		})
	}
	err := g.Wait()
	out.many, out.cpu = time.Since(began).Seconds(), machineCPU()-busy
	close(removes)
	for remove := range removes {
		if err := remove(); err != nil {
			b.Error(err)
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// benchFill brings up all apps with one push.
func (n *Node) benchFill(repo *Repository, floor floor) {
	for i := range benchPods {
		repo.writeApp(i, "probe:v1", "hello")
	}
	repo.git("add", "-A")
	repo.git("commit", "-q", "-m", "all")
	busy := machineCPU()
	pushed := make(chan struct{})
	var told string
	go func() {
		defer close(pushed)
		told = repo.git("push", "-q", "origin", "HEAD:main")
	}()
	n.Eventually(2*time.Minute, func() error {
		time.Sleep(80 * time.Millisecond) // each answer is about 100 pods: asking must not be what is measured
		return n.podsReady(benchPods)
	})
	ready, spent := time.Now(), machineCPU()-busy
	<-pushed
	received, err := n.pushReceived()
	if err != nil {
		n.t.Fatal(err)
	}
	figure{Name: "100 apps of one pod: push received to all ready", Unit: "s", Goal: 5, Floor: floor.many}.print(ready.Sub(received).Seconds())
	if at := stage.FindStringSubmatch(told); at != nil { // the first: rendered, checked and in the ledger
		took, _ := strconv.ParseFloat(at[2], 64)
		figure{Name: "100 apps of one pod, as the pusher sees it: " + at[1], Unit: "ms"}.print(took)
	}
	figure{Name: "100 apps of one pod: CPU of the whole machine, Git and the measurement included", Unit: "s", Floor: floor.cpu}.print(spent)
}
