package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/shoal-dev/shoal/internal/sealed"
)

func newSecretSet(o *secretOptions) *cobra.Command {
	var from, kind string
	cmd := &cobra.Command{
		Use: "set NAME KEY", Short: "Seal one value of a Secret, new or in place of another",
		Long: `Takes the value from standard input, less one newline at its end, or asks for it on a terminal, without echo; --from-file takes every
byte of a file. It is sealed for the environment, and for this Secret and key: it does not open anywhere else.`,
		Args: secretPlace,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, key := args[0], strings.TrimSuffix(args[1], "=-")
			if strings.Contains(key, "=") { // not quoted: it may be a secret
				return usageError{errors.New("expected a key, without a value: command lines are seen by others; the value comes from standard input or --from-file")}
			}
			v, err := o.vault(cmd.Context())
			if err != nil {
				return err
			}
			at := sealed.Place{Environment: v.environment, Name: name, Key: key}
			if err := at.Check(); err != nil {
				return usageError{err}
			}
			f, err := v.file(name)
			if err != nil {
				return err
			}
			plain, err := readValue(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr(), from, at)
			if err != nil {
				return err
			}
			defer plain.Wipe()
			var id *sealed.Identity
			var closed error
			if v.recipient == "" {
				if id, err = o.newKey(cmd.Context(), v, nil, cmd.OutOrStdout()); err != nil {
					return err
				}
			} else {
				id, closed = o.openKey(v)
			}
			if f == nil {
				f = &sealed.File{Environment: v.environment, Name: name, Recipient: v.recipient, Type: "Opaque"}
			}
			if kind != "" {
				f.Type = kind
			}
			return setValue(v, f, key, plain, id, closed, cmd)
		},
	}
	cmd.Flags().StringVar(&from, "from-file", "", "take the value from this file")
	cmd.Flags().StringVar(&kind, "type", "", "type of the Kubernetes Secret; default: Opaque, or what it is")
	return cmd
}

// setValue seals a value with the environment's key, or without it where that does not open.
func setValue(v *vault, f *sealed.File, key string, plain sealed.Plain, id *sealed.Identity, closed error, cmd *cobra.Command) error {
	path := secretPath(v.environment, f.Name)
	changed := true
	if id != nil {
		var err error
		if changed, err = id.Set(f, key, plain); err != nil {
			return err
		}
	} else {
		value, err := sealed.SealFor(v.recipient, f.Place(key), plain)
		if err != nil {
			return err
		}
		if err := f.Put(value); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "sealed without a MAC: %v\n", closed)
	}
	if _, ps := sealed.Parse(f.Environment, f.Name, f.Encode()); len(ps) > 0 { // a type of no use, say
		return ps
	}
	if err := v.save(f); err != nil {
		return err
	}
	if !changed {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is the same already\n", path, key)
		return nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is set; commit it\n", path, key)
	return nil
}

func secretPlace(_ *cobra.Command, args []string) error {
	if len(args) != 2 {
		return usageError{errors.New("expected the name of a Secret and a key")}
	}
	return nil
}

// readValue takes a value from where it is to come from.
func readValue(ctx context.Context, in io.Reader, w io.Writer, from string, at sealed.Place) (sealed.Plain, error) {
	if from != "" {
		f, err := os.Open(from)
		if err != nil {
			return sealed.Plain{}, fmt.Errorf("--from-file: %w", err)
		}
		defer f.Close()
		return readBounded(f)
	}
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(w, "value of %s (not shown): ", at)
		b, err := askQuietly(ctx, int(f.Fd()))
		fmt.Fprintln(w)
		if err != nil {
			return sealed.Plain{}, fmt.Errorf("read value: %w", err)
		}
		return sealed.NewPlain(b), nil
	}
	plain, err := readBounded(in)
	return sealed.NewPlain(bytes.TrimSuffix(plain.Bytes(), []byte("\n"))), err
}

// askQuietly reads a line from a terminal without echo, until ctx ends: whoever interrupts it gets his terminal back as it was.
func askQuietly(ctx context.Context, fd int) ([]byte, error) {
	was, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	type line struct {
		b   []byte
		err error
	}
	read := make(chan line, 1)
	go func() { // ends with the process if nobody types any more
		b, err := term.ReadPassword(fd)
		read <- line{b, err}
	}()
	select {
	case l := <-read:
		return l.b, l.err
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), term.Restore(fd, was))
	}
}

func readBounded(r io.Reader) (sealed.Plain, error) {
	b, err := io.ReadAll(io.LimitReader(r, sealed.MaxValue+1))
	switch {
	case err != nil:
		return sealed.Plain{}, fmt.Errorf("read value: %w", err)
	case len(b) > sealed.MaxValue:
		return sealed.Plain{}, fmt.Errorf("the value has more than %d bytes", sealed.MaxValue)
	}
	return sealed.NewPlain(b), nil
}

func newSecretRm(o *secretOptions) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME [KEY]", Short: "Take a value, or a whole Secret, out of the working tree",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usageError{errors.New("expected the name of a Secret, and a key if only that is meant")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := o.vault(cmd.Context())
			if err != nil {
				return err
			}
			f, err := v.file(args[0])
			if err != nil {
				return err
			}
			path := secretPath(v.environment, args[0])
			if f == nil {
				return fmt.Errorf("%s does not exist", path)
			}
			if len(args) == 1 {
				if err := os.Remove(filepath.Join(v.root, filepath.FromSlash(path))); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is removed; commit it. Git's history has it still\n", path)
				return nil
			}
			if !f.Delete(args[1]) {
				return fmt.Errorf("%s has no key %q", path, args[1])
			}
			if err := v.save(f); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is removed; commit it. Git's history has it still\n", path, args[1])
			return nil
		},
	}
}

// secretLine is one Secret as ls shows it.
type secretLine struct {
	Environment string   `json:"environment"`
	Name        string   `json:"name"`
	Type        string   `json:"type"`
	Keys        []string `json:"keys"`
	SOPS        bool     `json:"sops,omitempty"`
}

func newSecretLs(o *secretOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Short: "List Secrets and their keys, never values", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, names, err := declaredHere(cmd.Context())
			if err != nil {
				return err
			}
			lines := []secretLine{}
			for _, environment := range names {
				if o.environment != "" && environment != o.environment {
					continue
				}
				v, err := openVault(root, environment)
				if err != nil {
					return err
				}
				for _, f := range v.files {
					line := secretLine{Environment: environment, Name: f.Name, Type: f.Type, Keys: []string{}}
					for _, value := range f.Values {
						line.Keys = append(line.Keys, value.Key)
					}
					lines = append(lines, line)
				}
				for _, file := range v.sops {
					name := strings.TrimSuffix(strings.TrimSuffix(file, ".yaml"), ".json")
					lines = append(lines, secretLine{Environment: environment, Name: name, Type: "-", Keys: []string{}, SOPS: true})
				}
			}
			return o.g.print(cmd.OutOrStdout(), lines, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "ENVIRONMENT\tSECRET\tTYPE\tKEYS")
				for _, l := range lines {
					keys := strings.Join(l.Keys, ", ")
					if l.SOPS {
						keys = "(a file of SOPS)"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Environment, l.Name, l.Type, keys)
				}
				t.Flush()
			})
		},
	}
	o.g.outputFlag(cmd)
	return cmd
}
