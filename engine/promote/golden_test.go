package promote

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/shoal-dev/shoal/engine/source"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata")

// golden runs every testdata/<glob>.txtar through run, which gets its files by name, and compares with the file "want".
func golden(t *testing.T, glob string, run func(t *testing.T, files map[string]string) string) {
	t.Helper()
	paths, err := filepath.Glob("testdata/" + glob + ".txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, p := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(p), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(p)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			at := -1
			for i, f := range ar.Files {
				files[f.Name] = string(f.Data)
				if f.Name == "want" {
					at = i
				}
			}
			got := run(t, files)
			if got == files["want"] {
				return
			}
			if !*update {
				t.Errorf("got\n%s\nwant\n%s", got, files["want"])
				return
			}
			if at < 0 {
				ar.Files = append(ar.Files, txtar.File{Name: "want"})
				at = len(ar.Files) - 1
			}
			ar.Files[at].Data = []byte(got)
			if err := os.WriteFile(p, txtar.Format(ar), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// id is the commit or tree that stands for a word.
func id(word string) source.ID { return source.ObjectID("blob", []byte(word)) }

// ms reads "2026-11-23T10:00:00Z".
func ms(t *testing.T, s string) int64 {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v.UnixMilli()
}
