package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/sealed"
)

func newSecretEdit(o *secretOptions) *cobra.Command {
	return &cobra.Command{
		Use: "edit NAME", Short: "Change a Secret's values in an editor", Args: exactly(1, "the name of a Secret"),
		Long: `Opens a Secret's values as YAML in $VISUAL or $EDITOR (else vi), in a directory in memory that nobody else can read and that is overwritten
and removed when the editor ends. Of what the editor keeps elsewhere, such as vim's history of yanked text, shoal knows nothing. Values that
are no text stay as they are. Only values that were changed are sealed anew.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := o.vault(cmd.Context())
			if err != nil {
				return err
			}
			f, err := v.file(args[0])
			if err != nil {
				return err
			}
			if f == nil {
				return fmt.Errorf("%s does not exist; shoal secret set makes it", secretPath(v.environment, args[0]))
			}
			id, err := o.openKey(v)
			if err != nil {
				return err
			}
			return edit(v, f, id, cmd.OutOrStdout())
		},
	}
}

func edit(v *vault, f *sealed.File, id *sealed.Identity, w io.Writer) error {
	entries, err := id.OpenFile(f)
	if err != nil {
		return err
	}
	defer func() {
		for _, e := range entries {
			e.Plain.Wipe()
		}
	}()
	path := secretPath(v.environment, f.Name)
	before, text := editable(path, entries)
	defer clear(text)
	edited, err := inEditor(f.Name+".yaml", text)
	if err != nil {
		return err
	}
	defer clear(edited)
	after, err := parseEdited(edited)
	if err != nil {
		return fmt.Errorf("%s is as it was: %w", path, err)
	}
	next := *f
	next.Values = slices.Clone(f.Values)
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if old, had := before[key]; had && old == after[key] {
			continue
		}
		if _, err := id.Set(&next, key, sealed.NewPlain([]byte(after[key]))); err != nil {
			return fmt.Errorf("%s is as it was: %w", path, err)
		}
		changed = append(changed, key+" is set")
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, still := after[key]; !still {
			next.Delete(key)
			changed = append(changed, key+" is removed")
		}
	}
	if len(changed) == 0 {
		fmt.Fprintf(w, "%s: nothing was changed\n", path)
		return nil
	}
	if err := v.save(&next); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: %s; commit it\n", path, strings.Join(changed, ", "))
	return nil
}

// editable is the text for the editor, and the values in it by key.
func editable(path string, entries []sealed.Entry) (values map[string]string, text []byte) {
	values = map[string]string{}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s: one line or block a key. Sealed again when the editor ends; lines that are left out are removed.\n", path)
	for _, e := range entries {
		if plain := e.Plain.Bytes(); utf8.Valid(plain) && !bytes.ContainsRune(plain, 0) {
			values[e.Key] = string(plain)
			line, err := yaml.Marshal(map[string]string{e.Key: values[e.Key]})
			if again, perr := parseEdited(line); err == nil && perr == nil && again[e.Key] == values[e.Key] {
				b.Write(line)
				continue
			}
			delete(values, e.Key)
		}
		fmt.Fprintf(&b, "# %s: %d bytes that are no text; they stay\n", e.Key, len(e.Plain.Bytes()))
	}
	return values, b.Bytes()
}

// parseEdited reads what the editor left. Errors do not quote it.
func parseEdited(text []byte) (map[string]string, error) {
	var tree map[string]yaml.Node
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, errors.New("what was edited is no YAML of one value a key")
	}
	out := make(map[string]string, len(tree))
	for key, n := range tree {
		if n.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("key %.80q: expected a single value; quote it if it has braces or brackets", key)
		}
		if out[key] = n.Value; n.Tag == "!!null" && n.Style == 0 {
			out[key] = ""
		}
	}
	return out, nil
}

// inEditor has the user edit text, in a file in memory.
func inEditor(name string, text []byte) (_ []byte, err error) {
	dir, err := privateDir()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, wipe(dir)) }()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	editor := "vi"
	for _, variable := range []string{"EDITOR", "VISUAL"} {
		if s := os.Getenv(variable); s != "" {
			editor = s
		}
	}
	interrupts := make(chan os.Signal, 1) // they are the editor's while it runs
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(interrupts)
	run := exec.Command("/bin/sh", "-c", editor+` "$0"`, file)
	run.Env = append(os.Environ(), "TMPDIR="+dir)
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := run.Start(); err != nil {
		return nil, fmt.Errorf("editor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	for {
		select {
		case s := <-interrupts:
			if s == os.Interrupt {
				continue // the terminal has sent it to the editor, too
			}
			_ = run.Process.Signal(s)
			return nil, fmt.Errorf("%s came while the editor was open, nothing was changed: %w", s, errors.Join(<-ended, context.Canceled))
		case err := <-ended:
			if err != nil {
				return nil, fmt.Errorf("the editor failed, nothing was changed: %w", err)
			}
			f, err := os.Open(file)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return io.ReadAll(io.LimitReader(f, sealed.MaxFile))
		}
	}
}

// privateDir makes a directory in memory.
func privateDir() (string, error) {
	for _, in := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/run"} {
		var st unix.Statfs_t
		if in == "" || unix.Statfs(in, &st) != nil || st.Type != unix.TMPFS_MAGIC {
			continue
		}
		if dir, err := os.MkdirTemp(in, "shoal-secret-"); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no directory in memory can be written to: neither $XDG_RUNTIME_DIR, nor /dev/shm, nor /run; use shoal secret set")
}

// wipe overwrites the files in a directory and removes it.
func wipe(dir string) error {
	var errs []error
	entries, err := os.ReadDir(dir)
	errs = append(errs, err)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		errs = append(errs, os.WriteFile(filepath.Join(dir, e.Name()), make([]byte, info.Size()), 0o600))
	}
	return errors.Join(append(errs, os.RemoveAll(dir))...)
}
