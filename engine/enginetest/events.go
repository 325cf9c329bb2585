package enginetest

// event is something that happens at a time, to the agent of a node if there is one: an agent that has ended by then
// never sees it, and one that is frozen sees it when it goes on.
type event struct {
	at   int64
	seq  uint64
	n    *machine
	boot int
	fn   func()
}

// events are those to come, by time and then by age: a heap.
type events struct {
	heap []event
	seq  uint64
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (q *events) push(e event) {
	q.seq++
	e.seq = q.seq
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(&q.heap[up]) {
			break
		}
		q.heap[i] = q.heap[up]
		i = up
	}
	q.heap[i] = e
}

// pop takes the next event that is due by end.
func (q *events) pop(end int64) (event, bool) {
	if len(q.heap) == 0 || q.heap[0].at > end {
		return event{}, false
	}
	first := q.heap[0]
	last := len(q.heap) - 1
	e := q.heap[last]
	q.heap[last] = event{}
	q.heap = q.heap[:last]
	for i := 0; last > 0; {
		down := 2*i + 1
		if down+1 < last && q.heap[down+1].before(&q.heap[down]) {
			down++
		}
		if down >= last || e.before(&q.heap[down]) {
			q.heap[i] = e
			break
		}
		q.heap[i] = q.heap[down]
		i = down
	}
	return first, true
}
