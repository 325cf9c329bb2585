package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/engine/preview"
	"github.com/shoal-dev/shoal/engine/render"
)

const secretHelp = `Keeps secrets in Git, each value sealed by itself (age), one key an environment:

  secrets/<environment>/recipient      whom values are sealed for: everybody can add and replace values
  secrets/<environment>/identity.age   the key that opens them, sealed to the keys of the ring's nodes
  secrets/<environment>/<name>.yaml    one Kubernetes Secret of the environment, which pods use as any other

Where shoal.cue has previews, "preview" is the environment that all previews get their secrets of, but those of forks, which get none.

They are opened on the node that runs a pod that uses them, into memory. The commands change files of the working tree; a commit and a
push bring them to the ring. The first "shoal secret set" of an environment makes its key.

Values are never taken from the command line, and never printed but by edit, in an editor. set and rm need no key. edit and rotate need it:
root on a node has it by the node's key, others by --identity FILE, if identity.age was sealed to them too (shoal secret keys init --to).
With the key set also writes a MAC, by which a value that is the same is known to be.`

// secretOptions are the flags of all that shoal secret does.
type secretOptions struct {
	g           *globals
	environment string
	dataDir     string
	identities  []string
}

func newSecret(g *globals) *cobra.Command {
	o := &secretOptions{g: g}
	cmd := &cobra.Command{
		Use: "secret", Short: "Keep secrets in Git, sealed", Long: secretHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", "secret "+args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	f.StringVarP(&o.environment, "environment", "e", "", "environment; default: the only one")
	f.StringVar(&o.dataDir, "data-dir", defaultDataDir, "the agent's, for the key of this node")
	f.StringArrayVar(&o.identities, "identity", nil, "file with an age identity that identity.age is sealed to; may be repeated")
	cmd.AddCommand(newSecretSet(o), newSecretRm(o), newSecretLs(o), newSecretEdit(o), newSecretRotate(o), newSecretKeys(o))
	return cmd
}

// vault opens the secrets of the environment that is meant, in the repository around the working directory.
func (o *secretOptions) vault(ctx context.Context) (*vault, error) {
	root, names, err := declaredHere(ctx)
	if err != nil {
		return nil, err
	}
	environment := o.environment
	declared := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == preview.Class })
	switch {
	case environment == "" && len(declared) == 1: // previews are meant by name only
		environment = declared[0]
	case environment == "" && len(names) == 1:
		environment = names[0]
	case environment == "":
		return nil, usageError{fmt.Errorf("which environment? expected -e and one of %s", strings.Join(names, ", "))}
	case !slices.Contains(names, environment):
		return nil, fmt.Errorf("shoal.cue declares no environment %q; it has %s", environment, strings.Join(names, ", "))
	}
	return openVault(root, environment)
}

// declaredHere finds the repository around the working directory, and the names of its environments; "preview", if it has any, for all previews.
func declaredHere(ctx context.Context) (root string, names []string, err error) {
	l, err := openLocal(".")
	if err != nil {
		return "", nil, err
	}
	defer l.close()
	tree, err := l.tree(ctx)
	if err != nil {
		return "", nil, err
	}
	all, problems, err := l.renderer.Environments(ctx, tree)
	if err != nil {
		return "", nil, err
	}
	if len(problems) > 0 {
		return "", nil, problems
	}
	for _, e := range all {
		names = append(names, e.Name)
	}
	if _, ok := anyPreview(all); ok {
		names = append(names, preview.Class)
	}
	if len(names) == 0 {
		return "", nil, errors.New("shoal.cue declares no environment")
	}
	return l.dir, names, nil
}

// secretPath is where a Secret lies, for people.
func secretPath(environment, name string) string {
	return render.SecretsApp(environment) + "/" + name + ".yaml"
}
