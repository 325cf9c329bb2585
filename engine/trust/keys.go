package trust

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/source"
)

// Dir is where keys lie in a repository; only files at its top are read.
const Dir = "keys"

const (
	signersFile = Dir + "/signers"
	rightsFile  = Dir + "/trust.yaml"
)

// Keys is keys/ at one commit. It does not change; nil is an absent directory.
type Keys struct {
	rights rights
	keys   map[string]*Key // by Key.ID
	order  []*Key          // by Key.ID
	flaws  Problems
	digest string // of the files; "" if there are none
}

// Key is one key that may sign: an SSH key, or an OpenPGP primary key or subkey.
type Key struct {
	// ID is "SHA256:..." as `ssh-keygen -l` prints it, or an OpenPGP fingerprint in upper-case hex.
	ID        string
	Principal string
	// From and Until bound when it is good, both included; zero for no bound.
	From, Until time.Time
	// Revoked says why it is no longer good, if its owner has said so in an .asc file; else "".
	Revoked string

	ssh ssh.PublicKey
	pgp *packet.PublicKey
}

// File is one file of keys/, by its name there.
type File struct {
	Name string
	Data []byte
}

// Parse reads Dir of a repository. Of a directory with problems nothing is trusted, and Judge trusts no commit that holds it; the
// result is never nil. A directory that is absent is no problem.
func Parse(fsys fs.FS) (*Keys, Problems) {
	entries, err := fs.ReadDir(fsys, Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Keys{}, nil
	case err != nil:
		return flawed(Problem{File: Dir, Text: err.Error()})
	}
	return read(entries, func(e fs.DirEntry) (string, fs.FileMode) { return e.Name(), e.Type() }, func(name string) ([]byte, error) {
		f, err := fsys.Open(Dir + "/" + name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, MaxFile+1))
	})
}

// FromTree is Parse for a commit's tree.
func FromTree(t source.Tree) (*Keys, Problems) {
	entries, err := t.ReadDir(Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Keys{}, nil
	case err != nil:
		return flawed(Problem{File: Dir, Text: err.Error()})
	}
	return read(entries, func(e source.Entry) (string, fs.FileMode) { return e.Name, e.Mode.Type() }, func(name string) ([]byte, error) {
		return t.ReadFile(Dir + "/" + name)
	})
}

func read[E any](entries []E, about func(E) (string, fs.FileMode), data func(name string) ([]byte, error)) (*Keys, Problems) {
	if len(entries) > MaxFiles {
		return flawed(Problem{File: Dir, Text: fmt.Sprintf("more than %d files", MaxFiles)})
	}
	var files []File
	var ps Problems
	for _, e := range entries {
		name, mode := about(e)
		switch {
		case strings.HasSuffix(name, ".md"): // for people
		case mode.IsDir():
			ps.add(Dir+"/"+name, 0, "is a directory; keys lie directly in %s/", Dir)
		case !mode.IsRegular():
			ps.add(Dir+"/"+name, 0, "is no regular file")
		default:
			b, err := data(name)
			if err != nil {
				ps.add(Dir+"/"+name, 0, "%v", err)
				continue
			}
			files = append(files, File{Name: name, Data: b})
		}
	}
	k, more := ParseFiles(files)
	k.flaws = append(ps, more...).sorted()
	if len(k.flaws) == 0 {
		k.flaws = nil
	}
	return k, k.flaws
}

func flawed(p Problem) (*Keys, Problems) {
	k := &Keys{flaws: Problems{p}}
	return k, k.flaws
}

// ParseFiles is Parse for files that were read, .md left out.
func ParseFiles(files []File) (*Keys, Problems) {
	k := &Keys{keys: map[string]*Key{}}
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	digest := sha256.New()
	for _, f := range files {
		fmt.Fprintf(digest, "%s %d\n%s", f.Name, len(f.Data), f.Data)
		k.digest = string(digest.Sum(nil))
		at := Dir + "/" + f.Name
		if len(f.Data) > MaxFile {
			k.flaws.add(at, 0, "%d bytes long; at most %d", len(f.Data), MaxFile)
			continue
		}
		name, asc := strings.CutSuffix(f.Name, ".asc")
		switch {
		case at == signersFile:
			k.signers(at, f.Data)
		case at == rightsFile:
			r, ps := parseRights(at, f.Data)
			k.rights = r
			k.flaws = append(k.flaws, ps...)
		case asc:
			if err := CheckPrincipal(name); err != nil {
				k.flaws.add(at, 0, "%v", err)
				continue
			}
			k.openPGP(at, name, f.Data)
		default:
			k.flaws.add(at, 0, "is none of signers, trust.yaml, <name>.asc, <name>.md")
		}
	}
	for _, key := range k.keys {
		k.order = append(k.order, key)
	}
	slices.SortFunc(k.order, func(a, b *Key) int { return strings.Compare(a.ID, b.ID) })
	if k.rights.require && len(k.keys) == 0 && len(k.flaws) == 0 {
		k.flaws.add(rightsFile, 0, "require: true, but there is no key in %s/: nobody could sign the next commit", Dir)
	}
	k.flaws = k.flaws.sorted()
	return k, k.flaws
}

// put adds a key; one that is there already, maybe under another name, is a problem: it would count twice.
func (k *Keys) put(file string, line int, key *Key) {
	switch other, ok := k.keys[key.ID]; {
	case ok:
		k.flaws.add(file, line, "key %s stands twice, for %s and %s", key.ID, other.Principal, key.Principal)
	case len(k.keys) == MaxKeys:
		k.flaws.add(file, line, "more than %d keys", MaxKeys)
	default:
		k.keys[key.ID] = key
	}
}

// Require says whether commits must be signed.
func (k *Keys) Require() bool { return k != nil && k.rights.require }

// Problems is what Parse found; nil if it is all well.
func (k *Keys) Problems() Problems {
	if k == nil {
		return nil
	}
	return k.flaws
}

// Keys lists all keys that may sign, by ID. The caller must not change them.
func (k *Keys) Keys() []*Key {
	if k == nil {
		return nil
	}
	return k.order
}

func (k *Keys) digested() string {
	if k == nil {
		return ""
	}
	return k.digest
}

func (k *Keys) key(id string) *Key {
	if k == nil {
		return nil
	}
	return k.keys[id]
}

// Allows says why principal may not put a change of paths on environment's own line, or nil.
func (k *Keys) Allows(principal, environment string, paths []string) error {
	return k.allows(principal, environment, false, paths)
}

func (k *Keys) allows(principal, environment string, side bool, paths []string) error {
	if k == nil {
		return nil
	}
	return k.rights.allows(principal, environment, side, paths)
}

// Groups returns the groups in whose name principal approves for environment, sorted, and whether it may approve at all.
func (k *Keys) Groups(principal, environment string) ([]string, bool) {
	if k == nil {
		return nil, false
	}
	return k.rights.approves(principal, environment)
}

// good says why a signature of key that was made at made does not count at now, or nil. late is for how long after its
// end what it signed before still counts.
func (key *Key) good(made, now time.Time, late time.Duration) *Flaw {
	switch {
	case key.Revoked != "":
		return &Flaw{Revoked, fmt.Sprintf("key %s of %s was revoked: %s", key.ID, key.Principal, key.Revoked)}
	case !key.From.IsZero() && (made.Before(key.From) || now.Before(key.From)):
		return &Flaw{Expired, fmt.Sprintf("key %s of %s is good from %s only", key.ID, key.Principal, stamp(key.From))}
	case !key.Until.IsZero() && (made.After(key.Until) || now.After(key.Until.Add(late))):
		return &Flaw{Expired, fmt.Sprintf("key %s of %s expired at %s", key.ID, key.Principal, stamp(key.Until))}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// CheckPrincipal says what is wrong with the name of a principal. It becomes part of the names of refs and files.
func CheckPrincipal(name string) error {
	bad := strings.IndexFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("._@+-", r)
	}) >= 0
	switch {
	case name == "":
		return errors.New("the name of a principal is empty")
	case len(name) > maxName:
		return fmt.Errorf("%q: names of principals have at most %d bytes", cut(name), maxName)
	case bad:
		return fmt.Errorf("%q: names of principals hold letters, digits and ._@+- only", cut(name))
	case strings.ContainsRune("._@+-", rune(name[0])), strings.HasSuffix(name, "."), strings.HasSuffix(name, ".lock"), strings.Contains(name, ".."):
		return fmt.Errorf("%q: names of principals begin with a letter or digit, and hold no .. and no . or .lock at their end", cut(name))
	}
	return nil
}
