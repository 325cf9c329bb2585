package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/render"
	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/wallclock"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/renderer"
)

// local is a repository in a directory, rendered as a node would render it: in the same sandbox.
type local struct {
	dir      string
	renderer *renderer.Renderer
	part     *rendererPart
}

func openLocal(dir string) (*local, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	root, err := repositoryRoot(dir)
	if err != nil {
		return nil, err
	}
	return newLocal(self, root), nil
}

func newLocal(self, root string) *local {
	r := renderer.New(renderer.Options{Command: []string{self, roleRenderer}})
	return &local{dir: root, renderer: r, part: newRendererPart(r)}
}

func (l *local) close() { l.renderer.Close() }

// repositoryRoot is the nearest directory from dir upwards that has a shoal.cue.
func repositoryRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := abs; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "shoal.cue")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in a repository of manifests: there is no shoal.cue here or above; `shoal init` makes one", abs)
		}
	}
}

// tree is the working directory less what Git ignores.
func (l *local) tree(ctx context.Context) (source.Tree, error) {
	return source.FromFS(os.DirFS(l.dir), source.FSOptions{Ignore: gitIgnored(ctx, l.dir)})
}

// gitIgnored asks git, where there is one, what it would not commit.
func gitIgnored(ctx context.Context, dir string) func(path string, dir bool) bool {
	out, err := exec.CommandContext(ctx, "git", "-C", dir, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z").Output()
	if err != nil {
		return nil
	}
	ignored := map[string]bool{}
	for p := range strings.SplitSeq(string(out), "\x00") {
		ignored[strings.TrimSuffix(p, "/")] = true
	}
	return func(path string, _ bool) bool { return ignored[path] }
}

// environment picks the environment that is meant: the named one, or the first by name.
func (l *local) environment(ctx context.Context, tree source.Tree, name string) (render.Environment, error) {
	all, problems, err := l.renderer.Environments(ctx, tree)
	if err != nil {
		return render.Environment{}, err
	}
	if len(problems) > 0 {
		return render.Environment{}, problems
	}
	if name == "" && len(all) > 0 {
		return all[0], nil
	}
	var names []string
	for _, e := range all {
		if e.Name == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	return render.Environment{}, fmt.Errorf("shoal.cue declares no environment %q; it has %s", name, strings.Join(names, ", "))
}

// compiledSet is an environment of a directory, whole, with the bytes of its objects.
type compiledSet struct {
	env   render.Environment
	built desired.Built
	blobs map[desired.Digest][]byte
}

func (c compiledSet) Get(d desired.Digest) ([]byte, error) {
	if b, ok := c.blobs[d]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("no object %s", d)
}

// compile renders an environment and checks it as a whole, by itself.
func (l *local) compile(ctx context.Context, tree source.Tree, env render.Environment) (compiledSet, error) {
	out := compiledSet{env: env, blobs: map[desired.Digest][]byte{}}
	rendered, err := l.part.Render(ctx, tree, env)
	if err != nil {
		return out, err
	}
	apps := make([]desired.App, len(rendered))
	for i, a := range rendered {
		apps[i] = a.App
		if a.Blobs == nil {
			continue
		}
		blobs, err := a.Blobs()
		if err != nil {
			return out, err
		}
		for _, b := range blobs {
			out.blobs[b.Digest] = b.Bytes
		}
	}
	out.built, err = desired.Build(env, apps, nil, out)
	return out, err
}

var _ nodeagent.Renderer = (*rendererPart)(nil)

func newCheck() *cobra.Command {
	var environment string
	cmd := &cobra.Command{
		Use: "check [DIR]", Short: "Find every mistake in a repository of manifests",
		Long: `Renders every environment that shoal.cue declares (or the one of -e) as a node would, and a preview (-e preview) if it says which pull
requests get one, and prints every problem with its file and line; so it does with keys/ (docs/trust.md). Needs no agent and no root.`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLocal(dirOf(args))
			if err != nil {
				return err
			}
			defer l.close()
			return check(cmd.Context(), l, environment, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&environment, "environment", "e", "", "only this environment")
	return cmd
}

func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{errors.New("expected one directory at most")}
	}
	return nil
}

func dirOf(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	return "."
}

// check prints what is right, and returns all that is wrong, each problem once however many environments have it.
func check(ctx context.Context, l *local, only string, w io.Writer) error {
	tree, err := l.tree(ctx)
	if err != nil {
		return err
	}
	environments, problems, err := l.renderer.Environments(ctx, tree)
	if err != nil {
		return err
	}
	problems = append(problems, checkKeys(tree, environments, wallclock.Now(), w)...)
	if env, ok := anyPreview(environments); ok {
		environments = append(environments, env)
	}
	found := false
	for _, env := range environments {
		name := calledHere(env)
		if only != "" && name != only {
			continue
		}
		found = true
		set, err := l.compile(ctx, tree, env)
		if err != nil {
			if p, ok := errors.AsType[render.Problems](err); ok {
				problems = append(problems, p...)
				continue
			}
			return err
		}
		for _, warning := range set.built.Warnings {
			fmt.Fprintf(w, "warning: %s: %s\n", name, warning)
		}
		if len(set.built.Problems) == 0 {
			fmt.Fprintf(w, "%s: %d objects, no problems\n", name, len(set.built.Set.Entries))
		}
		problems = append(problems, set.built.Problems...)
	}
	undeclared, err := render.UndeclaredSecrets(tree, environments)
	if err != nil {
		return err
	}
	for _, dir := range undeclared {
		fmt.Fprintf(w, "warning: %s: shoal.cue declares no environment of this name\n", dir)
	}
	if len(problems) > 0 {
		return problems.Sorted()
	}
	if only != "" && !found {
		return fmt.Errorf("shoal.cue declares no environment %q", only)
	}
	return nil
}

func newRender() *cobra.Command {
	var environment, output string
	var raw, secrets bool
	cmd := &cobra.Command{
		Use: "render [DIR]", Short: "Print the objects of an environment",
		Long: `Prints what a node would make of this directory: every object with Kubernetes' defaults filled in, as YAML or JSON.
--raw prints them as their authors wrote them, before defaulting: what "cue export -e objects" gives. Values of Secrets are
not printed unless --show-secrets asks for it.`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLocal(dirOf(args))
			if err != nil {
				return err
			}
			defer l.close()
			return renderTo(cmd.Context(), l, renderOptions{environment, output, raw, secrets}, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&environment, "environment", "e", "", "environment; default: the first by name")
	f.StringVarP(&output, "output", "o", "yaml", "yaml or json")
	f.BoolVar(&raw, "raw", false, "as written, before defaulting")
	f.BoolVar(&secrets, "show-secrets", false, "print the values of Secrets")
	return cmd
}

type renderOptions struct {
	environment, output string
	raw, secrets        bool
}

func renderTo(ctx context.Context, l *local, o renderOptions, w io.Writer) error {
	tree, err := l.tree(ctx)
	if err != nil {
		return err
	}
	env, err := l.environmentOrPreview(ctx, tree, o.environment)
	if err != nil {
		return err
	}
	var objects [][]byte
	if o.raw {
		apps, _, err := l.renderer.Render(ctx, renderer.Request{Tree: tree, Environment: env, Raw: true})
		if err != nil {
			return err
		}
		var problems render.Problems
		for _, a := range apps {
			problems = append(problems, a.Problems...)
			for _, object := range a.Objects {
				objects = append(objects, object.JSON)
			}
		}
		if len(problems) > 0 {
			return problems.Sorted()
		}
	} else {
		set, err := l.compile(ctx, tree, env)
		if err != nil {
			return err
		}
		if len(set.built.Problems) > 0 {
			return set.built.Problems
		}
		for _, e := range set.built.Set.Entries {
			objects = append(objects, set.blobs[e.Digest])
		}
	}
	return printObjects(w, objects, o)
}

func printObjects(w io.Writer, objects [][]byte, o renderOptions) error {
	for i, b := range objects {
		if !o.secrets {
			b = desired.RedactJSON(b)
		}
		switch o.output {
		case "yaml":
			y, err := yaml.JSONToYAML(b)
			if err != nil {
				return err
			}
			if i > 0 {
				y = append([]byte("---\n"), y...)
			}
			b = y
		case "json":
			b = append(slices.Clip(b), '\n')
		default:
			return usageError{fmt.Errorf("-o %s: expected yaml or json", o.output)}
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}
