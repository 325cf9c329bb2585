package diff

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/kube"
)

// Kind is why somebody should look at a change. The order is that of a report.
type Kind string

const (
	Exposes  Kind = "exposes"  // something can be reached from outside of the ring
	Restarts Kind = "restarts" // pods are replaced, or find no node
	Moves    Kind = "moves"    // an object or its pods come to another place
	Deletes  Kind = "deletes"
	Hides    Kind = "hides" // something can no longer be reached
	Other    Kind = "other" // pods start
)

// rank is the place of a kind in a report. From Hides on, nothing is looked at first.
func (k Kind) rank() int {
	return max(0, slices.Index([]Kind{Exposes, Restarts, Moves, Deletes, Hides, Other}, k))
}

// Note is one thing that a change brings with it.
type Note struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
}

// Item is what becomes of one object.
type Item struct {
	Op     desired.Op            `json:"op,omitempty"` // "": it stays, only its pods change
	Object string                `json:"object"`       // "Deployment shop/web"
	App    string                `json:"app,omitempty"`
	Notes  []Note                `json:"notes,omitempty"`  // sorted: what to look at first comes first
	Fields []desired.FieldChange `json:"fields,omitempty"` // of an update; values of Secrets are "(redacted)"
}

// rank is that of the first note, or past all.
func (it Item) rank() int {
	if len(it.Notes) == 0 {
		return Other.rank()
	}
	return it.Notes[0].Kind.rank()
}

// Pod is what a dry run says of the pods of one object.
type Pod struct {
	Op     string `json:"op"`     // restart, move, wait, remove or create
	Object string `json:"object"` // "Deployment shop/web"
	Text   string `json:"text"`   // "3 pods are replaced: its pod template changed"
}

// Input is what a report is made of.
type Input struct {
	Environment string
	From, To    string       // what people call the two sides: commits, "the working tree"
	Before      *desired.Set // nil: nothing runs
	After       *desired.Set
	Content     desired.Content
	Pods        []Pod    // of a dry run, if there was one
	PodsGoOn    int      // pods that are not touched
	Running     string   // the commit that runs and that pods go from, where Before is another one's; "" if it is that
	Refused     string   // why the ring would not accept it; "" if it would
	Note        string   // why nothing of it would happen now; "" if it would
	Held        []string // apps that stay as they run, and so are not in After
	Problems    []string // why
	Warnings    []string // allowed, and probably not meant
}

// Report is what a plan does.
type Report struct {
	Environment string         `json:"environment"`
	From        string         `json:"from,omitempty"`
	To          string         `json:"to,omitempty"`
	Digest      desired.Digest `json:"digest"`
	First       []Item         `json:"first"` // to look at first: what is exposed, restarted, moved, deleted
	Rest        []Item         `json:"rest"`
	Unchanged   int            `json:"unchanged"` // objects
	PodsGoOn    int            `json:"podsGoOn"`
	Running     string         `json:"running,omitempty"` // the commit that pods go from, if that is not From
	Refused     string         `json:"refused,omitempty"` // why the ring would not accept it
	Note        string         `json:"note,omitempty"`    // why nothing of it would happen now
	Held        []string       `json:"held,omitempty"`
	Problems    []string       `json:"problems,omitempty"`
	Warnings    []string       `json:"warnings,omitempty"`
}

// redacted stands for every value of a Secret, as in package desired.
const redacted = "(redacted)"

// New makes the report of a plan. An error says which object could not be read.
func New(in Input) (Report, error) {
	r := Report{
		Environment: in.Environment, From: in.From, To: in.To, Digest: Digest(in.Before, in.After), PodsGoOn: in.PodsGoOn,
		Running: in.Running, Refused: in.Refused, Note: in.Note,
		Held: in.Held, Problems: in.Problems, Warnings: in.Warnings, First: []Item{}, Rest: []Item{},
	}
	changes, err := desired.Diff(in.Before, in.After, in.Content)
	if err != nil {
		return Report{}, err
	}
	entries := map[desired.Key][2]*desired.Entry{}
	for o, n := range pairs(in.Before, in.After) {
		switch {
		case o != nil && n != nil && o.Digest == n.Digest && o.Template == n.Template:
			r.Unchanged++
			if o.App != n.App {
				r.First = append(r.First, Item{Object: n.Key.String(), App: n.App, Notes: []Note{{Moves, "from app " + o.App + "; nothing is touched"}}})
			}
		case n != nil:
			entries[n.Key] = [2]*desired.Entry{o, n}
		default:
			entries[o.Key] = [2]*desired.Entry{o, n}
		}
	}
	items := make([]Item, 0, len(changes))
	bodies := make([]body, 0, len(changes))
	for _, c := range changes {
		it := Item{Op: c.Op, Object: c.Key.String(), App: c.App, Fields: hideSecrets(c)}
		var trees [2]map[string]any
		for i, e := range entries[c.Key] {
			if e == nil {
				continue
			}
			if trees[i], err = readTree(in.Content, e.Digest); err != nil {
				return Report{}, fmt.Errorf("read %s: %w", c.Key, err)
			}
		}
		it.Notes = exposure(c.Key.Kind, trees[0], trees[1])
		switch {
		case c.Op == desired.Delete:
			it.Notes = append(it.Notes, Note{Deletes, "it is taken away"})
		case c.Op == desired.Update && c.Template:
			it.Notes = append(it.Notes, Note{Restarts, "its pod template changed"})
		}
		items = append(items, it)
		bodies = append(bodies, body{c.Key, c.Op, fingerprint(c, trees)})
	}
	moves(items, bodies)
	byObject := map[string]int{}
	for i := range items {
		byObject[items[i].Object] = i
	}
	for _, p := range in.Pods {
		i, ok := byObject[p.Object]
		if !ok {
			i = len(items)
			items, byObject[p.Object] = append(items, Item{Object: p.Object}), i
		}
		items[i].addPods(p)
	}
	for _, it := range append(r.First, items...) {
		slices.SortStableFunc(it.Notes, func(a, b Note) int {
			return cmp.Or(cmp.Compare(a.Kind.rank(), b.Kind.rank()), strings.Compare(a.Text, b.Text))
		})
	}
	items = append(slices.Clip(r.First), items...)
	slices.SortStableFunc(items, func(a, b Item) int { return cmp.Compare(a.rank(), b.rank()) })
	r.First = []Item{}
	for _, it := range items {
		if it.rank() < Hides.rank() {
			r.First = append(r.First, it)
		} else {
			r.Rest = append(r.Rest, it)
		}
	}
	return r, nil
}

// addPods adds what a dry run says. Its words on pods that are replaced or stop say more than those on the object.
func (it *Item) addPods(p Pod) {
	kind := map[string]Kind{"restart": Restarts, "wait": Restarts, "move": Moves, "remove": Deletes}[p.Op]
	if kind == "" {
		kind = Other
	}
	it.Notes = slices.DeleteFunc(it.Notes, func(n Note) bool {
		return kind == Restarts && n == Note{Restarts, "its pod template changed"} || kind == Deletes && n == Note{Deletes, "it is taken away"}
	})
	it.Notes = append(it.Notes, Note{kind, p.Text})
}

// hideSecrets is a change's fields without any value of a Secret. Package desired has redacted what is under data; here
// nothing passes but what cannot be a secret, in whatever field somebody put it.
func hideSecrets(c desired.Change) []desired.FieldChange {
	if c.Key.Kind != "Secret" {
		return c.Fields
	}
	fields := slices.Clone(c.Fields)
	for i := range fields {
		f := &fields[i]
		if f.Path == "type" || f.Path == "immutable" || strings.HasPrefix(f.Path, "metadata.labels.") {
			continue
		}
		if f.Old != "" {
			f.Old = redacted
		}
		if f.New != "" {
			f.New = redacted
		}
	}
	return fields
}

func readTree(content desired.Content, d desired.Digest) (map[string]any, error) {
	b, err := content.Get(d)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	return tree, nil
}

// body is what tells that an object went under one name and came under another.
type body struct {
	key desired.Key
	op  desired.Op
	sum desired.Digest
}

// fingerprint is of the whole object but its name and namespace; "" of one that was neither created nor deleted.
func fingerprint(c desired.Change, trees [2]map[string]any) desired.Digest {
	var tree map[string]any
	switch c.Op {
	case desired.Create:
		tree = trees[1]
	case desired.Delete:
		tree = trees[0]
	case desired.Update:
		return ""
	}
	flat := maps.Clone(tree)
	if flat == nil {
		return ""
	}
	if meta, ok := tree["metadata"].(map[string]any); ok {
		less := map[string]any{}
		for key, v := range meta {
			if key != "name" && key != "namespace" {
				less[key] = v
			}
		}
		flat["metadata"] = less
	}
	b, err := kube.CanonicalJSON(flat)
	if err != nil {
		return ""
	}
	return desired.DigestOf(append([]byte(c.Key.Group+" "+c.Key.Kind+"\n"), b...))
}

// moves finds objects that went and came with the same contents. They are in the order of their keys, and so are pairs.
func moves(items []Item, bodies []body) {
	gone := map[desired.Digest][]int{}
	for i, b := range bodies {
		if b.op == desired.Delete && b.sum != "" {
			gone[b.sum] = append(gone[b.sum], i)
		}
	}
	for i, b := range bodies {
		if from := gone[b.sum]; b.op == desired.Create && b.sum != "" && len(from) > 0 {
			gone[b.sum] = from[1:]
			items[i].Notes = append(items[i].Notes, Note{Moves, "was " + bodies[from[0]].key.String()})
			items[from[0]].Notes = append(items[from[0]].Notes, Note{Moves, "becomes " + b.key.String()})
		}
	}
}

// Changes says whether anything would become another: an object, or pods.
func (r Report) Changes() bool { return len(r.First)+len(r.Rest) > 0 }

// JSON is the whole report, unbounded.
func (r Report) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(r)
	return b.Bytes(), err
}
