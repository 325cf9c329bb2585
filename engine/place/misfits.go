package place

import (
	"fmt"
	"slices"
	"strings"
)

// Plus adds o to r sign times: 1 or -1.
func (r Resources) Plus(o Resources, sign int64) Resources {
	return Resources{
		MilliCPU:  r.MilliCPU + sign*o.MilliCPU,
		Memory:    r.Memory + sign*o.Memory,
		Ephemeral: r.Ephemeral + sign*o.Ephemeral,
		Pods:      r.Pods + sign*o.Pods,
	}
}

// Verdict says where a pod goes, or why nowhere.
type Verdict struct {
	Node   NodeID // "" for nowhere
	Reason string // in words
	Doubt  int    // 0: the node is relied on; else it was the last resort
}

// misfit is why a node is out of the question; detail is said when it is the only one.
type misfit struct{ text, detail string }

// room says what a node has too little of.
func room(asks, have, used Resources) misfit {
	switch {
	case used.Pods+1 > have.Pods:
		return misfit{"too many pods", fmt.Sprintf("%d of %d", used.Pods, have.Pods)}
	case asks.MilliCPU > 0 && asks.MilliCPU > have.MilliCPU-used.MilliCPU:
		return misfit{"insufficient cpu", fmt.Sprintf("asks %s, %s free", cpu(asks.MilliCPU), cpu(have.MilliCPU-used.MilliCPU))}
	case asks.Memory > 0 && asks.Memory > have.Memory-used.Memory:
		return misfit{"insufficient memory", fmt.Sprintf("asks %s, %s free", bytes(asks.Memory), bytes(have.Memory-used.Memory))}
	case asks.Ephemeral > 0 && asks.Ephemeral > have.Ephemeral-used.Ephemeral:
		return misfit{"insufficient ephemeral storage", fmt.Sprintf("asks %s, %s free", bytes(asks.Ephemeral), bytes(have.Ephemeral-used.Ephemeral))}
	}
	return misfit{}
}

// misfits counts nodes by what is wrong with them.
type misfits struct {
	count  map[string]int
	detail map[string]string
}

func (m *misfits) add(w misfit) {
	if m.count == nil {
		m.count, m.detail = map[string]int{}, map[string]string{}
	}
	m.count[w.text]++
	m.detail[w.text] = w.detail
}

func (m *misfits) String() string {
	var parts []string
	for _, text := range sortedKeys(m.count) {
		n := m.count[text]
		part := text
		if len(m.count) > 1 || n > 1 {
			part = fmt.Sprintf("%d %s", n, text)
		}
		if d := m.detail[text]; d != "" && n == 1 {
			part += ": " + d
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// cpu is "500m" or "2".
func cpu(milli int64) string {
	if milli%1000 == 0 {
		return fmt.Sprint(milli / 1000)
	}
	return fmt.Sprintf("%dm", milli)
}

// bytes is "2Gi", "1536Mi", "700Ki": the largest unit that says it exactly, else whole Mi, rounded down.
func bytes(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "Gi"}, {1 << 20, "Mi"}, {1 << 10, "Ki"}} {
		if n != 0 && n%u.size == 0 {
			return fmt.Sprintf("%d%s", n/u.size, u.name)
		}
	}
	if n > 1<<20 {
		return fmt.Sprintf("%dMi", n>>20)
	}
	return fmt.Sprint(n)
}
