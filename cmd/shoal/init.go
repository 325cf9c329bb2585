package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/schema"
)

// skeleton is what `shoal init` writes beside the vendored schema. MODULE stands for the module's path.
var skeleton = map[string]string{
	"cue.mod/module.cue": `module: "MODULE"
language: version: "v0.15.0"
`,
	"shoal.cue": `package shoal

import "shoal.dev/schema"

schema.#Repository

// Each environment runs the tip of a branch with the values of its class.
environments: {
	dev: ref:        "main"
	production: ref: "env/production"
}
`,
	"values/schema.cue": `package values

// values is what environments may differ in. It has no defaults, so that a forgotten one is an error.
values: {
	replicas: int & >=1
	greeting: string
}
`,
	"values/dev.cue": `@if(dev)

package values

values: {replicas: 1, greeting: "hello, developer"}
`,
	"values/production.cue": `@if(production)

package values

values: {replicas: 3, greeting: "hello"}
`,
	"apps/hello/hello.cue": `package hello

import (
	"shoal.dev/schema"
	"MODULE/values"
)

schema.#Package

app: hello: {
	image:    "shoal.local/hello:v1" // shoal image push FILE hello:v1
	replicas: values.values.replicas
	ports: http:     8080
	nodePorts: http: 30080
	env: GREETING: values.values.greeting
}
`,
}

var modulePath = regexp.MustCompile(`^[a-z0-9.-]+\.[a-z]+(/[a-zA-Z0-9._-]+)*$`)

func newInit() *cobra.Command {
	var module string
	var upgrade bool
	cmd := &cobra.Command{
		Use: "init [DIR]", Short: "Begin a repository of manifests, or renew its schema",
		Long: `Writes a small repository that "shoal check" accepts: shoal.cue, values for two environments, an app, and the schema
under cue.mod/pkg so that stock cue works on it too. Nothing that exists is overwritten.

--upgrade renews the vendored schema of an existing repository to the one this binary has.`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !modulePath.MatchString(module) {
				return usageError{fmt.Errorf("--module %q: expected a path such as shop.example/cluster", module)}
			}
			return initRepository(cmd.OutOrStdout(), dirOf(args), module, upgrade)
		},
	}
	cmd.Flags().StringVar(&module, "module", "shop.example/cluster", "CUE module path of the repository")
	cmd.Flags().BoolVar(&upgrade, "upgrade", false, "only renew the vendored schema")
	return cmd
}

func initRepository(w io.Writer, dir, module string, upgrade bool) error {
	if upgrade {
		if _, err := repositoryRoot(dir); err != nil {
			return err
		}
		return vendorSchema(w, dir)
	}
	for _, name := range []string{"shoal.cue", "cue.mod/module.cue"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s exists: this is a repository already (--upgrade renews its schema)", filepath.Join(dir, name))
		}
	}
	for _, name := range sortedKeys(skeleton) {
		if err := writeNew(filepath.Join(dir, name), strings.ReplaceAll(skeleton[name], "MODULE", module)); err != nil {
			return err
		}
		fmt.Fprintln(w, "wrote", filepath.Join(dir, name))
	}
	if err := vendorSchema(w, dir); err != nil {
		return err
	}
	fmt.Fprintf(w, "next: shoal check %s\n", dir)
	return nil
}

// vendorSchema replaces the repository's copy of the schema by this binary's.
func vendorSchema(w io.Writer, dir string) error {
	target := filepath.Join(dir, "cue.mod", "pkg", "shoal.dev", "schema")
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := os.CopyFS(target, schema.FS); err != nil {
		return err
	}
	fmt.Fprintf(w, "wrote %s (%s)\n", target, schema.Version)
	return nil
}

// writeNew writes a file that must not exist.
func writeNew(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is not overwritten", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
