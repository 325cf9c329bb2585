//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// processes are those of the node by role. Containers' processes are not among them.
func (n *Node) processes() map[string][]int {
	roles := map[string][]int{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		b, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		line := string(b)
		switch {
		case pid == n.agent.Process.Pid:
			roles["agent"] = append(roles["agent"], pid)
		case strings.Contains(line, "containerd-child") && strings.Contains(line, n.Data):
			roles["containerd"] = append(roles["containerd"], pid)
		case strings.Contains(line, "renderer-child") && parent(pid) == n.agent.Process.Pid:
			roles["renderer"] = append(roles["renderer"], pid)
		case strings.HasPrefix(line, n.Data) && strings.Contains(line, "shim"):
			roles["shim"] = append(roles["shim"], pid)
		}
	}
	return roles
}

// parent is the process that started another; 0 when that is gone.
func parent(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	if fields := strings.Fields(rest); len(fields) > 1 {
		ppid, _ := strconv.Atoi(fields[1])
		return ppid
	}
	return 0
}

// memory reads one line of a process's smaps_rollup ("Pss", "Anonymous"), in MiB.
func memory(pid int, field string) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// cpu is the time for which the threads of a process ran.
func cpu(pid int) (sum time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if fields := strings.Fields(string(b)); err == nil && len(fields) > 0 {
			ns, _ := strconv.ParseInt(fields[0], 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

// machineCPU is the time for which the whole machine was not idle, in seconds.
func machineCPU() float64 {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	ticks := 0.0
	for i, field := range strings.Fields(line) {
		if v, err := strconv.ParseFloat(field, 64); err == nil && i != 4 && i != 5 && i < 8 { // without idle and iowait
			ticks += v
		}
	}
	return ticks / 100
}

// idling watches nodes do nothing: of each, by role, for which part of a core its processes ran, in percent.
func idling(nodes []*Node, over time.Duration) []map[string]float64 {
	roles, sums := make([]map[string][]int, len(nodes)), make([]map[string]float64, len(nodes))
	for i, n := range nodes {
		roles[i], sums[i] = n.processes(), map[string]float64{}
	}
	add := func(sign float64) {
		for i := range nodes {
			for _, role := range []string{"agent", "containerd", "shim"} {
				for _, pid := range roles[i][role] {
					sums[i][role] += sign * float64(cpu(pid))
				}
			}
		}
	}
	began := time.Now()
	add(-1)
	time.Sleep(over)
	add(1)
	for _, sum := range sums {
		for role := range sum {
			sum[role] *= 100 / float64(time.Since(began))
		}
	}
	return sums
}

// benchIdleCPU watches agent and containerd do nothing.
func (n *Node) benchIdleCPU(name string, over time.Duration) {
	part := idling([]*Node{n}, over)[0]
	figure{Name: name + ": agent and containerd", Unit: "% of a core", Goal: 0.5}.print(part["agent"] + part["containerd"])
	figure{Name: name + ": agent alone", Unit: "% of a core"}.print(part["agent"])
	if _, there := part["shim"]; there {
		figure{Name: name + ": all shims", Unit: "% of a core"}.print(part["shim"])
	}
}

// benchMemory tells what agent and containerd keep, some time after the last pod went.
func (n *Node) benchMemory(when string, wait time.Duration) {
	time.Sleep(wait)
	roles := n.processes()
	sum := 0.0
	for _, role := range []string{"agent", "containerd"} {
		for _, pid := range roles[role] {
			sum += memory(pid, "Pss")
			figure{Name: "anonymous memory, pods came and went, " + when + ": " + role, Unit: "MiB"}.print(memory(pid, "Anonymous"))
		}
	}
	figure{Name: "memory (Pss), pods came and went, " + when + ": agent and containerd", Unit: "MiB", Goal: 80}.print(sum)
	for _, pid := range roles["renderer"] {
		figure{Name: "memory (Pss), pods came and went, " + when + ": renderer, which ends after a minute", Unit: "MiB"}.print(memory(pid, "Pss"))
	}
	const spares = 2 // wait for pods to come
	if left := len(roles["shim"]); left > spares {
		n.t.Errorf("%d shims are left", left)
	}
}

// benchRoles tells what each role of the binary costs by itself.
func (n *Node) benchRoles() {
	roles := n.processes()
	for _, role := range []string{"agent", "containerd", "renderer", "shim"} {
		var anonymous, pss []float64
		for _, pid := range roles[role] {
			anonymous, pss = append(anonymous, memory(pid, "Anonymous")), append(pss, memory(pid, "Pss"))
		}
		figure{Name: fmt.Sprintf("anonymous memory with %d pods: %s", benchPods, role), Unit: "MiB"}.print(anonymous...)
		figure{Name: fmt.Sprintf("memory (Pss) with %d pods: %s", benchPods, role), Unit: "MiB"}.print(pss...)
	}
	shims, err := filepath.Glob(filepath.Join(n.Data, "bin", "shoal-shim-*"))
	if err != nil || len(shims) != 1 {
		n.t.Fatalf("shims %q: %v", shims, err)
	}
	for role, command := range map[string][]string{
		"shoal version":      {binary(n.t), "version"},
		"containerd's child": {binary(n.t), "containerd-child", "-h"},
		"renderer's child":   {binary(n.t), "renderer-child"}, // its input ends at once
		"shim":               {shims[0]},                      // says how it is to be called
	} {
		var took, used []float64
		for range benchTurns {
			began := time.Now()
			cmd := exec.CommandContext(context.Background(), command[0], command[1:]...)
			_ = cmd.Run() // some end with a complaint
			took = append(took, ms(time.Since(began)))
			used = append(used, ms(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()))
		}
		figure{Name: role + ", exec to exit", Unit: "ms"}.print(took...)
		figure{Name: role + ", CPU", Unit: "ms"}.print(used...)
	}
}
