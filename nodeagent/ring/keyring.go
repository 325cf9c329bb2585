package ring

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/memberlist"
)

// keySize is that of AES-256.
const keySize = 32

// loadKeyring reads the ring's keys from path: a JSON list of base64 strings, the one to encrypt with first, as serf
// writes it. If there is none it begins one with a random key. What cannot be read is an error and stays as it is:
// with another key the node would not find its ring.
func loadKeyring(path string, given [][]byte) (*memberlist.Keyring, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newKeyring(path, given)
	}
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
	return memberlist.NewKeyring(keys, keys[0])
}

func newKeyring(path string, keys [][]byte) (*memberlist.Keyring, error) {
	if len(keys) == 0 {
		key := make([]byte, keySize)
		rand.Read(key)
		keys = [][]byte{key}
	}
	b, err := json.Marshal(keys) // as base64
	if err != nil {
		return nil, err
	}
	if err := replaceFile(path, append(b, '\n')); err != nil {
		return nil, fmt.Errorf("make keyring: %w", err)
	}
	return memberlist.NewKeyring(keys, keys[0])
}

// replaceFile writes path whole and durably, with mode 0600.
func replaceFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
