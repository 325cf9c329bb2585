//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pushReceived is when the server had read the head of the newest push, as the agent's log says.
func (n *Node) pushReceived() (time.Time, error) {
	text := n.output.String()
	for len(text) > 0 {
		i := strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n') + 1
		line := text[i:]
		text = text[:i]
		if !strings.Contains(line, `"push received"`) {
			continue
		}
		var entry struct{ Begun time.Time }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			return time.Time{}, err
		}
		return entry.Begun, nil
	}
	return time.Time{}, fmt.Errorf("the agent's log tells of no push")
}

// firstWords waits for the first line that a process of an app printed after a moment, and gives its time. The
// line is printed once the process listens, so this is later than its start.
func (n *Node) firstWords(app string, after time.Time) (at time.Time) {
	n.t.Helper()
	n.Eventually(soon, func() error {
		files, _ := filepath.Glob(filepath.Join(n.Logs, "*_"+app+"-*", "*", "*.log"))
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				continue // its pod is gone
			}
			for lines := bufio.NewScanner(f); lines.Scan(); {
				stamp, rest, _ := strings.Cut(lines.Text(), " ")
				when, err := time.Parse(time.RFC3339Nano, stamp)
				if err == nil && when.After(after) && strings.Contains(rest, "serve: listening") {
					at = when
				}
			}
			f.Close()
		}
		if at.IsZero() {
			return fmt.Errorf("%s: no process after %s", app, after)
		}
		return nil
	})
	return at
}

// stage is a step of a roll-out and its time, as the pusher is shown it: since the push was taken in.
var stage = regexp.MustCompile(`(activated|created|process started|all ready) after (\d+) ms`)

// timePush pushes what is in the work tree and takes the time from the push's arrival to the app's new process.
func (r *Repository) timePush(app, message string) float64 {
	r.n.t.Helper()
	for _, stage := range stage.FindAllStringSubmatch(r.Push(message), -1) {
		took, _ := strconv.ParseFloat(stage[2], 64)
		r.stages[stage[1]] = append(r.stages[stage[1]], took)
	}
	received, err := r.n.pushReceived()
	if err != nil {
		r.n.t.Fatal(err)
	}
	return ms(r.n.firstWords(app, received).Sub(received))
}

// benchValues changes a value of one app among the idle ones.
func (n *Node) benchValues(repo *Repository, floor floor) {
	var took []float64
	for i := range benchTurns {
		repo.writeApp(0, "probe:v1", fmt.Sprint("value ", i))
		took = append(took, repo.timePush(benchApp(0), "value"))
		n.Eventually(soon, func() error { return n.podsReady(benchPods) })
	}
	figure{Name: "push received to process runs, a value changed", Unit: "ms", Goal: 150, Floor: floor.one}.print(took...)
	for _, stage := range []string{"activated", "created", "process started", "all ready"} {
		figure{Name: "a value changed, as the pusher sees it: " + stage, Unit: "ms"}.print(repo.stages[stage]...)
	}
}

// benchImages changes the image of one app; the image is in the node's store.
func (n *Node) benchImages(repo *Repository, floor floor) {
	var took []float64
	for i := range benchTurns / 2 {
		image := fmt.Sprintf("probe:b%d", i)
		n.Image(image)
		repo.writeApp(0, image, "value")
		took = append(took, repo.timePush(benchApp(0), "image"))
		n.Eventually(soon, func() error { return n.podsReady(benchPods) })
	}
	figure{Name: "push received to process runs, the image changed", Unit: "ms", Goal: 150, Floor: floor.one}.print(took...)
}

// benchKills kills containers that were not restarted before, one after the other.
func (n *Node) benchKills(floor floor) {
	byApp := map[string]int{}
	for _, pid := range n.containerPIDs("/probe") {
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		for v := range strings.SplitSeq(string(environ), "\x00") {
			if app, ok := strings.CutPrefix(v, "APP="); ok {
				byApp[app] = pid
			}
		}
	}
	var took []float64
	for i := range benchTurns {
		app := benchApp(i + 1)
		if byApp[app] == 0 {
			n.t.Fatalf("%s does not run", app)
		}
		killed := time.Now()
		if err := syscall.Kill(byApp[app], syscall.SIGKILL); err != nil {
			n.t.Fatal(err)
		}
		took = append(took, ms(n.firstWords(app, killed).Sub(killed)))
		n.Eventually(soon, func() error { return n.podsReady(benchPods) })
	}
	figure{Name: "container killed to runs again", Unit: "ms", Goal: 150, Floor: floor.one}.print(took...)
}

// benchExec runs a command in a container, the way a person does.
func (n *Node) benchExec() {
	pod := ""
	for _, p := range n.Status().Pods {
		if strings.HasPrefix(p.Name, benchApp(50)+"-") {
			pod = p.Name
		}
	}
	var took []float64
	for range benchTurns / 2 {
		began := time.Now()
		if _, stderr, code := n.Shoal("exec", pod, "--", "/probe", "env"); code != 0 {
			n.t.Fatalf("exec: %d: %s", code, stderr)
		}
		took = append(took, ms(time.Since(began)))
	}
	figure{Name: "shoal exec, whole command line", Unit: "ms"}.print(took...)
}
