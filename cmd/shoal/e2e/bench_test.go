//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// How much is measured. SHOAL_BENCH_IDLE shortens the time that idling is watched, for trials.
const (
	benchPods  = 100
	benchTurns = 10 // of what takes parts of a second
	benchIdle  = 60 * time.Second
)

// figure is one line of what `make bench` prints.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"` // the median where n > 1
	Unit  string  `json:"unit"`
	N     int     `json:"n"`
	P50   float64 `json:"p50,omitempty"`
	P90   float64 `json:"p90,omitempty"`
	Goal  float64 `json:"goal,omitempty"`
	Floor float64 `json:"floor,omitempty"` // the least that is possible here, measured in the same run
	Ratio float64 `json:"ratio,omitempty"` // value to floor
}

// print prints a figure made of samples.
func (f figure) print(samples ...float64) {
	if f.N = len(samples); f.N == 0 {
		return
	}
	slices.Sort(samples)
	f.Value = samples[len(samples)/2]
	if f.N > 1 {
		f.P50, f.P90 = f.Value, samples[len(samples)*9/10]
	}
	if f.Floor > 0 {
		f.Ratio = f.Value / f.Floor
	}
	for _, v := range []*float64{&f.Value, &f.P50, &f.P90, &f.Floor, &f.Ratio} {
		*v = float64(int64(*v*1000+0.5)) / 1000
	}
	line, _ := json.Marshal(f)
	fmt.Println(string(line))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkNode measures one node from its first start: idle, filled, changed, broken, emptied and idle again.
func BenchmarkNode(b *testing.B) {
	fmt.Println() // after the name that the testing package printed
	for b.Loop() {
		floor := measureFloor(b)
		n := NewNode(b).Start()
		n.Image("probe:v1")
		idle := idleTime(b)
		n.benchIdleCPU("idle CPU, no pods yet", idle)
		repo := n.Repository(nil)
		n.benchFill(repo, floor)
		n.benchValues(repo, floor)
		n.benchImages(repo, floor)
		n.benchKills(floor)
		n.benchExec()
		n.benchRoles()
		for i := range benchPods {
			repo.git("rm", "-rq", fmt.Sprintf("apps/%s", benchApp(i)))
		}
		repo.Push("none\n\nShoal-Allow-Delete: all")
		n.Eventually(2*time.Minute, func() error { return n.podsReady(0) })
		n.benchMemory("right after", 0)
		n.benchMemory("at rest", 75*time.Second) // the renderer has ended, and memory was given back
		n.benchIdleCPU("idle CPU, pods came and went", idle)
		for i := range 10 {
			repo.writeApp(i, "probe:v1", "again")
		}
		repo.Push("ten")
		n.Eventually(soon, func() error { return n.podsReady(10) })
		time.Sleep(time.Minute + 5*time.Second) // the renderer's child has ended
		n.benchIdleCPU("idle CPU, 10 pods", idle)
	}
}

// idleTime is how long idling is watched each time.
func idleTime(b *testing.B) time.Duration {
	s := os.Getenv("SHOAL_BENCH_IDLE")
	if s == "" {
		return benchIdle
	}
	idle, err := time.ParseDuration(s)
	if err != nil {
		b.Fatal(err)
	}
	return idle
}

// benchApp is the name of an app.
func benchApp(i int) string { return fmt.Sprintf("idle%03d", i) }

// writeApp writes an app of one pod that sits and serves.
func (r *Repository) writeApp(i int, image, greeting string) {
	name := benchApp(i)
	r.Write("apps/"+name+"/"+name+".cue", strings.NewReplacer("NAME", name, "IMAGE", image, "GREETING", greeting).Replace(`package NAME

import "shoal.dev/schema"

schema.#Package

app: NAME: {
	image: "shoal.local/IMAGE"
	args: ["serve"]
	ports: http: 8080
	env: APP: "NAME"
	env: SAID: "GREETING"
}
`))
}
