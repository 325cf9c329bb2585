package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/engine/trust"
)

// clone is the user's clone of the repository, in which the user's own git signs and pushes.
type clone struct {
	dir      string
	progress io.Writer
}

const noKeyHint = `git signs with the key that it is told of, as for commits. For an SSH key:
  git config --global gpg.format ssh
  git config --global user.signingkey ~/.ssh/id_ed25519.pub
for an OpenPGP key:
  git config --global gpg.format openpgp
  git config --global user.signingkey KEYID`

func openClone(ctx context.Context, progress io.Writer) (*clone, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, errors.New("git is not installed: it makes and signs the tag")
	}
	c := &clone{dir: ".", progress: progress}
	top, err := c.git(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("here is no clone of the repository: %w", err)
	}
	c.dir = top
	return c, nil
}

// gitRaw runs git and returns what it prints. What it says of an error is in the error.
func (c *clone) gitRaw(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", c.dir}, args...)...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = os.Stdin, &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return out, nil
}

func (c *clone) git(ctx context.Context, args ...string) (string, error) {
	out, err := c.gitRaw(ctx, args...)
	return strings.TrimSpace(string(out)), err
}

// push shows what git says while it pushes.
func (c *clone) push(ctx context.Context, remote, refspec string) error {
	cmd := exec.CommandContext(ctx, "git", "-C", c.dir, "push", "-q", remote, refspec)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, c.progress, c.progress
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("git push %s: %w", remote, err)
	}
	return nil
}

func (c *clone) commit(ctx context.Context, revision string) (source.ID, error) {
	out, err := c.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if id := source.ID(out); err == nil && id.Valid() {
		return id, nil
	}
	return "", fmt.Errorf("%q is no commit in this clone; git fetch brings new ones", revision)
}

// keys reads keys/ of a commit.
func (c *clone) keys(ctx context.Context, commit source.ID) (*trust.Keys, error) {
	list, err := c.gitRaw(ctx, "ls-tree", "-z", string(commit), trust.Dir+"/")
	if err != nil {
		return nil, err
	}
	var files []trust.File
	for line := range strings.SplitSeq(string(list), "\x00") {
		about, path, ok := strings.Cut(line, "\t")
		f := strings.Fields(about)
		if !ok || len(f) != 3 || strings.HasSuffix(path, ".md") {
			continue
		}
		if f[1] != "blob" || len(files) == trust.MaxFiles {
			return nil, fmt.Errorf("%s/ of %s: expected at most %d files, and nothing else", trust.Dir, commit.Short(), trust.MaxFiles)
		}
		b, err := c.gitRaw(ctx, "cat-file", "blob", f[2])
		if err != nil {
			return nil, err
		}
		files = append(files, trust.File{Name: strings.TrimPrefix(path, trust.Dir+"/"), Data: b})
	}
	keys, problems := trust.ParseFiles(files)
	switch {
	case len(problems) > 0:
		return nil, fmt.Errorf("nobody's approval counts by keys/ of %s: %w", commit.Short(), problems)
	case len(keys.Keys()) == 0:
		return nil, fmt.Errorf("commit %s has no key in keys/: an approval counts by the keys that are listed there", commit.Short())
	}
	return keys, nil
}

// remote is where the current branch is pushed to, or origin.
func (c *clone) remote(ctx context.Context) string {
	branch, err := c.git(ctx, "symbolic-ref", "--quiet", "--short", "HEAD")
	if err == nil {
		if remote, err := c.git(ctx, "config", "branch."+branch+".remote"); err == nil && remote != "" && remote != "." {
			return remote
		}
	}
	return "origin"
}

// principal is whom keys give the key to that git signs with.
func (c *clone) principal(ctx context.Context, keys *trust.Keys) (string, error) {
	format, _ := c.git(ctx, "config", "gpg.format")
	key, _ := c.git(ctx, "config", "user.signingkey")
	email, _ := c.git(ctx, "config", "user.email")
	var mine []string
	var err error
	if format == "ssh" {
		if key == "" {
			return "", fmt.Errorf("git has no key to sign with: user.signingkey is not set\n%s", noKeyHint)
		}
		mine, err = sshFingerprint(key)
	} else {
		if key == "" {
			key = email // as git does
		}
		if key == "" {
			return "", fmt.Errorf("git has no key to sign with: user.signingkey is not set\n%s", noKeyHint)
		}
		mine, err = c.pgpFingerprints(ctx, key)
	}
	if err != nil {
		return "", fmt.Errorf("user.signingkey: %w\n%s", err, noKeyHint)
	}
	for _, k := range keys.Keys() {
		if slices.Contains(mine, k.ID) {
			return k.Principal, nil
		}
	}
	return "", fmt.Errorf("keys/ does not list your key %s: somebody whose key is listed adds it (docs/trust.md)", strings.Join(mine, ", "))
}

// sshFingerprint is that of what user.signingkey names: a key itself, or a file with it or beside it.
func sshFingerprint(key string) ([]string, error) {
	text, literal := strings.CutPrefix(key, "key::")
	if !literal && !strings.HasPrefix(key, "ssh-") {
		path := key
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, err
			}
			path = filepath.Join(home, rest)
		}
		b, err := os.ReadFile(strings.TrimSuffix(path, ".pub") + ".pub")
		if err != nil {
			return nil, err
		}
		text = string(b)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("expected an SSH public key, or a file with one: %w", err)
	}
	return []string{ssh.FingerprintSHA256(public)}, nil
}

// pgpFingerprints are those of the keys, and subkeys, that gpg finds by a name.
func (c *clone) pgpFingerprints(ctx context.Context, name string) (out []string, err error) {
	program, _ := c.git(ctx, "config", "gpg.program")
	if program == "" {
		program = "gpg"
	}
	list, err := exec.CommandContext(ctx, program, "--batch", "--with-colons", "--list-keys", "--", name).Output()
	if err != nil {
		return nil, fmt.Errorf("%s has no key %q", program, name)
	}
	for line := range strings.Lines(string(list)) {
		if f := strings.Split(line, ":"); f[0] == "fpr" && len(f) > 9 {
			out = append(out, f[9])
		}
	}
	return out, nil
}
