package place

import (
	"cmp"
	"fmt"
	"iter"
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

// Ask is what one pod wants of its node.
type Ask struct {
	Requests  Resources         // less Pods, which is 1
	Selector  map[string]string // labels the node must have
	HostPorts []string          // "tcp:80": free on the node
	Node      NodeID            // this node and no other; "" for any
}

// Candidate is a node with what is on it.
type Candidate struct {
	Node      *Node
	Used      Resources                     // by pods that are there
	Siblings  int                           // pods of the same owner
	PortTaken func(port string) (by string) // "" when free; asked only for the ask's own ports
}

// Verdict says where a pod goes, or why nowhere.
type Verdict struct {
	Node   NodeID // "" for nowhere
	Reason string // in words
}

// Choose is the plain way for a few nodes and pods that want nothing but room: it looks at every candidate, where a Board
// does not. It returns the node with the fewest pods of the same owner; among these the one of which the largest part
// stays free (in thousandths of its scarcest resource); then the one whose id is lowest. The order of the
// candidates does not matter.
func Choose(ask Ask, nodes iter.Seq[Candidate]) Verdict {
	var best Candidate
	var bestFree int64
	var misfits misfits
	total, fits := 0, 0
	for c := range nodes {
		total++
		if why := ask.misfit(c); why.text != "" {
			misfits.add(why)
			continue
		}
		fits++
		free := ask.left(c)
		if fits == 1 || cmp.Or(cmp.Compare(c.Siblings, best.Siblings), -cmp.Compare(free, bestFree), strings.Compare(string(c.Node.ID), string(best.Node.ID))) < 0 {
			best, bestFree = c, free
		}
	}
	if fits == 0 {
		if total == 0 {
			return Verdict{Reason: "0/0 nodes: no node has joined"}
		}
		return Verdict{Reason: fmt.Sprintf("0/%d nodes: %s", total, misfits.String())}
	}
	return Verdict{Node: best.Node.ID, Reason: reason(best, bestFree, fits, total)}
}

func reason(c Candidate, free int64, fits, total int) string {
	if fits == 1 && total == 1 {
		return "the only node"
	}
	if fits == 1 {
		return fmt.Sprintf("the only one of %d nodes that fits", total)
	}
	return fmt.Sprintf("best of %d fitting nodes: %d pods of its owner there, %d%% left free", fits, c.Siblings, free/10)
}

// misfit is why a node is out of the question; detail is said when it is the only one.
type misfit struct{ text, detail string }

func (a Ask) misfit(c Candidate) misfit {
	n := c.Node
	switch {
	case a.Node != "" && n.ID != a.Node:
		return misfit{"not the node it is bound to", ""}
	case n.Down:
		return misfit{"down", ""}
	case n.Unsteady:
		return misfit{"unsteady", ""}
	case n.Cordoned:
		return misfit{"cordoned", ""}
	}
	for _, k := range sortedKeys(a.Selector) {
		if n.Labels[k] != a.Selector[k] {
			return misfit{"node selector " + k + "=" + a.Selector[k] + " does not match", ""}
		}
	}
	for _, p := range a.HostPorts {
		if by := c.PortTaken(p); by != "" {
			return misfit{"host port " + p + " is taken", "by " + by}
		}
	}
	return room(a.Requests, n.Capacity, c.Used)
}

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

// left is how much of the node's scarcest resource would stay free, in thousandths.
func (a Ask) left(c Candidate) int64 {
	have := c.Node.Capacity
	least := int64(1000)
	for _, r := range [][3]int64{
		{have.MilliCPU, c.Used.MilliCPU, a.Requests.MilliCPU},
		{have.Memory >> 10, c.Used.Memory >> 10, a.Requests.Memory >> 10},
		{have.Pods, c.Used.Pods, 1},
	} {
		if r[0] > 0 {
			least = min(least, max(r[0]-r[1]-r[2], 0)*1000/r[0])
		}
	}
	return least
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
