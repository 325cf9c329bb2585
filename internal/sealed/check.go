package sealed

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"filippo.io/age/armor"
)

// Named is one file of secrets/<environment>/, by its name there.
type Named struct {
	Name string
	Data []byte
}

// ReadDir reads the files of an environment, within the limits. An absent directory has none.
func ReadDir(repository fs.FS, environment string) ([]Named, error) {
	if err := checkEnvironment(environment); err != nil {
		return nil, err
	}
	dir := Dir + "/" + environment
	entries, err := fs.ReadDir(repository, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case len(entries) > MaxFiles:
		return nil, fmt.Errorf("%s: more than %d files", dir, MaxFiles)
	}
	var files []Named
	for _, e := range entries {
		if !e.Type().IsRegular() {
			return nil, fmt.Errorf("%s/%s: is no regular file", dir, e.Name())
		}
		f, err := repository.Open(dir + "/" + e.Name())
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir, e.Name(), err)
		}
		files = append(files, Named{e.Name(), b})
	}
	return files, nil
}

// Check looks over the files of an environment without an identity, as it is done before a merge: names, forms, limits, that everything is
// encrypted, and that it is said to be for the environment's recipient.
func Check(environment string, files []Named) Problems {
	var ps Problems
	dir := Dir + "/" + environment
	if err := checkEnvironment(environment); err != nil {
		ps.add(dir, 0, "%v", err)
		return ps
	}
	if len(files) > MaxFiles {
		ps.add(dir, 0, "more than %d files", MaxFiles)
		return ps
	}
	recipient := ""
	i := slices.IndexFunc(files, func(f Named) bool { return f.Name == RecipientFile })
	switch {
	case i >= 0:
		var err error
		if recipient, err = ParseRecipient(files[i].Data); err != nil {
			ps.add(path(environment, RecipientFile), 0, "%v", err)
		}
	case len(files) > 0:
		ps.add(path(environment, RecipientFile), 0, "is missing: nobody can tell whom the values are for")
	}
	seen := map[string]string{}
	for _, f := range files {
		at := path(environment, f.Name)
		if len(f.Data) > MaxFile {
			ps.add(at, 0, "%d bytes long; at most %d", len(f.Data), MaxFile)
			continue
		}
		name, isYAML := strings.CutSuffix(f.Name, ".yaml")
		name, isJSON := strings.CutSuffix(name, ".json")
		switch {
		case f.Name == RecipientFile || strings.HasSuffix(f.Name, ".md"):
		case f.Name == IdentityFile:
			if _, err := io.Copy(io.Discard, armor.NewReader(bytes.NewReader(f.Data))); err != nil || len(f.Data) == 0 {
				ps.add(at, 0, "is not what shoal writes: an age file, armored")
			}
		case !isYAML && !isJSON || isYAML && isJSON:
			ps.add(at, 0, "is none of %s, %s, <name>.yaml, a SOPS file <name>.json, *.md", RecipientFile, IdentityFile)
		case checkName(name) != nil:
			ps.add(at, 0, "%v", checkName(name))
		case seen[name] != "":
			ps.add(at, 0, "is the same Secret as %s", seen[name])
		default:
			seen[name] = f.Name
			ps = append(ps, checkFile(environment, name, f, isJSON, recipient)...)
		}
	}
	return ps.sorted()
}

func checkFile(environment, name string, f Named, isJSON bool, recipient string) Problems {
	if isJSON || IsSOPS(f.Data) {
		s, ps := ParseSOPS(environment, f.Name, f.Data)
		if s == nil {
			return ps
		}
		return s.Check(recipient)
	}
	file, ps := Parse(environment, name, f.Data)
	if file != nil && recipient != "" && file.Recipient != recipient {
		ps.add(file.Path(), 0, "is sealed for another recipient than that of %s", environment)
	}
	return ps
}

// checkSealed looks at a ciphertext from outside: one X25519 recipient, and a length that padding gives.
func checkSealed(raw []byte) error {
	const intro, stanza, footer = "age-encryption.org/v1\n", "-> X25519 ", "--- "
	const chunk, overhead, nonce = 64 << 10, 16, 16
	if len(raw) > maxSealed {
		return fmt.Errorf("%d bytes; at most %d", len(raw), maxSealed)
	}
	bad := errors.New("is no age file for one X25519 recipient")
	rest, ok := strings.CutPrefix(string(raw), intro)
	if !ok {
		return errors.New("is no age file")
	}
	for _, prefix := range []string{stanza, "", footer} { // the recipient's share, the file key, the MAC of the header
		line, after, ok := strings.Cut(rest, "\n")
		text, ok2 := strings.CutPrefix(line, prefix)
		b, err := base64.RawStdEncoding.Strict().DecodeString(text)
		if !ok || !ok2 || err != nil || len(b) != 32 {
			return bad
		}
		rest = after
	}
	n := len(rest) - nonce
	chunks := (n + chunk + overhead - 1) / (chunk + overhead)
	if plain := n - chunks*overhead; n <= 0 || plain <= 0 || plain%block != 0 {
		return errors.New("has a length that no sealed value has")
	}
	return nil
}
