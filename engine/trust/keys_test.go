package trust

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/source"
)

// TestSigners reads lines of OpenSSH's allowed_signers.
func TestSigners(t *testing.T) {
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signerOf("ada").PublicKey())))
	other := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signerOf("bob").PublicKey())))
	blob := strings.Fields(key)[1]
	for _, c := range []struct{ lines, want string }{
		{"ada " + key, "ada - -"},
		{"ada " + key + " a comment", "ada - -"},
		{"\n# nobody\n  ada\t" + key + "\r\n", "ada - -"},
		{`"ada@example.org" ` + key, "ada@example.org - -"},
		{`ada namespaces="git" ` + key, "ada - -"},
		{`ada namespaces="file,git",valid-after="20260101Z" ` + key, "ada 2026-01-01T00:00:00Z -"},
		{`ada Valid-Before="202602030405Z" ` + key, "ada - 2026-02-03T04:05:00Z"},
		{`ada valid-before="20260203040506Z" ` + key, "ada - 2026-02-03T04:05:06Z"},
		{`ada namespaces="file" ` + key, ""},
		{"ada " + key + "\nada " + other, "ada - -; ada - -"},
		{"ada " + key + "\nbob " + key, "!keys/signers:2: key <ada> stands twice, for ada and bob"},
		{"ada", "!keys/signers:1: is cut short; expected: name, options if any, type, key"},
		{"ada ssh-ed25519", "!keys/signers:1: is cut short; expected: name, options if any, type, key"},
		{"ada,bob " + key, `!keys/signers:1: "ada,bob": one name a line is understood, no lists and no patterns`},
		{"*@example.org " + key, `!keys/signers:1: "*@example.org": one name a line is understood, no lists and no patterns`},
		{"../x " + key, `!keys/signers:1: "../x": names of principals hold letters, digits and ._@+- only`},
		{"-x " + key, `!keys/signers:1: "-x": names of principals begin with a letter or digit, and hold no .. and no . or .lock at their end`},
		{"ada cert-authority " + key, "!keys/signers:1: cert-authority: certificates are not supported, list the keys themselves"},
		{`ada cert-authority,namespaces="git" ` + key, "!keys/signers:1: cert-authority: certificates are not supported, list the keys themselves"},
		{`ada namespaces="git",namespaces="file" ` + key, "!keys/signers:1: option namespaces stands twice"},
		{`ada namespaces="g*" ` + key, `!keys/signers:1: namespaces: "g*" holds a pattern; expected names like git`},
		{`ada namespaces=git ` + key, "!keys/signers:1: option namespaces: expected a value in double quotes"},
		{`ada namespaces="git ` + key, "!keys/signers:1: a quote has no end"},
		{`ada valid-after="20260101" ` + key, `!keys/signers:1: valid-after: "20260101": add a Z: without it the time depends on a machine's time zone`},
		{`ada valid-after="tomorrowZ" ` + key, `!keys/signers:1: valid-after: "tomorrowZ": expected YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ`},
		{`ada valid-after="20260101Z",valid-before="20250101Z" ` + key, "!keys/signers:1: valid-before lies before valid-after"},
		{`ada restrict ` + key, `!keys/signers:1: option "restrict" is not understood; expected namespaces=, valid-after= or valid-before=`},
		{"ada ssh-rsa " + blob, "!keys/signers:1: the line says ssh-rsa, the key itself ssh-ed25519"},
		{"ada ssh-ed25519 " + blob[:20], "!keys/signers:1: the key cannot be read: parse error in message type 0"},
		{"ada ssh-ed25519 %%%%", "!keys/signers:1: the key is not base64"},
		{"ada ssh-dss " + blob, `!keys/signers:1: a key of type "ssh-dss"; expected one of ssh-ed25519, ecdsa-sha2-nistp256, -384 or -521, ssh-rsa, sk-ssh-ed25519@openssh.com, sk-ecdsa-sha2-nistp256@openssh.com`},
		{"ada " + strings.Repeat("x", maxLine), fmt.Sprintf("!keys/signers:1: longer than %d bytes", maxLine)},
	} {
		k, ps := ParseFiles([]File{{"signers", []byte(c.lines)}})
		var out []string
		for _, key := range k.Keys() {
			from, until := "-", "-"
			if !key.From.IsZero() {
				from = stamp(key.From)
			}
			if !key.Until.IsZero() {
				until = stamp(key.Until)
			}
			out = append(out, key.Principal+" "+from+" "+until)
		}
		got := strings.Join(out, "; ")
		if len(ps) > 0 {
			got = "!" + newHistory(t).names(ps.Error())
		}
		if got != c.want {
			t.Errorf("%.100q: %s\nwant %s", c.lines, got, c.want)
		}
	}
}

// TestTrustFile reads trust.yaml strictly.
func TestTrustFile(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"# nothing\n", ""},
		{"require: true\n", ""},
		{"require: yes\n", "keys/trust.yaml:1: require: expected true or false"},
		{"require: \"true\"\n", "keys/trust.yaml:1: require: expected true or false"},
		{"require: true\nrequire: false\n", `keys/trust.yaml:2: "require" stands twice`},
		{"Require: true\n", `keys/trust.yaml:1: unknown key "Require"; expected require, groups, principals`},
		{"- require\n", "keys/trust.yaml:1: expected a mapping; expected require, groups, principals"},
		{"require: true\n---\nrequire: false\n", "keys/trust.yaml: more than one document"},
		{"a: &x true\nrequire: *x\n", "keys/trust.yaml:1: anchors and aliases are not understood here"},
		{"require: !!bool true\n", "keys/trust.yaml:1: tags are not understood here"},
		{"require: [\n", "keys/trust.yaml:1: did not find expected node content"},
		{"principals: {ada: null}\n", "keys/trust.yaml:1: expected a mapping; expected environments, paths, approve"},
		{"principals: {ada: {path: [x]}}\n", `keys/trust.yaml:1: unknown key "path"; expected environments, paths, approve`},
		{"principals:\n  ada:\n    paths: apps/**\n", "keys/trust.yaml:3: expected a list"},
		{"principals: {ada: {paths: [/apps, 'a/', a//b, ../x, 'a/**b', 'a?', 1]}}\n", `keys/trust.yaml:1: "../x" holds an empty component, . or ..
keys/trust.yaml:1: "/apps" begins with a slash; paths begin at the repository's root without one
keys/trust.yaml:1: "a/" ends in a slash; write /** for what is below a directory
keys/trust.yaml:1: "a/**b" ** must be a whole component
keys/trust.yaml:1: "a//b" holds an empty component, . or ..
keys/trust.yaml:1: "a?" holds one of ?[]{}\!; only * and ** are understood
keys/trust.yaml:1: expected a string`},
		{"principals: {ada: {environments: [a/b]}}\n", `keys/trust.yaml:1: "a/b" holds a slash; names of environments do not`},
		{"principals: {ada: {approve: [x]}}\n", "keys/trust.yaml: group x is not declared under groups"},
		{"groups: {x: {environments: [production]}}\nprincipals: {ada: {approve: [x]}}\n", ""},
		{"principals: {'a b': {}}\n", `keys/trust.yaml:1: "a b": names of principals hold letters, digits and ._@+- only`},
		{strings.Repeat("[", 100), "keys/trust.yaml:1: did not find expected node content"},
	} {
		fsys := keysFS(t, "#\n", "ada")
		fsys["keys/trust.yaml"].Data = []byte(c.text)
		if _, ps := Parse(fsys); ps.Error() != c.want {
			t.Errorf("%q: %s\nwant %s", c.text, ps.Error(), c.want)
		}
	}
}

// TestKeysDirectory says what may lie in keys/.
func TestKeysDirectory(t *testing.T) {
	signers := keysFS(t, "", "ada")["keys/signers"]
	for _, c := range []struct {
		name string
		file *fstest.MapFile
		want string
	}{
		{"keys/README.md", &fstest.MapFile{Data: []byte("x")}, ""},
		{"keys/trust.yml", &fstest.MapFile{}, "keys/trust.yml: is none of signers, trust.yaml, <name>.asc, <name>.md"},
		{"keys/old/x", &fstest.MapFile{}, "keys/old: is a directory; keys lie directly in keys/"},
		{"keys/x.asc", &fstest.MapFile{}, `keys/x.asc: expected "-----BEGIN PGP PUBLIC KEY BLOCK-----" on a line of its own first`},
		{"keys/no name.asc", &fstest.MapFile{}, `keys/no name.asc: "no name": names of principals hold letters, digits and ._@+- only`},
		{"keys/x.asc", &fstest.MapFile{Data: []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n")}, "keys/x.asc: holds a private key: take it out of the repository, and never use it again"},
		{"keys/x.asc", &fstest.MapFile{Data: make([]byte, MaxFile+1)}, fmt.Sprintf("keys/x.asc: %d bytes long; at most %d", MaxFile+1, MaxFile)},
	} {
		fsys := fstest.MapFS{"keys/signers": signers, c.name: c.file}
		k, ps := Parse(fsys)
		if ps.Error() != c.want || len(k.Problems()) != len(ps) {
			t.Errorf("%s: %s\nwant %s", c.name, ps.Error(), c.want)
		}
	}
	if k, ps := Parse(fstest.MapFS{}); len(ps) > 0 || k.Require() || len(k.Keys()) > 0 {
		t.Errorf("without keys/: %v", ps)
	}
	if _, ps := Parse(fstest.MapFS{"keys/trust.yaml": {Data: []byte(required)}}); !strings.Contains(ps.Error(), "nobody could sign") {
		t.Errorf("without a key: %v", ps)
	}
	many := fstest.MapFS{}
	for i := range MaxFiles + 1 {
		many[fmt.Sprintf("keys/%d.md", i)] = &fstest.MapFile{}
	}
	if _, ps := Parse(many); ps.Error() != "keys: more than 256 files" {
		t.Errorf("many files: %v", ps)
	}
	tree, err := source.FromFS(keysFS(t, required, "ada"), source.FSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if k, ps := FromTree(tree); len(ps) > 0 || !k.Require() || len(k.Keys()) != 1 {
		t.Errorf("from a tree: %v", ps)
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a/b", false},
		{"*", "a", true},
		{"*", "a/b", false},
		{"**", "a/b/c", true},
		{"a/**", "a", true},
		{"a/**", "a/b/c", true},
		{"a/**", "ab", false},
		{"**/x", "x", true},
		{"**/x", "a/b/x", true},
		{"**/x", "a/xx", false},
		{"a/**/z", "a/z", true},
		{"a/**/z", "a/b/c/z", true},
		{"a/**/z", "a/z/y", false},
		{"*.md", "README.md", true},
		{"*.md", "docs/x.md", false},
		{"a*b*c", "axxbyyc", true},
		{"a*b*c", "ac", false},
		{"**/a/**", "x/a/y", true},
		{"**/a/**", "x/b/y", false},
		{strings.Repeat("*a", 200), strings.Repeat("a", 5000) + "b", false},
	} {
		if got := matchPath(c.pattern, c.path); got != c.want {
			t.Errorf("%.40s %.40s: %v", c.pattern, c.path, got)
		}
	}
}
