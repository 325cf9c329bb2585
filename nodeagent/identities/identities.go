package identities

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/internal/durable"
	"github.com/shoal-dev/shoal/internal/sealed"
)

// kept is how many identities of one environment stay on disk: the newest. Older ones are in Git's history, as identity.age.
const kept = 16

// Options are what a Store is made of.
type Options struct {
	Dir string             // required: where identities lie, sealed to Key
	Key ed25519.PrivateKey // required: the node's
	// Ask has another node give the identity of an environment with this recipient, sealed to Key. Its error says why none does. nil: there
	// is nobody to be asked.
	Ask func(ctx context.Context, environment, recipient string) ([]byte, error)
	Log *slog.Logger // default: discard
}

// Store has the identities that this node has come by. Safe for concurrent use.
type Store struct {
	opt    Options
	node   *sealed.NodeIdentity
	events chan struct{}
	wake   chan struct{}

	mu    sync.Mutex // guards what follows
	known map[name]*sealed.Identity
	asked map[name]*asking
}

// name is which identity is meant.
type name struct{ environment, recipient string }

// asking is an identity that other nodes are asked for.
type asking struct {
	next  time.Time // when to ask again
	until time.Time // unless somebody wants it still
	tries int
	why   error // the last answer; nil: there was none yet
}

// Open opens the directory, which it makes if there is none.
func Open(opt Options) (*Store, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	node, err := sealed.NewNodeIdentity(opt.Key)
	if err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	return &Store{
		opt: opt, node: node, events: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		known: map[name]*sealed.Identity{}, asked: map[name]*asking{},
	}, nil
}

// Events gets a value when an identity has come that was missed.
func (s *Store) Events() <-chan struct{} { return s.events }

// Open opens a sealed Secret: its values by key, which are the caller's to wipe. The error says what is missing, in words without values;
// if that is the identity, other nodes are asked for it meanwhile, and Events tells when it has come.
func (s *Store) Open(secret *corev1.Secret) (map[string][]byte, error) {
	o, err := sealed.ParseObject(secret.Name, string(secret.Type), secret.Annotations, secret.Data)
	if err != nil {
		return nil, err
	}
	id, err := s.find(o)
	if err != nil {
		return nil, err
	}
	entries, err := id.OpenObject(o)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(entries))
	for _, e := range entries {
		out[e.Key] = e.Plain.Bytes()
	}
	return out, nil
}

// find looks for the identity of an object where this node can have it.
func (s *Store) find(o *sealed.Object) (*sealed.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := name{o.Environment, o.Recipient}
	if id := s.known[n]; id != nil {
		return id, nil
	}
	why := errors.New("there is no identity.age beside it")
	if o.Identity != nil {
		id, err := sealed.OpenIdentityOf(n.environment, n.recipient, o.Identity, s.node)
		if err == nil {
			s.keep(n, id)
			return id, nil
		}
		why = fmt.Errorf("identity.age: %w", err)
	}
	id, err := s.read(n)
	if err == nil {
		s.known[n] = id
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		why = fmt.Errorf("%w; what is kept on disk: %w", why, err)
	}
	if s.opt.Ask != nil {
		why = fmt.Errorf("%w; %w", why, s.miss(n))
	}
	return nil, &sealed.NoIdentityError{Environment: n.environment, Why: why}
}

// miss has other nodes be asked, and says what came of it so far.
func (s *Store) miss(n name) error {
	a := s.asked[n]
	if a == nil {
		a = &asking{}
		s.asked[n] = a
		signal(s.wake)
	}
	a.until = time.Now().Add(time.Minute)
	return cmp.Or(a.why, errors.New("other nodes are being asked"))
}

// keep remembers an identity, and puts it on disk. Without that it is asked for again after a restart.
func (s *Store) keep(n name, id *sealed.Identity) {
	s.known[n] = id
	delete(s.asked, n)
	if err := s.write(n, id); err != nil {
		s.opt.Log.Warn("key of an environment is not on disk: it will be needed again after a restart", "environment", n.environment, "err", err)
	}
}

const ending = ".age"

func (s *Store) path(n name) string {
	return filepath.Join(s.opt.Dir, n.environment, n.recipient+ending)
}

func (s *Store) read(n name) (*sealed.Identity, error) {
	b, err := os.ReadFile(s.path(n))
	if err != nil {
		return nil, err
	}
	return sealed.OpenIdentityOf(n.environment, n.recipient, b, s.node)
}

func (s *Store) write(n name, id *sealed.Identity) error {
	if _, err := s.read(n); err == nil {
		return nil
	}
	b, err := id.SealTo(s.node.Recipient())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path(n)), 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(s.path(n), b); err != nil {
		return err
	}
	return s.prune(filepath.Dir(s.path(n)))
}

// prune removes the oldest identities of an environment, and what a crash has left of writing one.
func (s *Store) prune(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type file struct {
		path string
		at   time.Time
	}
	var files []file
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // it is gone
		}
		if path := filepath.Join(dir, e.Name()); strings.HasSuffix(e.Name(), ending) {
			files = append(files, file{path, info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	for _, f := range files[min(len(files), kept):] {
		if err := os.Remove(f.path); err != nil {
			return err
		}
	}
	return nil
}

// SealedTo is an identity that this node has, sealed to the key of another.
func (s *Store) SealedTo(key ed25519.PublicKey, environment, recipient string) ([]byte, error) {
	if err := sealed.CheckIdentity(environment, recipient); err != nil {
		return nil, err
	}
	to, err := sealed.NewNodeRecipient(key)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := name{environment, recipient}
	id := s.known[n]
	if id == nil {
		if id, err = s.read(n); err != nil {
			return nil, fmt.Errorf("this node has no key of environment %s either", environment)
		}
		s.known[n] = id
	}
	return id.SealTo(to)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
