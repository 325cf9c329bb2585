package nodeagent

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// Mirror is what plans need of the mirror of the repository beside Source.
type Mirror interface {
	Refs() []source.Ref
	Has(id source.ID) bool
	Objects() source.Objects // unchecked
	Log(ctx context.Context, tip source.ID, limit int) ([]source.Commit, error)
}

// side is one of two trees that are compared.
type side struct {
	tree   source.Tree
	commit source.ID // "": a working tree
	name   string    // for people
	branch string
	words  source.Commit // its message
}

// open finds a tree: among the objects that came along and those of the mirror, or by a revision that the mirror knows.
func (n *Node) open(ctx context.Context, s *cluster.State, brought brought, t api.Tree) (side, error) {
	out := side{commit: source.ID(t.Commit), branch: t.Branch, words: source.Commit{Message: t.Message}, name: t.Name}
	if t.Root == "" {
		id, branch, err := n.revision(ctx, s, t.Revision)
		if err != nil {
			return out, err
		}
		c, err := n.Deployer.opt.Source.Commit(ctx, id)
		if err != nil {
			return out, fmt.Errorf("revision %q: %w", t.Revision, err)
		}
		out.commit, out.branch = id, branch
		out.words, out.name = c, called(t.Name, id)
		if out.tree, err = n.Deployer.opt.Source.Tree(ctx, id); err != nil {
			return out, fmt.Errorf("%s: %w", out.name, err)
		}
		return out, nil
	}
	out.name = called(t.Name, out.commit)
	root := source.ID(t.Root)
	if !root.Valid() || t.Commit != "" && !out.commit.Valid() {
		return out, fmt.Errorf("%s: tree %.80q of commit %.80q: expected ids of 40 hex digits", out.name, t.Root, t.Commit)
	}
	var checker source.Checker
	if err := checker.Check(brought, root); err != nil {
		return out, fmt.Errorf("%s: %w", out.name, err)
	}
	out.tree = source.New(out.commit, root, brought)
	return out, nil
}

// called is what people call a commit, with its id.
func called(name string, id source.ID) string {
	switch {
	case name == "" || strings.HasPrefix(string(id), name):
		return id.Short()
	case id == "":
		return name
	}
	return name + " (" + id.Short() + ")"
}

// brought are Git objects that came along with a request, over those of the mirror.
type brought struct {
	trees map[source.ID][]source.Item
	blobs map[source.ID][]byte
	below source.Objects
}

func newBrought(objects []api.GitObject, below source.Objects) (brought, error) {
	b := brought{trees: map[source.ID][]source.Item{}, blobs: map[source.ID][]byte{}, below: below}
	for i, o := range objects {
		id := source.ObjectID(o.Kind, o.Data)
		switch o.Kind {
		case "blob":
			b.blobs[id] = o.Data
		case "tree":
			items, err := source.ParseTree(o.Data)
			if err != nil {
				return b, fmt.Errorf("object %d: %w", i, err)
			}
			b.trees[id] = items
		default:
			return b, fmt.Errorf("object %d is a %.40q: expected a tree or a blob", i, o.Kind)
		}
	}
	return b, nil
}

func (b brought) Items(id source.ID) ([]source.Item, error) {
	if items, ok := b.trees[id]; ok {
		return items, nil
	}
	return b.below.Items(id)
}

func (b brought) Blob(id source.ID) ([]byte, error) {
	if raw, ok := b.blobs[id]; ok {
		return raw, nil
	}
	return b.below.Blob(id)
}

// Lacking returns those of some Git objects that the mirror does not have.
func (n *Node) Lacking(_ context.Context, ids []string) ([]string, error) {
	lacking := []string{}
	for _, id := range ids {
		if !source.ID(id).Valid() {
			return nil, fmt.Errorf("%.80q: expected an id of 40 hex digits", id)
		}
		if !n.Mirror.Has(source.ID(id)) {
			lacking = append(lacking, id)
		}
	}
	return lacking, nil
}

var someDigits = regexp.MustCompile(`^[0-9a-f]{4,40}$`)

const (
	searchedEach = 1_000  // commits of a ref that are searched for an id's first digits
	searchedAll  = 20_000 // of all refs
)

// revision finds the commit that a ref's name or an id means, and the branch if it is one's name.
func (n *Node) revision(ctx context.Context, s *cluster.State, name string) (id source.ID, branch string, err error) {
	refs := n.Mirror.Refs()
	for _, full := range []string{name, "refs/" + name, "refs/tags/" + name, "refs/heads/" + name} {
		for _, ref := range refs {
			if ref.Name == full {
				if strings.HasPrefix(full, "refs/heads/") {
					branch = full
				}
				return n.peeled(ctx, name, ref.ID, branch)
			}
		}
	}
	if !someDigits.MatchString(name) {
		return "", "", n.unknown(name, refs)
	}
	if len(name) == 40 {
		if !n.Mirror.Has(source.ID(name)) {
			return "", "", n.unknown(name, refs)
		}
		return n.peeled(ctx, name, source.ID(name), "")
	}
	fits := map[source.ID]bool{}
	look := func(id source.ID) {
		if strings.HasPrefix(string(id), name) {
			fits[id] = true
		}
	}
	for e := range s.Environments().Values() {
		look(e.Commit)
	}
	searched := 0
	for _, ref := range refs {
		look(ref.ID)
		if searched >= searchedAll {
			continue
		}
		commits, err := n.Mirror.Log(ctx, ref.ID, searchedEach)
		if err != nil {
			continue // a tag of something else than a commit
		}
		searched += len(commits)
		for _, c := range commits {
			look(c.ID)
		}
	}
	var all []string
	for id := range fits {
		all = append(all, string(id))
	}
	slices.Sort(all)
	switch len(all) {
	case 0:
		return "", "", n.unknown(name, refs)
	case 1:
		return n.peeled(ctx, name, source.ID(all[0]), "")
	}
	return "", "", fmt.Errorf("%s fits %d commits: %s", name, len(all), strings.Join(all[:min(10, len(all))], ", "))
}

// peeled asks that an id is a commit's. Where an annotated tag points is not known to a node.
func (n *Node) peeled(ctx context.Context, name string, id source.ID, branch string) (source.ID, string, error) {
	if _, err := n.Deployer.opt.Source.Commit(ctx, id); err != nil {
		return "", "", fmt.Errorf("revision %q: %s is not a commit of this node's mirror: expected a branch or the id of one: %w", name, id.Short(), err)
	}
	return id, branch, nil
}

// unknown says what there is instead of a revision that is not there.
func (n *Node) unknown(name string, refs []source.Ref) error {
	const most = 10
	var names []string
	for _, ref := range refs {
		names = append(names, strings.TrimPrefix(strings.TrimPrefix(ref.Name, "refs/heads/"), "refs/tags/"))
	}
	slices.Sort(names)
	if len(names) > most {
		names = append(names[:most], "...")
	}
	there := "it has no branch yet"
	if len(names) > 0 {
		there = "it has " + strings.Join(names, ", ")
	}
	return unknownRevision{fmt.Sprintf("no commit %q in the mirror of this node: expected a branch, a tag, or an id of at least 4 digits; %s", name, there)}
}

// unknownRevision is api.ErrNotFound in words.
type unknownRevision struct{ text string }

func (e unknownRevision) Error() string        { return e.text }
func (e unknownRevision) Is(target error) bool { return target == api.ErrNotFound }
