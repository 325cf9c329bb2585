package render

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/internal/sealed"
)

// The sealed values in secrets/<environment>/ are one more app of that environment, by the name of their directory: they are checked, held
// back and reported as apps are. Those of secrets/preview/ are one of every preview that may have secrets. Nothing is opened here: an object
// has its values as they are in Git.

// SecretsApp is the name of the app that the secrets of an environment are; no directory below apps/ can have it.
func SecretsApp(environment string) string { return sealed.Dir + "/" + environment }

// IsSecretsApp tells such a name.
func IsSecretsApp(app string) bool { return strings.HasPrefix(app, sealed.Dir+"/") }

// AppDir is where an app lies in the repository.
func AppDir(app string) string {
	if IsSecretsApp(app) {
		return app
	}
	return path.Join("apps", app)
}

// AppsOf lists all apps of an environment: those of the tree, and its secrets if it has and gets any.
func AppsOf(tree source.Tree, env Environment) ([]string, error) {
	apps, err := Apps(tree)
	if err != nil || env.NoSecrets {
		return apps, err
	}
	name := SecretsApp(env.WithDefaults().SecretsOf)
	switch _, err := tree.Lookup(name); {
	case errors.Is(err, fs.ErrNotExist):
		return apps, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return append(apps, name), nil
}

// loadSecrets reads the secrets of the batch's environment.
func (b *Batch) loadSecrets(l *Loaded) {
	files, problems := secretFiles(b.tree, l.Name)
	if len(problems) == 0 {
		l.sealed, problems = sealedObjects(b.env.SecretsOf, files)
	}
	l.problems = append(l.problems, problems...)
}

func secretFiles(tree source.Tree, dir string) (files []sealed.Named, problems Problems) {
	entries, err := tree.ReadDir(dir)
	switch {
	case err != nil:
		return nil, Problems{{File: dir, Text: fmt.Sprintf("cannot be read: %v", err)}}
	case len(entries) > sealed.MaxFiles:
		return nil, Problems{{File: dir, Text: fmt.Sprintf("has more than %d files", sealed.MaxFiles)}}
	}
	for _, e := range entries {
		file := path.Join(dir, e.Name)
		if !e.Mode.IsRegular() {
			problems = append(problems, Problem{File: file, Text: "is no file: nothing else may lie here"})
			continue
		}
		b, err := tree.ReadFile(file)
		if err != nil {
			problems = append(problems, Problem{File: file, Text: fmt.Sprintf("cannot be read: %v", err)})
			continue
		}
		files = append(files, sealed.Named{Name: e.Name, Data: b})
	}
	return files, problems
}

// sealedObjects makes Secrets of the files of an environment, or says all that is wrong with them.
func sealedObjects(environment string, files []sealed.Named) (objects []Object, problems Problems) {
	if ps := sealed.Check(environment, files); len(ps) > 0 {
		return nil, placed(ps)
	}
	var recipient string
	var identity []byte
	for _, f := range files {
		switch f.Name {
		case sealed.RecipientFile:
			recipient, _ = sealed.ParseRecipient(f.Data) // it was checked
		case sealed.IdentityFile:
			identity = f.Data
		}
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name, ".yaml") && !strings.HasSuffix(f.Name, ".json") {
			continue
		}
		o, ps := sealed.ObjectOf(environment, f, recipient, identity)
		if o == nil {
			problems = append(problems, placed(ps)...)
			continue
		}
		object, err := secretObject(o, path.Join(SecretsApp(environment), f.Name))
		if err != nil {
			problems = append(problems, Problem{File: object.File, Text: err.Error()})
			continue
		}
		objects = append(objects, object)
	}
	return objects, problems
}

func secretObject(o *sealed.Object, file string) (Object, error) {
	data, notes := map[string]any{}, map[string]any{}
	for key, b := range o.Data() {
		data[key] = base64.StdEncoding.EncodeToString(b)
	}
	for key, text := range o.Annotations() {
		notes[key] = text
	}
	out := Object{File: file, Line: 1}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": o.Type, "data": data,
		"metadata": map[string]any{"name": o.Name, "annotations": notes},
	})
	out.JSON = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if err == nil && len(out.JSON) > MaxObjectBytes {
		err = fmt.Errorf("has more than %d bytes of JSON", MaxObjectBytes)
	}
	return out, err
}

func placed(ps sealed.Problems) Problems {
	out := make(Problems, len(ps))
	for i, p := range ps {
		out[i] = Problem{File: p.File, Line: p.Line, Text: p.Text}
	}
	return out
}

// UndeclaredSecrets are directories of secrets that belong to no environment, sorted: a name that was mistyped, mostly.
func UndeclaredSecrets(tree source.Tree, environments []Environment) ([]string, error) {
	entries, err := tree.ReadDir(sealed.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", sealed.Dir, err)
	}
	var out []string
	for _, e := range entries {
		if e.Mode.IsDir() && !slices.ContainsFunc(environments, func(env Environment) bool { return env.WithDefaults().SecretsOf == e.Name }) {
			out = append(out, path.Join(sealed.Dir, e.Name))
		}
	}
	slices.Sort(out)
	return out, nil
}
