package cluster

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/engine/desired"
)

// queue holds the objects whose rules are to be run in this Step, each once, in the order of their keys: the
// result must not depend on who was put in first.
type queue struct {
	keys []desired.Key // sorted
}

func (q *queue) add(k desired.Key) {
	if i, found := slices.BinarySearchFunc(q.keys, k, desired.Key.Compare); !found {
		q.keys = slices.Insert(q.keys, i, k)
	}
}

func (q *queue) take() (desired.Key, bool) {
	if len(q.keys) == 0 {
		return desired.Key{}, false
	}
	k := q.keys[0]
	q.keys = q.keys[1:]
	return k, true
}

// settleRules runs rules until none has more to do, then looks for nodes for the pods that have none. A commit that
// takes too much work is rejected. Of any other input the rest is left to the next Tick: what has happened has
// happened, and time must go on.
func (t *tx) settleRules() {
	for {
		k, ok := t.queue.take()
		if !ok {
			t.settlePending()
			switch {
			case len(t.queue.keys) > 0: // a pod that waited gave way to one that came back
			case !t.balance:
				return
			case t.strict:
				t.wake(rebalancing, t.now)
				return
			default:
				t.run(rebalancing)
			}
			continue
		}
		if !t.strict && t.work > maxWork/2 {
			t.wake(k, t.now)
			continue
		}
		t.run(k)
	}
}

// placing stands for the pods without a node among the objects whose rules are to be run.
var placing = desired.Key{Kind: "Placing"}

// run runs the rule of one object. If it panics, the object is left as it was and a Fault says so: one object
// that breaks a rule must not stop the others, nor time.
func (t *tx) run(k desired.Key) {
	save, work := t.s, t.work
	if !t.strict {
		t.limit = t.work + maxWork/2
	}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		err := asError(p)
		if _, ok := errors.AsType[stallError](err); ok || t.strict && errors.Is(err, errBudget) {
			panic(p)
		}
		t.s, t.work = save, work
		t.s.seating, t.returned, t.round, t.balance = nil, nil, nil, false
		since := t.now
		if f, ok := t.s.faults.Get(k); ok {
			since = f.Since
		}
		t.s.faults.set(&t.s, &Fault{Key: k, Since: since, Reason: clip(err.Error(), 1024)})
		t.wake(k, t.now+faultRetry)
	}()
	t.spend(1)
	t.wake(k, 0)
	switch k.Kind {
	case placing.Kind:
		t.room = true
	case rebalancing.Kind:
		t.runRebalance()
	case "Node":
		t.runNode(k)
	case "Pod":
		t.runPod(k)
	case "ReplicaSet":
		t.runSet(k)
	case "Deployment":
		t.runDeployment(k)
	case "Job":
		t.runJob(k)
	case "CronJob":
		t.runCronJob(k)
	default:
		panic(fmt.Errorf("no rule for %s", k))
	}
	t.s.faults.drop(&t.s, k)
}

// wake has the rule of k run again at ring time at; 0 takes that back.
func (t *tx) wake(k desired.Key, at int64) {
	old, ok := t.s.wakes.Get(k)
	switch {
	case at == 0:
		t.s.wakes.drop(&t.s, k)
	case !ok || old.At != at:
		t.s.wakes.set(&t.s, &Wake{Key: k, At: at})
	}
}
