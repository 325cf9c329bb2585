package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	sealing "filippo.io/age"

	"github.com/shoal-dev/shoal/internal/sealed"
	"github.com/shoal-dev/shoal/nodeagent/api"
	"github.com/shoal-dev/shoal/nodeagent/store"
)

// vault is secrets/<environment>/ of a working tree.
type vault struct {
	root, environment string

	recipient string // "": there is no key yet
	identity  []byte // identity.age; nil: it is not here
	files     []*sealed.File
	sops      []string // names of files that SOPS has encrypted
}

// openVault reads what is there. With something wrong in it nothing is changed.
func openVault(root, environment string) (*vault, error) {
	v := &vault{root: root, environment: environment}
	all, err := sealed.ReadDir(os.DirFS(root), environment)
	if err != nil {
		return nil, err
	}
	if ps := sealed.Check(environment, all); len(ps) > 0 {
		return nil, ps
	}
	for _, f := range all {
		name, isYAML := strings.CutSuffix(f.Name, ".yaml")
		switch {
		case f.Name == sealed.RecipientFile:
			if v.recipient, err = sealed.ParseRecipient(f.Data); err != nil {
				return nil, err
			}
		case f.Name == sealed.IdentityFile:
			v.identity = f.Data
		case strings.HasSuffix(f.Name, ".json"), isYAML && sealed.IsSOPS(f.Data):
			v.sops = append(v.sops, f.Name)
		case isYAML:
			file, ps := sealed.Parse(environment, name, f.Data)
			if file == nil {
				return nil, ps
			}
			v.files = append(v.files, file)
		}
	}
	return v, nil
}

// file finds a Secret by name; nil if there is none.
func (v *vault) file(name string) (*sealed.File, error) {
	if slices.Contains(v.sops, name+".yaml") || slices.Contains(v.sops, name+".json") {
		return nil, fmt.Errorf("%s is a file of SOPS: change it with sops", secretPath(v.environment, name))
	}
	for _, f := range v.files {
		if f.Name == name {
			return f, nil
		}
	}
	return nil, nil
}

// write puts a file of the environment in place. What root writes belongs to the working tree's owner: sudo is for the node's key only.
func (v *vault) write(name string, b []byte) error {
	file := filepath.Join(v.root, sealed.Dir, v.environment, name)
	if err := putFile(file, 0o644, bytes.NewReader(b)); err != nil || os.Geteuid() != 0 {
		return err
	}
	info, err := os.Stat(v.root)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	for at := file; at != v.root; at = filepath.Dir(at) {
		if err := os.Lchown(at, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}

func (v *vault) save(f *sealed.File) error { return v.write(f.Name+".yaml", f.Encode()) }

// saveKey puts the environment's key in place.
func (v *vault) saveKey(id *sealed.Identity, sealedTo []byte) error {
	if err := v.write(sealed.IdentityFile, sealedTo); err != nil {
		return err
	}
	v.recipient, v.identity = id.Recipient(), sealedTo
	return v.write(sealed.RecipientFile, []byte(v.recipient+"\n"))
}

// openKey opens the environment's key with what this user has. The error says why it cannot.
func (o *secretOptions) openKey(v *vault) (*sealed.Identity, error) {
	if v.recipient == "" {
		return nil, fmt.Errorf("environment %s has no key yet: shoal secret keys init -e %[1]s", v.environment)
	}
	mine, err := o.ownIdentities()
	if err != nil {
		return nil, err
	}
	why := fmt.Errorf("secrets/%s/%s is not there", v.environment, sealed.IdentityFile)
	if v.identity != nil {
		for _, i := range mine {
			var id *sealed.Identity
			if id, why = sealed.OpenIdentityOf(v.environment, v.recipient, v.identity, i); why == nil {
				return id, nil
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(o.dataDir, "identities", v.environment, v.recipient+".age")); err == nil {
		for _, i := range mine {
			if id, err := sealed.OpenIdentityOf(v.environment, v.recipient, b, i); err == nil {
				return id, nil
			}
		}
	}
	if len(mine) == 0 {
		why = fmt.Errorf("it takes the key of a node (root has it there) or --identity; %s/node.key cannot be read", o.dataDir)
	}
	return nil, fmt.Errorf("the key of environment %s does not open: %w", v.environment, why)
}

// ownIdentities are the node's of this machine, if its key can be read, and those of --identity.
func (o *secretOptions) ownIdentities() (all []sealing.Identity, err error) {
	for _, file := range o.identities {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("--identity: %w", err)
		}
		ids, err := sealing.ParseIdentities(io.LimitReader(f, 1<<20))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("--identity %s: is no file with age identities", file) // err could quote it
		}
		all = append(all, ids...)
	}
	if node, err := store.ReadIdentity(filepath.Join(o.dataDir, "node.key")); err == nil {
		id, err := sealed.NewNodeIdentity(node.Key)
		if err != nil {
			return nil, err
		}
		all = append(all, id)
	}
	return all, nil
}

// keyHolder is somebody a key is sealed to.
type keyHolder struct {
	name string // of a node; "": named by --to
	to   sealing.Recipient
	text string
}

// holders are the ring's nodes, as far as an agent or the data directory tells, and those of --to.
func (o *secretOptions) holders(ctx context.Context, to []string) (all []keyHolder, err error) {
	nodes, err := o.nodes(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, nodes...)
	for _, text := range to {
		h := keyHolder{text: text}
		if strings.HasPrefix(text, "ssh-ed25519 ") {
			h.to, err = sealed.ParseNodeRecipient(text)
		} else {
			h.to, err = sealing.ParseX25519Recipient(text)
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("--to %.80q: expected age1... or \"ssh-ed25519 AAAA...\", as shoal secret keys shows it", text)}
		}
		all = append(all, h)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no key of a node is known: no agent answers at %s, and %s/node.key cannot be read; run this on a node, or name keys with --to", o.g.server, o.dataDir)
	}
	return all, nil
}

// nodes are those of the ring, by name.
func (o *secretOptions) nodes(ctx context.Context) (all []keyHolder, err error) {
	add := func(name string, key ed25519.PublicKey) error {
		to, err := sealed.NewNodeRecipient(key)
		if err != nil {
			return fmt.Errorf("key of node %s: %w", name, err)
		}
		if !slices.ContainsFunc(all, func(h keyHolder) bool { return h.text == to.String() }) {
			all = append(all, keyHolder{name, to, to.String()})
		}
		return nil
	}
	c := o.g.client()
	defer c.Close()
	ring, err := c.Ring(ctx, false)
	if err != nil && !errors.Is(err, api.ErrUnreachable) {
		return nil, err
	}
	for _, n := range ring.Nodes {
		if n.Key == "" { // of an agent that does not tell
			continue
		}
		key, err := base64.StdEncoding.DecodeString(n.Key)
		if err != nil {
			return nil, fmt.Errorf("key of node %s: %w", n.Name, err)
		}
		if err := add(n.Name, key); err != nil {
			return nil, err
		}
	}
	if node, err := store.ReadIdentity(filepath.Join(o.dataDir, "node.key")); err == nil {
		host, _ := os.Hostname()
		if err := add(host, node.Key.Public().(ed25519.PublicKey)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// recipients are those of holders.
func recipients(all []keyHolder) []sealing.Recipient {
	out := make([]sealing.Recipient, len(all))
	for i, h := range all {
		out[i] = h.to
	}
	return out
}

// holderNames lists holders for people.
func holderNames(all []keyHolder) string {
	names := make([]string, len(all))
	for i, h := range all {
		if names[i] = h.name; h.name == "" {
			names[i] = h.text
		}
	}
	return strings.Join(names, ", ")
}

// newKey makes the first key of an environment.
func (o *secretOptions) newKey(ctx context.Context, v *vault, to []string, w io.Writer) (*sealed.Identity, error) {
	all, err := o.holders(ctx, to)
	if err != nil {
		return nil, err
	}
	id, err := sealed.NewIdentity(v.environment)
	if err != nil {
		return nil, err
	}
	b, err := id.SealTo(recipients(all)...)
	if err != nil {
		return nil, err
	}
	if err := v.saveKey(id, b); err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "secrets/%s: made a key, sealed to %s\n", v.environment, holderNames(all))
	return id, nil
}
