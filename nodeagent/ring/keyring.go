package ring

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"

	"github.com/shoal-dev/shoal/internal/durable"
)

const (
	keySize = 32 // that of AES-256
	maxKeys = 2  // the one in use, and the next or the last one
)

// keyring is the ring's keys, on disk and in memberlist. What is here has been written first.
type keyring struct {
	mu   sync.Mutex // held while they change
	path string
	live *memberlist.Keyring
}

// NewKey makes a key for a ring.
func NewKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	return key
}

// openKeyring takes the keys that are given; else those of the file at path, a JSON list of base64 strings, the one to
// encrypt with first; else, if it may, it begins a keyring with a random key. What cannot be read is an error and stays as
// it is: with another key the node would not find its ring.
func openKeyring(path string, given [][]byte, begin bool) (*keyring, error) {
	keys := given
	if len(given) == 0 {
		var err error
		keys, err = readKeys(path)
		if errors.Is(err, fs.ErrNotExist) {
			if !begin {
				return nil, fmt.Errorf("keyring %s: there is none, and without the ring's keys nobody can be joined", path)
			}
			keys, given, err = [][]byte{NewKey()}, [][]byte{}, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if given != nil {
		if err := writeKeys(path, keys); err != nil {
			return nil, err
		}
	}
	live, err := memberlist.NewKeyring(keys, keys[0])
	return &keyring{path: path, live: live}, err
}

func readKeys(path string) ([][]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	var lines []string
	if err := json.Unmarshal(b, &lines); err != nil {
		return nil, fmt.Errorf("keyring %s: %w", path, err)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("keyring %s: it holds no key", path)
	}
	keys := make([][]byte, len(lines))
	for i, line := range lines {
		keys[i], err = base64.StdEncoding.DecodeString(line)
		if err != nil || len(keys[i]) != keySize {
			return nil, fmt.Errorf("keyring %s: key %d is not %d bytes in base64", path, i+1, keySize)
		}
	}
	return keys, nil
}

func writeKeys(path string, keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	lines := make([]string, len(keys))
	for i, key := range keys {
		lines[i] = base64.StdEncoding.EncodeToString(key)
	}
	b, err := json.Marshal(lines)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(path, append(b, '\n')); err != nil {
		return fmt.Errorf("keep keyring: %w", err)
	}
	return nil
}

func checkKeys(keys [][]byte) error {
	if len(keys) < 1 || len(keys) > maxKeys {
		return fmt.Errorf("keyring of %d keys: expected 1 or %d", len(keys), maxKeys)
	}
	for i, key := range keys {
		if len(key) != keySize {
			return fmt.Errorf("key %d has %d bytes, expected %d", i+1, len(key), keySize)
		}
	}
	return nil
}

// Keys are the keys of the ring's gossip, the one to encrypt with first.
func (r *Ring) Keys() [][]byte { return r.keys.all() }

func (k *keyring) all() [][]byte {
	var keys [][]byte
	for _, key := range k.live.GetKeys() {
		keys = append(keys, bytes.Clone(key))
	}
	return keys
}

// SetKeys makes these the keys, one or two, the one to encrypt with first. A node that was off while keys were exchanged
// comes back by it.
func (r *Ring) SetKeys(keys [][]byte) error {
	return r.keys.change(func([][]byte) ([][]byte, error) { return keys, nil })
}

// InstallKey adds a key by which messages can be read; the first step of an exchange, to be done on all nodes.
func (r *Ring) InstallKey(key []byte) error {
	return r.keys.change(func(keys [][]byte) ([][]byte, error) {
		if has(keys, key) {
			return keys, nil
		}
		if len(keys) >= maxKeys {
			return nil, fmt.Errorf("install key: there are %d already, remove the old one first", len(keys))
		}
		return append(keys, key), nil
	})
}

// UseKey encrypts with an installed key from now on; the second step, once all nodes have it.
func (r *Ring) UseKey(key []byte) error {
	return r.keys.change(func(keys [][]byte) ([][]byte, error) {
		if !has(keys, key) {
			return nil, errors.New("use key: it is not installed")
		}
		rest := slices.DeleteFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
		return slices.Concat([][]byte{key}, rest), nil
	})
}

// RemoveKey forgets a key; the last step, once no node encrypts with it.
func (r *Ring) RemoveKey(key []byte) error {
	return r.keys.change(func(keys [][]byte) ([][]byte, error) {
		if bytes.Equal(keys[0], key) {
			return nil, errors.New("remove key: it is in use")
		}
		return slices.DeleteFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }), nil
	})
}

func has(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

// change takes memberlist's keys to what f makes of them. There are never three, and what goes is always the last: so
// memberlist's readers, who share its list, see it whole.
func (k *keyring) change(f func([][]byte) ([][]byte, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	want, err := f(k.all())
	if err != nil {
		return err
	}
	if err := writeKeys(k.path, want); err != nil {
		return err
	}
	for _, key := range k.all()[1:] {
		if !has(want, key) {
			if err := k.live.RemoveKey(key); err != nil {
				return err
			}
		}
	}
	if err := k.live.AddKey(want[0]); err != nil {
		return err
	}
	if err := k.live.UseKey(want[0]); err != nil {
		return err
	}
	for _, key := range k.all()[1:] {
		if !has(want, key) {
			if err := k.live.RemoveKey(key); err != nil {
				return err
			}
		}
	}
	for _, key := range want[1:] {
		if err := k.live.AddKey(key); err != nil {
			return err
		}
	}
	return nil
}
