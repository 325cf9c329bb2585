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

// benchFill brings up all apps with one push, which is told when all are ready: asking meanwhile, a hundred pods each time,
// would be a part of what is measured.
func (n *Node) benchFill(repo *Repository, floor floor) {
	for i := range benchPods {
		repo.writeApp(i, "probe:v1", "hello")
	}
	repo.git("add", "-A")
	repo.git("commit", "-q", "-m", "all")
	busy := machineCPU()
	told := repo.git("push", "-q", "origin", "HEAD:main")
	spent := machineCPU() - busy
	if err := n.podsReady(benchPods); err != nil {
		n.t.Fatalf("%v, and the push was told\n%s", err, told)
	}
	stages := stage.FindAllStringSubmatch(told, -1)
	first, last := stages[0], stages[len(stages)-1]
	activated, _ := strconv.ParseFloat(first[2], 64)
	ready, _ := strconv.ParseFloat(last[2], 64)
	if first[1] != "activated" || last[1] != "all ready" {
		n.t.Fatalf("the push was told\n%s", told)
	}
	figure{Name: "100 apps of one pod: push received to all ready", Unit: "s", Goal: 5, Floor: floor.many}.print(ready / 1000)
	figure{Name: "100 apps of one pod, as the pusher sees it: activated", Unit: "ms"}.print(activated)
	figure{Name: "100 apps of one pod: CPU of the whole machine, Git and the measurement included", Unit: "s", Floor: floor.cpu}.print(spent)
}
