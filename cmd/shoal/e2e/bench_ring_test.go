//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// How often things happen to the ring that is measured.
const (
	benchPushes = 20
	benchLosses = 5
)

// BenchmarkRing measures three machines on one switch: at rest, a push to one that runs on another, and a machine that
// loses its power.
func BenchmarkRing(b *testing.B) {
	fmt.Println() // after the name that the testing package printed
	for b.Loop() {
		floor := measureFloor(b)
		r := newRing(b, 3).start()
		r.nodes[0].Image("probe:v1")
		r.benchPushes(floor)
		r.benchRest(idleTime(b))
		r.benchLosses()
	}
}

// benchPushes takes the time from a push's arrival on one node to the new process on another, which is never the same.
func (r *ring) benchPushes(floor floor) {
	first, other := r.nodes[0], r.nodes[1]
	repo := first.Repository(map[string]string{"apps/web/web.cue": keptOn(other.name, "zero")})
	repo.Push("zero")
	r.settled(1)
	var took []float64
	for i := range benchPushes {
		repo.Write("apps/web/web.cue", keptOn(other.name, fmt.Sprint("push", i)))
		repo.Push("next")
		received, err := first.pushReceived()
		if err != nil {
			r.t.Fatal(err)
		}
		took = append(took, ms(other.firstWords("web", received).Sub(received)))
	}
	figure{Name: "ring of three: push received to process on another node runs", Unit: "ms", Goal: 2000, Floor: floor.one}.print(took...)
	repo.Write("apps/web/web.cue", strings.Replace(webApp("probe:v1", "spread"), "image:", "replicas: 3\n\timage:", 1))
	repo.Push("spread")
	r.settled(3)
}

// benchRest watches the ring do nothing with a pod on each node.
func (r *ring) benchRest(over time.Duration) {
	time.Sleep(time.Minute + 5*time.Second) // the renderers' children have ended
	leader := r.leader()
	parts := idling(r.nodes, over)
	for i, n := range r.nodes {
		role := "a follower"
		if n.name == leader {
			role = "the leader"
		}
		name := "ring of three at rest: " + role
		figure{Name: name + ", idle CPU of agent and containerd", Unit: "% of a core"}.print(parts[i]["agent"] + parts[i]["containerd"])
		figure{Name: name + ", idle CPU of the agent alone", Unit: "% of a core"}.print(parts[i]["agent"])
		roles := n.processes()
		sum := 0.0
		for _, pid := range append(roles["agent"], roles["containerd"]...) {
			sum += memory(pid, "Pss")
		}
		figure{Name: name + ", memory (Pss) of agent and containerd", Unit: "MiB", Goal: 80}.print(sum)
	}
}

// benchLosses has machines lose their power in turn, each time the one that leads, and takes the time until as many
// pods are ready on the others.
func (r *ring) benchLosses() {
	var took []float64
	for range benchLosses {
		lost, rest := r.around(r.leader())
		lost.powerOff()
		begun := time.Now()
		rest[0].Eventually(time.Minute, func() error { return rest[0].readyOff(lost.name, "web-", 3) })
		took = append(took, time.Since(begun).Seconds())
		lost.powerOn()
		r.nodes = append(rest[:2:2], lost)
		r.settled(3)
	}
	figure{Name: "ring of three: the leader's machine is lost to its pods ready elsewhere", Unit: "s", Goal: 3}.print(took...)
}
