package sealed

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
)

// What sops 3.13.3 itself has written opens: `sops encrypt` with its rules in turn, `sops set` and `sops rotate`. The key is of
// the tests alone.
func TestFeature_G11_RealSOPS(t *testing.T) {
	dir := filepath.Join("testdata", "sops")
	key := strings.TrimSpace(readFile(t, filepath.Join(dir, "key.txt")))
	to, err := age.ParseX25519Identity(key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := newIdentity("dev", to)
	if err != nil {
		t.Fatal(err)
	}
	const words = "correct horse battery staple"
	flat := fmt.Sprintf("Opaque big=123456789012;empty=;multi=%s;off=false;on=true;password=%s;port=5432;ratio=0.25;umlaut=Füße – 魚;user=shop;",
		"-----BEGIN KEY-----\nabc\n-----END KEY-----\n", words)
	for file, want := range map[string]string{
		"flat.yaml":       flat,
		"edited.yaml":     strings.Replace(flat, words, "changed", 1),
		"maconly.yaml":    strings.NewReplacer(";user=shop;", ";user_plain=shop;").Replace(flat),
		"unencregex.yaml": flat,
		"encsuffix.yaml":  flat,
		"manifest.yaml":   "kubernetes.io/basic-auth password=" + words + ";username=shop;",
		"whole.yaml":      "kubernetes.io/basic-auth password=" + words + ";username=shop;",
		"json.json":       "Opaque on=true;password=" + words + ";port=5432;ratio=0.5;user=shop;",
	} {
		s, ps := ParseSOPS("dev", file, []byte(readFile(t, filepath.Join(dir, file))))
		if len(ps) > 0 {
			t.Errorf("%s: %v", file, ps)
			continue
		}
		out, err := s.Open(id.Age())
		if got := out.Type + " " + show(out.Entries); err != nil || got != want {
			t.Errorf("%s: %s, %v\nwant %s", file, got, err, want)
		}
	}
}

func readFile(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
