package nodeagent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/internal/durable"
)

// OwnRenders are the objects that have come out of renders of this node's own, by environment. To begin a pod a node must
// have rendered itself all that the pod is made of: so nobody, the leader included, can have it run what is not in Git.
//
// What counts are the bytes of the objects, and not of which commit they are: what was once in the environment's
// repository may run, as it must when a rollout is taken back, an app is held, or pods of an older revision go on. They are
// on disk, so that a node that starts while its forge is away renders nothing before it runs what it ran. The record is
// a cache: without it, or if it cannot be read, what the ring runs is rendered again.
type OwnRenders struct {
	path   string
	events chan struct{} // something is known that was not
	wanted chan struct{} // something is to run here that is not

	mu      sync.Mutex // guards what follows
	objects map[string]map[desired.Digest]bool
	why     map[string]plan.Trouble // by environment: why the rest is not there
	unsaved bool
}

// notRendered is of a pod that waits for a render of this node's own, mostly for a moment.
const notRendered = "NotRendered"

// OpenOwnRenders reads the record at path.
func OpenOwnRenders(path string) (*OwnRenders, error) {
	r := &OwnRenders{
		path: path, events: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
		objects: map[string]map[desired.Digest]bool{}, why: map[string]plan.Trouble{},
	}
	b, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return r, nil
		}
		return nil, err
	}
	var saved map[string][]desired.Digest
	if json.Unmarshal(b, &saved) != nil {
		return r, nil
	}
	for environment, digests := range saved {
		of := make(map[desired.Digest]bool, len(digests))
		for _, d := range digests {
			of[d] = true
		}
		r.objects[environment] = of
	}
	return r, nil
}

// Wanted gets a value when something is to run here that this node has not rendered: the deployer should look.
func (r *OwnRenders) Wanted() <-chan struct{} { return r.wanted }

// add takes in what a render has come to.
func (r *OwnRenders) add(environment string, apps []Rendered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.objects[environment]
	if of == nil {
		of = map[desired.Digest]bool{}
		r.objects[environment] = of
	}
	was := len(of)
	for i := range apps {
		for j := range apps[i].Items {
			of[apps[i].Items[j].Digest] = true
		}
	}
	if len(of) > was {
		r.unsaved = true
		signal(r.events)
	}
}

// has tells whether an object has come out of a render of an environment.
func (r *OwnRenders) has(environment string, d desired.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.objects[environment][d]
}

// explain says why what is not there of an environment is not; the zero Trouble takes that back.
func (r *OwnRenders) explain(environment string, why plan.Trouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why[environment] == why {
		return
	}
	if r.why[environment] = why; why == (plan.Trouble{}) {
		delete(r.why, environment)
	}
	signal(r.events)
}

// explained is what explain said of an environment.
func (r *OwnRenders) explained(environment string) plan.Trouble {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why[environment]
}

// lacks says why a pod is not begun; the zero Trouble says that all it is made of is there.
func (r *OwnRenders) lacks(p *plan.Pod) plan.Trouble {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, part := range p.Parts {
		if r.objects[part.Environment][part.Digest] {
			continue
		}
		if why, ok := r.why[part.Environment]; ok {
			return why
		}
		return plan.Trouble{Reason: notRendered, Message: "this node has not rendered it yet, and runs nothing that it has not found in Git itself"}
	}
	return plan.Trouble{}
}

// save puts on disk what is to be kept, and forgets the rest. kept is asked only if something is new.
func (r *OwnRenders) save(kept func() (keep func(desired.Digest) bool)) error {
	r.mu.Lock()
	unsaved := r.unsaved
	r.mu.Unlock()
	if !unsaved {
		return nil
	}
	keep := kept() // it waits for the ledger
	r.mu.Lock()
	defer r.mu.Unlock()
	saved := make(map[string][]desired.Digest, len(r.objects))
	for environment, of := range r.objects {
		maps.DeleteFunc(of, func(d desired.Digest, _ bool) bool { return !keep(d) })
		if len(of) == 0 {
			delete(r.objects, environment)
			continue
		}
		saved[environment] = slices.Sorted(maps.Keys(of))
	}
	b, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(r.path, b); err != nil {
		return err
	}
	r.unsaved = false
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// unrendered are the pods of which something has not come out of a render of this node's own.
func (a *Agent) unrendered() map[control.PodID]plan.Trouble {
	r := a.opt.Renders
	if r == nil {
		return nil
	}
	var out map[control.PodID]plan.Trouble
	news := false
	for id, p := range a.wants.Want {
		if a.own[id] == p || p.GivenUp {
			continue
		}
		why := r.lacks(p)
		if why == (plan.Trouble{}) {
			a.own[id] = p
			continue
		}
		if out == nil {
			out = map[control.PodID]plan.Trouble{}
		}
		out[id] = why
		_, known := a.lacking[id]
		news = news || !known
	}
	for id := range a.own {
		if a.wants.Want[id] == nil {
			delete(a.own, id)
		}
	}
	if a.lacking = out; news {
		signal(r.wanted)
	}
	return out
}
