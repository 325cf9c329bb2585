package enginetest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/control"
)

// calmly has nothing go wrong but what a test does.
var calmly = Weather{Faults: []string{"rebalance"}, Every: 10_000_000}

// start is a process of a run of a CronJob that was begun.
type start struct {
	pod control.PodID
	at  int64 // true time, ms
}

// runsOf notes when the processes of runs of a CronJob are started, by the run, its environment before it.
func runsOf(w *World, cronJob string, then func(at point, m *machine, p *control.Pod)) map[string][]start {
	starts := map[string][]start{}
	w.passes = func(at point, m *machine, p *control.Pod) {
		ours := p != nil && p.Source.Kind == "CronJob" && p.Source.Name == cronJob
		if ours && at == afterStart {
			run := p.Environment + "/" + p.Owner.Key.Name
			starts[run] = append(starts[run], start{p.ID, w.wall()})
		}
		if p == nil || ours {
			then(at, m, p)
		}
	}
	return starts
}

// TestFault_J1 ends the agent, or cuts the power of the machine, at each step of a run's way: before and after the leader has
// recorded it, before and after its node starts it. Every run that is due is one job, starts once at least, within a minute,
// and once more, in another pod, only where its pod was lost with its node. No pod is started twice, but for one whose machine
// loses its power before it could tell that it had started it: within a second.
func TestFault_J1(t *testing.T) {
	for _, at := range []point{beforeRecord, afterRecord, beforeStart, afterStart} {
		for _, power := range []bool{false, true} {
			name := string(at)
			if power {
				name += ", power"
			}
			if underRace && !power {
				continue // ten times slower
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := NewWorld(7, 5, 3)
				w.Weather = calmly
				w.lasts = func(*control.Pod) int64 { return 20_000 }
				var kills []string
				last := int64(0)
				starts := runsOf(w, "allow", func(here point, m *machine, p *control.Pod) {
					minute := w.wall() / 60_000
					due := minute%5 == 0 // the run of "*/5 * * * *" is about to be, or was
					if here != at || !due || minute == last || len(kills) == 6 || w.now < 3*60*second {
						return
					}
					last = minute
					kills = append(kills, fmt.Sprintf("%s %s", Clock(w.wall()), m.up.Name))
					end := func() {
						if power {
							w.faults.cutPower(m, 4*second)
						} else {
							m.stop()
							w.faults.restart(m, 2*second)
						}
						w.topology()
					}
					if power && at == afterStart {
						w.after(2*second, end) // it was reported
					} else {
						end()
					}
				})
				if err := w.Run(45*60_000, quietShort); err != nil {
					t.Fatal(err)
				}
				if len(kills) < 4 {
					t.Fatalf("only ended at %v", kills)
				}
				again := 0
				for due := Epoch + 5*60_000; due < Epoch+40*60_000; due += 5 * 60_000 {
					run := "dev/" + control.RunName("allow", due)
					all := starts[run]
					if len(all) == 0 || all[0].at > due+60_000 {
						t.Errorf("run %s, due at %s, started at %v", run, Clock(due), all)
					}
					seen := map[control.PodID]bool{}
					for _, s := range all {
						if seen[s.pod] {
							t.Errorf("run %s: pod %s was started twice: %v", run, s.pod, all)
						}
						seen[s.pod] = true
					}
					again += max(len(all)-1, 0)
				}
				if lostWithPod := at == afterStart && power; !lostWithPod && again > 0 || again > len(kills) {
					t.Errorf("%d starts were made again: %v", again, starts)
				}
				t.Logf("%d ends; %d runs, %d of them started again in another pod", len(kills), len(starts), again)
			})
		}
	}
}

// TestFault_J5 has runs last longer than their period while agents and machines are ended and cut off. Allow: runs are under way
// side by side. Forbid: none begins before the one before has ended, and a new one does then. Replace: each that is due takes
// the place of the one before, whose process has ended when it begins.
func TestFault_J5(t *testing.T) {
	for _, c := range []struct {
		policy string
		lasts  int64 // ms
		due    int   // runs in the time, by the schedule, if every one starts
	}{{"allow", 700_000, 16}, {"forbid", 150_000, 80}, {"replace", 600_000, 11}} {
		if underRace && c.policy != "forbid" {
			continue // ten times slower
		}
		t.Run(c.policy, func(t *testing.T) {
			t.Parallel()
			overlaps, begun, kills, seeds := 0, 0, 0, uint64(1)
			if os.Getenv("FULL") != "" {
				seeds = 10
			}
			for seed := range seeds {
				w := NewWorld(seed+1, 5, 3)
				w.Weather = Weather{Faults: []string{"crash", "power", "isolate", "freeze"}, Every: 90}
				w.lasts = func(p *control.Pod) int64 {
					if p.Source.Kind == "CronJob" && p.Source.Name == c.policy {
						return c.lasts
					}
					return 0
				}
				starts := runsOf(w, c.policy, func(at point, _ *machine, p *control.Pod) {
					if at != afterStart {
						return
					}
					running := map[string]bool{}
					for _, m := range w.nodes {
						for _, id := range m.ids() {
							if q := m.procs[id]; q.running() && q.pod.Source == p.Source {
								running[q.pod.Owner.Key.Name] = true
							}
						}
					}
					if len(running) > 1 {
						overlaps++
						if c.policy != "allow" {
							t.Errorf("seed %d, %s: runs %v at once", seed+1, Clock(w.wall()), running)
						}
					}
				})
				if err := w.Faulty(80 * 60_000); err != nil {
					t.Fatal(err)
				}
				environment := "dev/"
				for run := range starts {
					if c.policy == "replace" {
						environment = run[:strings.IndexByte(run, '/')+1]
					}
					if strings.HasPrefix(run, environment) {
						begun++
					}
				}
				kills += w.Stats.Faults
			}
			t.Logf("%d faults, %d runs began, %d times beside another", kills, begun, overlaps)
			if c.policy == "allow" && (overlaps == 0 || begun < int(seeds)*c.due*7/10) {
				t.Errorf("%d of %d runs began, %d beside another", begun, int(seeds)*c.due, overlaps)
			}
			if c.policy == "forbid" && (begun < int(seeds)*15 || begun > int(seeds)*35) { // 80 min in runs of 150 s, some of which are ended early
				t.Errorf("%d runs began", begun)
			}
			if c.policy == "replace" && begun < int(seeds)*c.due*7/10 {
				t.Errorf("%d of %d runs began", begun, int(seeds)*c.due)
			}
		})
	}
}
