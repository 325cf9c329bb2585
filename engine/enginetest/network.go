package enginetest

// network is what carries messages between nodes. Each direction of a link may be cut, and all links may be slow and
// lossy.
type network struct {
	cut   [][]int // how many faults cut the way from one node to another
	loss  int     // of 1000 messages
	delay int64   // at most so much more, µs
}

func newNetwork(nodes int) network {
	n := network{cut: make([][]int, nodes)}
	for i := range n.cut {
		n.cut[i] = make([]int, nodes)
	}
	return n
}

// latency is how long a message takes, µs.
func (w *World) latency() int64 {
	d := w.between(80, 900)
	if w.Weather.Latency > 0 {
		d += w.between(0, w.Weather.Latency*millisecond)
	}
	if w.net.delay > 0 {
		d += w.between(0, min(w.net.delay, second))
	}
	return d
}

// lost tells whether the network loses a message; of several storms at a time no more than 6 in 10.
func (w *World) lost() bool { return w.net.loss > 0 && w.rng.IntN(1000) < min(w.net.loss, 600) }

// send carries a message to another node, or to the same one, where fn takes it. It is lost if the way is cut when it is
// sent or when it arrives, if the other agent is not there, and now and then. Messages overtake each other, and some
// come twice.
func (w *World) send(from, to *machine, fn func()) {
	switch {
	case from == to:
		to.after(20, fn)
		return
	case w.lost():
		return
	}
	w.carry(from, to, w.latency(), fn)
	if w.faults.on && w.rng.IntN(200) == 0 {
		w.carry(from, to, w.between(1*millisecond, 4*second), fn)
	}
}

// stream carries a message on a connection: what is lost on the way is sent again, so it comes late, once, or not at
// all if the way is cut.
func (w *World) stream(from, to *machine, fn func()) {
	wait := w.latency()
	for w.lost() {
		wait += 200 * millisecond
	}
	w.carry(from, to, wait, fn)
}

func (w *World) carry(from, to *machine, wait int64, fn func()) {
	if w.net.cut[from.n][to.n] > 0 || !to.alive {
		return
	}
	to.after(wait, func() {
		if w.net.cut[from.n][to.n] == 0 {
			fn()
		}
	})
}

// reaches tells whether two nodes can talk to each other now, as far as the network goes.
func (w *World) reaches(a, b *machine) bool {
	return a == b || w.net.cut[a.n][b.n] == 0 && w.net.cut[b.n][a.n] == 0
}

// there tells whether an agent answers, as far as it goes.
func (m *machine) there() bool { return m.alive && !m.frozen }

// parts numbers the parts into which the gossip has fallen: two nodes that reach each other, if need be by way of
// others, are in one. Who does not answer is in none, -1.
func (w *World) parts() []int {
	part := make([]int, len(w.nodes))
	for i := range part {
		part[i] = -1
	}
	for i, m := range w.nodes {
		if !m.there() || part[i] >= 0 {
			continue
		}
		queue := []int{i}
		part[i] = i
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			for j, o := range w.nodes {
				if part[j] < 0 && o.there() && w.reaches(w.nodes[at], o) {
					part[j] = i
					queue = append(queue, j)
				}
			}
		}
	}
	return part
}

// topology is called when it has changed who can talk to whom: the gossip notices after a while, followers miss their
// leader, leaders their majority, and what was held up is sent again.
func (w *World) topology() {
	part := w.parts()
	for _, m := range w.nodes[:w.voters] {
		if !m.there() {
			continue
		}
		m.gossip(part)
		m.missing()
	}
	for _, m := range w.nodes {
		if m.there() {
			if m.role == leader {
				m.reconnect()
			}
			m.drain()
		}
	}
}

// gossip is what the failure detector comes to see on one node: it takes a second or some to give somebody up, and less
// to see that it is back.
func (m *machine) gossip(part []int) {
	for j, o := range m.w.nodes {
		there := part[j] == part[m.n]
		if there == m.sees[o.id] {
			continue
		}
		wait := m.w.between(100*millisecond, 1200*millisecond)
		if !there {
			wait = m.w.between(700*millisecond, 3*second)
		}
		m.after(wait, func() {
			now := m.w.parts()
			m.hint(o, now[j] == now[m.n])
		})
	}
}

// hint is what the gossip says of a node from now on.
func (m *machine) hint(o *machine, there bool) {
	if m.sees[o.id] != there {
		m.sees[o.id] = there
		m.lookAtRing()
	}
}
