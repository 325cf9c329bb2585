//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// soakLevel is how many pods of the app there are between rounds, so that what is counted can be compared.
	soakLevel = 5
	// soakBound is within which the ring is as it should be once the faults of a round are over.
	soakBound = 2 * time.Minute
)

// soak is a ring of five under faults of all groups, by a seeded plan: one or two at a time, as a majority survives them.
type soak struct {
	t      *testing.T
	r      *ring
	w      *witness
	repo   *Repository
	random *rand.Rand

	greeting string // that the app is to say
	replicas int    // of the app
	commits  int
	acked    string // the newest commit of which a node has said that the ring has it

	injected map[string]int
	checks   int
	took     times // to be as it should be again, by round
	samples  []sample
}

// soakNumber is a number from the environment.
func soakNumber(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// Five machines run for a while under faults of every group. After each round of them all machines have one state, every
// acknowledged commit, and what is desired, within a bound; what may run once was never there twice; what harms nobody has
// cost no request; and over all rounds memory, descriptors, threads, rules, links, mounts, cgroups, processes and disk stay flat.
// SOAK_SECONDS is for how long faults are injected, SOAK_SEED repeats a run's plan.
func TestFault_U11_Soak(t *testing.T) {
	span := time.Duration(soakNumber(t, "SOAK_SECONDS", rounds(45, 240))) * time.Second
	seed := uint64(soakNumber(t, "SOAK_SEED", int(time.Now().UnixNano()%1_000_000)))
	t.Logf("replay with SOAK_SEED=%d SOAK_SECONDS=%d", seed, int(span.Seconds()))
	s := &soak{t: t, random: rand.New(rand.NewPCG(seed, 11)), injected: map[string]int{}, replicas: soakLevel, greeting: "g0"}
	s.begin(seed)
	load := s.load()
	var quiet []quietTime
	begun := time.Now()
	for round := 1; time.Since(begun) < span; round++ {
		from := time.Now()
		said, harmless := s.round()
		s.converge(said)
		s.check()
		if harmless {
			quiet = append(quiet, quietTime{from, time.Now(), fmt.Sprintf("round %d (%s)", round, said)})
		}
		t.Logf("%s: round %d: %s; as it should be after %s", time.Since(begun).Round(time.Second), round, said, s.took[len(s.took)-1].Round(10*time.Millisecond))
	}
	load.stop()
	load.done.Wait()
	load.judge(s, quiet)
	moves := s.w.alone(t)
	if len(s.w.stints) == 0 {
		t.Error("the witness has seen nothing")
	}
	t.Logf("seed %d: faults by kind: %v", seed, s.injected)
	t.Logf("%d checks; as it should be again: %s; what may run once ran %d times and was moved %d times", s.checks, s.took, len(s.w.stints), moves)
	s.flat()
}

// begin makes the ring and what runs on it.
func (s *soak) begin(seed uint64) {
	var args []string
	if seed%2 == 1 {
		args = []string{"--wireguard=on"}
	}
	s.r = newRing(s.t, 5, args...).smallDisks().clocked().start()
	first := s.r.nodes[0]
	first.Image("probe:v1")
	s.repo = first.Repository(map[string]string{
		"apps/web/web.cue": s.web(), "apps/one/one.cue": beatingApp,
		"apps/cron/cron.yaml": fmt.Sprintf(cronYAML, "cron", "Allow", `exit, "0"`),
	})
	s.repo.Push("first")
	s.acked = s.repo.Head()
	for _, n := range s.r.nodes {
		n.mark = n.instance()
	}
	s.w = s.r.witness("one")
	s.converge("the beginning")
	s.took = nil
	s.check()
}

// web is the app as it is to be.
func (s *soak) web() string {
	return strings.Replace(replicated(s.greeting), "replicas: 3", fmt.Sprint("replicas: ", s.replicas), 1)
}

// round injects one to three faults, one after another and overlapping, lets them be for a while, and takes them back in
// some order. It tells whether none of them may cost a request.
func (s *soak) round() (said string, harmless bool) {
	count := 1
	if p := s.random.IntN(100); p < 50 {
		count += 1 + p/40 // every second round has two, every tenth three
	}
	nodes := slices.Clone(s.r.nodes)
	s.random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	all := soakFaults()
	down := 0
	var names []string
	var undo []func()
	harmless = true
	for i := range count {
		f := all[s.random.IntN(len(all))]
		for f.harm == takesNode && down == 2 { // two of five are all that a majority survives
			f = all[s.random.IntN(len(all))]
		}
		n := nodes[i]
		if f.harm == takesNode {
			down++
		}
		harmless = harmless && f.harm == none
		healthy := nodes[len(nodes)-1]
		names = append(names, f.name+" "+n.name)
		s.injected[f.name]++
		if back := f.inject(s, n, healthy); back != nil {
			undo = append(undo, back)
		}
		time.Sleep(time.Duration(s.random.IntN(1500)) * time.Millisecond)
		s.w.look()
	}
	if len(undo) > 0 {
		time.Sleep(time.Duration(s.random.IntN(5000)) * time.Millisecond)
	}
	s.w.look()
	s.random.Shuffle(len(undo), func(i, j int) { undo[i], undo[j] = undo[j], undo[i] })
	for _, back := range undo {
		back()
	}
	return strings.Join(names, ", "), harmless
}
