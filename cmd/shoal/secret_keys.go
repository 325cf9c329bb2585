package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/internal/sealed"
)

func newSecretKeys(o *secretOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys", Short: "Show who can open an environment's secrets", Args: exactly(0, "no arguments"),
		Long: `Shows for whom identity.age is sealed. A node that came later and is not among them gets the key from one that has it, as soon as a pod of
the environment is placed on it; "shoal secret keys seal" seals identity.age to the nodes of now, so that it is on its own.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := o.vault(cmd.Context())
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if v.recipient == "" {
				fmt.Fprintf(w, "environment %s has no key yet; the first shoal secret set makes one\n", v.environment)
				return nil
			}
			fmt.Fprintf(w, "values of %s are sealed for %s\n", v.environment, v.recipient)
			nodes, err := o.nodes(cmd.Context())
			if err != nil {
				return err
			}
			if v.identity == nil {
				fmt.Fprintf(w, "identity.age is not in Git: the nodes that have the key give it to those that a pod is placed on\n")
				return nil
			}
			tags, others, err := sealed.Holders(v.identity)
			if err != nil {
				return fmt.Errorf("identity.age: %w", err)
			}
			fmt.Fprintln(w, "identity.age is sealed to:")
			var missing []string
			for _, n := range nodes {
				tag := n.to.(*sealed.NodeRecipient).Tag()
				i := slices.Index(tags, tag)
				if i < 0 {
					missing = append(missing, n.name)
					continue
				}
				tags = slices.Delete(tags, i, i+1)
				fmt.Fprintf(w, "  node %s  %s\n", n.name, n.text)
			}
			for _, tag := range tags {
				fmt.Fprintf(w, "  a key %s of a node that is not known here\n", tag)
			}
			if others > 0 {
				fmt.Fprintf(w, "  %s of people\n", count(others, "key", "keys"))
			}
			for _, name := range missing {
				fmt.Fprintf(w, "not to node %s, which asks others for the key; shoal secret keys seal -e %s adds it\n", name, v.environment)
			}
			return nil
		},
	}
	cmd.AddCommand(newSecretKeysInit(o), newSecretKeysSeal(o))
	return cmd
}

const toHelp = "also seal it to this key: age1... of a person, or \"ssh-ed25519 ...\" of a node; may be repeated"

func newSecretKeysInit(o *secretOptions) *cobra.Command {
	var to []string
	cmd := &cobra.Command{
		Use: "init", Short: "Make the key of an environment", Args: exactly(0, "no arguments"),
		Long: `Makes the key of an environment, and seals it to the ring's nodes and to those of --to. An age key of a person, kept in a safe place, is
what opens the secrets if all nodes are lost.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := o.vault(cmd.Context())
			if err != nil {
				return err
			}
			if v.recipient != "" {
				return fmt.Errorf("environment %s has a key; shoal secret rotate makes another, shoal secret keys seal seals it to others", v.environment)
			}
			_, err = o.newKey(cmd.Context(), v, to, cmd.OutOrStdout())
			return err
		},
	}
	cmd.Flags().StringArrayVar(&to, "to", nil, toHelp)
	return cmd
}

func newSecretKeysSeal(o *secretOptions) *cobra.Command {
	var to []string
	cmd := &cobra.Command{
		Use: "seal", Short: "Seal an environment's key to the nodes of now", Args: exactly(0, "no arguments"),
		Long: `Writes identity.age anew, for the nodes that are in the ring now and those of --to. The key stays the same: who has had it has it still;
to lock somebody out takes shoal secret rotate, and new values.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := o.vault(cmd.Context())
			if err != nil {
				return err
			}
			id, err := o.openKey(v)
			if err != nil {
				return err
			}
			all, err := o.reseal(cmd, v, to)
			if err != nil {
				return err
			}
			b, err := id.SealTo(recipients(all)...)
			if err != nil {
				return err
			}
			if err := v.write(sealed.IdentityFile, b); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "secrets/%s/%s: sealed to %s; commit it\n", v.environment, sealed.IdentityFile, holderNames(all))
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&to, "to", nil, toHelp)
	return cmd
}

// reseal is whom to seal to instead of those of now. Keys of people are not told by identity.age: that none is forgotten is said.
func (o *secretOptions) reseal(cmd *cobra.Command, v *vault, to []string) ([]keyHolder, error) {
	all, err := o.holders(cmd.Context(), to)
	if err != nil || v.identity == nil {
		return all, err
	}
	_, others, err := sealed.Holders(v.identity)
	if err != nil {
		return nil, fmt.Errorf("identity.age: %w", err)
	}
	people := 0
	for _, h := range all {
		if _, node := h.to.(*sealed.NodeRecipient); !node {
			people++
		}
	}
	if others > people {
		return nil, fmt.Errorf("identity.age is sealed to %s of people now, and would be to %d: name all of them with --to", count(others, "key", "keys"), people)
	}
	return all, nil
}

func newSecretRotate(o *secretOptions) *cobra.Command {
	var to []string
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new key for an environment and seal all values anew", Args: exactly(0, "no arguments"),
		Long: `Makes a new key, sealed to the nodes of now and those of --to, and seals all values for it. The values stay, so no pod restarts and no
file of a pod changes. Who had the old key can open what Git's history has: values that must not be known any more are to be replaced, too.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := o.vault(cmd.Context())
			if err != nil {
				return err
			}
			from, err := o.openKey(v)
			if err != nil {
				return err
			}
			all, err := o.reseal(cmd, v, to)
			if err != nil {
				return err
			}
			next, err := sealed.NewIdentity(v.environment)
			if err != nil {
				return err
			}
			files, err := sealed.Rotate(from, next, v.files)
			if err != nil {
				return err
			}
			b, err := next.SealTo(recipients(all)...)
			if err != nil {
				return err
			}
			if err := v.replaceAll(next, b, files); err != nil {
				return fmt.Errorf("%w; git checkout secrets/%s brings back what was there", err, v.environment)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "secrets/%s: a new key, sealed to %s; %s sealed anew; commit it\n", v.environment, holderNames(all), count(len(files), "Secret", "Secrets"))
			fmt.Fprintln(w, "no value has changed: no pod restarts")
			for _, name := range v.sops {
				fmt.Fprintf(w, "secrets/%s/%s is a file of SOPS and still for the old key: in it, and in .sops.yaml, the recipient is now %s (sops rotate -i --add-age ... --rm-age ...)\n", v.environment, name, next.Recipient())
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&to, "to", nil, toHelp)
	return cmd
}

// replaceAll puts a new key and what is sealed for it in place.
func (v *vault) replaceAll(id *sealed.Identity, identity []byte, files []*sealed.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, v.save(f))
	}
	return errors.Join(append(errs, v.saveKey(id, identity))...)
}
