package sealed

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"

	"filippo.io/age"
)

// canary is a plaintext that must not turn up in any output.
const canary = "CANARY-hunter2"

func newID(t testing.TB, environment string) *Identity {
	t.Helper()
	id, err := NewIdentity(environment)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// db is a file with two values.
func db(t testing.TB, id *Identity) *File {
	t.Helper()
	f := &File{Environment: id.Environment(), Name: "db", Recipient: id.Recipient(), Type: "Opaque"}
	for key, value := range map[string]string{"password": canary, "user": "shop"} {
		if changed, err := id.Set(f, key, NewPlain([]byte(value))); err != nil || !changed {
			t.Fatal(changed, err)
		}
	}
	return f
}

func show(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s=%s;", e.Key, e.Plain.Bytes())
	}
	return b.String()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	if strings.Contains(err.Error(), canary) {
		return "LEAKED " + err.Error()
	}
	return err.Error()
}

// TestFeature_G11 seals, writes, reads, checks and opens.
func TestFeature_G11(t *testing.T) {
	id := newID(t, "dev")
	f := db(t, id)
	raw := f.Encode()
	if bytes.Contains(raw, []byte(canary)) {
		t.Fatal("the plaintext is in the file")
	}
	got, ps := Parse("dev", "db", raw)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if again := got.Encode(); !bytes.Equal(again, raw) {
		t.Errorf("encoded again:\n%s\n%s", again, raw)
	}
	entries, err := id.OpenFile(got)
	if err != nil || show(entries) != "password="+canary+";user=shop;" {
		t.Errorf("%s, %v", show(entries), err)
	}
	files := []Named{{"recipient", []byte(id.Recipient() + "\n")}, {"db.yaml", raw}, {"README.md", nil}}
	if ps := Check("dev", files); len(ps) > 0 {
		t.Error(ps)
	}

	// The same value again leaves the file as it is; another one changes one value alone.
	before, _ := got.Get("user")
	if changed, err := id.Set(got, "password", NewPlain([]byte(canary))); changed || err != nil || !bytes.Equal(got.Encode(), raw) {
		t.Errorf("set the same: %v, %v", changed, err)
	}
	old, _ := got.Get("password")
	if changed, err := id.Set(got, "password", NewPlain([]byte("other"))); !changed || err != nil {
		t.Errorf("set another: %v, %v", changed, err)
	}
	now, _ := got.Get("password")
	if now.Version() == old.Version() {
		t.Error("another value has the same version")
	}
	if after, _ := got.Get("user"); after.Version() != before.Version() {
		t.Error("the version of what was not set has changed")
	}
	if !got.Delete("user") || got.Delete("user") || len(got.Values) != 1 {
		t.Error("Delete")
	}

	// Sealed again, a value has another ciphertext and the same version; without an identity it has no MAC.
	again, err := id.Seal(f.Place("password"), NewPlain([]byte(canary)))
	if err != nil || again.Version() != old.Version() || bytes.Equal(again.Age, old.Age) {
		t.Errorf("sealed again: %v", err)
	}
	foreign, err := SealFor(id.Recipient(), f.Place("password"), NewPlain([]byte(canary)))
	if err != nil || foreign.MAC != "" {
		t.Fatal(foreign.MAC, err)
	}
	if p, err := id.Open(f.Place("password"), foreign); err != nil || string(p.Bytes()) != canary {
		t.Errorf("sealed by another: %v", err)
	}
}

// TestFeature_G11_copies refuses what was moved to another place or changed.
func TestFeature_G11_copies(t *testing.T) {
	dev, prod := newID(t, "dev"), newID(t, "production")
	f := db(t, dev)
	password, _ := f.Get("password")
	user, _ := f.Get("user")
	at := f.Place("password")
	flip := func(i int) Value {
		v := password
		v.Age = bytes.Clone(v.Age)
		v.Age[(i+len(v.Age))%len(v.Age)] ^= 1
		return v
	}
	same := &Identity{environment: "production", age: dev.age, mac: dev.mac} // a key that two environments share
	for _, c := range []struct {
		name string
		id   *Identity
		at   Place
		v    Value
		want string
	}{
		{"at its place", dev, at, password, ""},
		{"to another key", dev, Place{"dev", "db", "user"}, Value{"user", password.MAC, password.Age}, `the value was sealed for another place, "secrets/dev/db.yaml: password"`},
		{"to another file", dev, Place{"dev", "web", "password"}, password, `the value was sealed for another place, "secrets/dev/db.yaml: password"`},
		{"to another environment", prod, Place{"production", "db", "password"}, password, "the value is sealed for somebody else"},
		{"to an environment of the same key", same, Place{"production", "db", "password"}, password, `the value was sealed for another place, "secrets/dev/db.yaml: password"`},
		{"with the identity of another", prod, at, password, "the identity is that of production"},
		{"with the MAC of another", dev, at, Value{"password", user.MAC, password.Age}, "the value has a MAC that is not its own"},
		{"under another key's name", dev, at, user, "the value belongs to another key"},
		{"last byte changed", dev, at, flip(-1), "the value is damaged"},
		{"first byte changed", dev, at, flip(0), "the value is damaged"},
		{"cut short", dev, at, Value{"password", password.MAC, password.Age[:len(password.Age)-20]}, "the value is damaged"},
		{"empty", dev, at, Value{"password", "", nil}, "the value is damaged"},
		{"by age alone", dev, at, Value{"password", "", byAge(t, dev, canary)}, "the value was not sealed by shoal"},
		{"by age with a forged head", dev, at, Value{"password", "", byAge(t, dev, insideHead+"dev\ndb\npassword\n5\n"+canary)}, "the value was not sealed by shoal"},
		{"by age with a huge length", dev, at, Value{"password", "", byAge(t, dev, insideHead+"dev\ndb\npassword\n99999999999999999999\n"+canary)}, "the value was not sealed by shoal"},
	} {
		p, err := c.id.Open(c.at, c.v)
		got := strings.TrimPrefix(text(err), "open "+c.at.String()+": ")
		if got != c.want || err == nil && string(p.Bytes()) != canary {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
	if _, err := dev.Seal(Place{"production", "db", "x"}, NewPlain(nil)); text(err) != "seal secrets/production/db.yaml: x: the identity is that of dev" {
		t.Errorf("sealed for another environment: %v", err)
	}
	if _, err := prod.OpenFile(f); text(err) != "secrets/dev/db.yaml: is sealed for another recipient" {
		t.Errorf("opened with another identity: %v", err)
	}
}

func byAge(t testing.TB, id *Identity, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := age.Encrypt(&b, id.age.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestSizes seals values of all sizes around the edges of padding and of age's chunks; those of one step have one length.
func TestSizes(t *testing.T) {
	id := newID(t, "dev")
	at := Place{"dev", "db", "k"}
	lengths := map[int]bool{}
	for _, n := range []int{0, 1, 20, 31, 63, 64, 65, 65500, 65535, 65536, 131072, MaxValue} {
		b := bytes.Repeat([]byte{0, 'x'}, n/2+1)[:n]
		v, err := id.Seal(at, NewPlain(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := checkSealed(v.Age); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		p, err := id.Open(at, v)
		if err != nil || !bytes.Equal(p.Bytes(), b) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if n <= 20 {
			lengths[len(v.Age)] = true
		}
	}
	if len(lengths) != 1 {
		t.Errorf("short values have lengths %v", lengths)
	}
	if _, err := id.Seal(at, NewPlain(make([]byte, MaxValue+1))); err == nil {
		t.Error("a value over the limit is sealed")
	}
}

// TestFeature_G11_rotate seals everything anew and nothing half.
func TestFeature_G11_rotate(t *testing.T) {
	old, next := newID(t, "dev"), newID(t, "dev")
	f := db(t, old)
	out, err := Rotate(old, next, []*File{f})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := next.OpenFile(out[0])
	if err != nil || show(entries) != "password="+canary+";user=shop;" {
		t.Errorf("%s, %v", show(entries), err)
	}
	if _, err := old.OpenFile(out[0]); err == nil {
		t.Error("the old identity opens what was rotated")
	}
	a, _ := f.Get("password")
	if b, _ := out[0].Get("password"); a.MAC == b.MAC {
		t.Error("who has the old identity can test guesses")
	}
	f.Values[1].Age = f.Values[0].Age
	if out, err := Rotate(old, next, []*File{db(t, old), f}); err == nil || out != nil {
		t.Errorf("rotated half: %v", err)
	}
	if _, err := Rotate(old, newID(t, "production"), nil); err == nil {
		t.Error("rotated to another environment")
	}
}

// TestFeature_G11_identity hands an identity over to nodes.
func TestFeature_G11_identity(t *testing.T) {
	id := newID(t, "dev")
	var nodes []age.Recipient
	var keys []*age.X25519Identity
	for range 3 {
		k, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		nodes, keys = append(nodes, k.Recipient()), append(keys, k)
	}
	sealed, err := id.SealTo(nodes[:2]...)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "", "open identity of dev: is sealed for somebody else"} {
		got, err := OpenIdentity("dev", sealed, keys[i])
		if text(err) != want || err == nil && (got.Recipient() != id.Recipient() || !bytes.Equal(got.mac, id.mac)) {
			t.Errorf("node %d: %v, want %s", i, err, want)
		}
	}
	if _, err := OpenIdentity("production", sealed, keys[0]); text(err) != `open identity of production: is that of another environment, "dev"` {
		t.Errorf("as another environment: %v", err)
	}
	for _, damaged := range [][]byte{nil, []byte("x"), sealed[:len(sealed)/2], bytes.Replace(sealed, []byte("A"), []byte("B"), 1), make([]byte, MaxFile+1)} {
		if _, err := OpenIdentity("dev", damaged, keys[0]); err == nil {
			t.Errorf("%.40q opens", damaged)
		}
	}
	if ps := Check("dev", []Named{{"recipient", []byte(id.Recipient())}, {"identity.age", sealed}}); len(ps) > 0 {
		t.Error(ps)
	}
	if _, err := id.SealTo(); err == nil {
		t.Error("sealed to nobody")
	}
}

// TestFault_A9 prints everything that holds a plaintext in every way there is.
func TestFault_A9(t *testing.T) {
	id := newID(t, "dev")
	p := NewPlain([]byte(canary))
	var b bytes.Buffer
	for _, v := range []any{p, &p, id, *id, Entry{"password", p}, &Entry{"password", p}, []Entry{{"password", p}}, map[string]Plain{"a": p}, Opened{Entries: []Entry{{"a", p}}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		if j, err := json.Marshal(v); err == nil {
			b.Write(j)
		}
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	}
	secret := id.age.String()
	for _, s := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), base64.StdEncoding.EncodeToString([]byte(canary)), fmt.Sprintf("%d", []byte(canary)), secret, secret[20:40], fmt.Sprintf("%d", id.mac), fmt.Sprintf("%x", id.mac)} {
		if strings.Contains(b.String(), s) {
			t.Errorf("%q is printed", s)
		}
	}
	if !strings.Contains(b.String(), Redacted) {
		t.Error("nothing is printed at all")
	}
	p.Wipe()
	if bytes.Contains(p.Bytes(), []byte("C")) {
		t.Error("Wipe")
	}
}

// TestParse refuses files without a word of what stands in the place of values.
func TestParse(t *testing.T) {
	id := newID(t, "dev")
	good := string(db(t, id).Encode())
	password, _ := db(t, id).Get("password")
	sealed := base64.StdEncoding.EncodeToString(password.Age)
	head := "format: shoal.dev/secret/v1\nrecipient: " + id.Recipient() + "\n"
	for _, c := range []struct{ text, want string }{
		{good, ""},
		{head + "values: {}\n", ""},
		{head + "type: kubernetes.io/tls\nvalues: {}\n", ""},
		{"", "secrets/dev/db.yaml: is empty"},
		{"password: " + canary + "\n", `secrets/dev/db.yaml:1: an unknown key; expected format, recipient, type, values
secrets/dev/db.yaml:1: expected format: shoal.dev/secret/v1
secrets/dev/db.yaml:1: expected a recipient
secrets/dev/db.yaml:1: expected values: a mapping`},
		{canary, `secrets/dev/db.yaml:1: expected a mapping of format, recipient, type, values
secrets/dev/db.yaml:1: expected format: shoal.dev/secret/v1
secrets/dev/db.yaml:1: expected a recipient
secrets/dev/db.yaml:1: expected values: a mapping`},
		{head + "values: {password: " + canary + "}\n", "secrets/dev/db.yaml:3: expected a mapping of mac, age\nsecrets/dev/db.yaml:3: password: expected age: and the sealed value"},
		{head + "values: {password: {age: " + canary + "}}\n", "secrets/dev/db.yaml:3: password: age: is not base64 in one line"},
		{head + "values: {password: {mac: " + canary + ", age: " + sealed + "}}\n", "secrets/dev/db.yaml:3: password: mac: expected 32 hex digits"},
		{head + "values: {password: {age: " + sealed + ", " + canary + ": x}}\n", "secrets/dev/db.yaml:3: an unknown key; expected mac, age"},
		{head + "values: {" + canary + "/x: {age: " + sealed + "}}\n", "secrets/dev/db.yaml:3: a key that no Secret may have; expected up to 253 of letters, digits, -, _ and ."},
		{head + "values: {password: {age: \"" + sealed[:20] + "\\n" + sealed[20:] + "\"}}\n", "secrets/dev/db.yaml:3: password: age: is not base64 in one line"},
		{head + "values: {password: {age: " + base64.StdEncoding.EncodeToString([]byte(canary+"....")) + "}}\n", "secrets/dev/db.yaml:3: password: age: is no age file"},
		{head + "values: {password: {age: " + base64.StdEncoding.EncodeToString(byAge(t, id, canary)) + "}}\n", "secrets/dev/db.yaml:3: password: age: has a length that no sealed value has"},
		{head + "values: {a: {age: " + sealed + "}, a: {age: " + sealed + "}}\n", "secrets/dev/db.yaml:3: key a stands twice"},
		{head + "values: {a: &x {age: " + sealed + "}, b: *x}\n", "secrets/dev/db.yaml:3: anchors and aliases are not understood here"},
		{head + "values: {a: !!binary " + canary + "}\n", "secrets/dev/db.yaml:3: tags are not understood here"},
		{head + "values: {}\n---\n" + canary + "\n", "secrets/dev/db.yaml: holds more than one document"},
		{head + "values: {a: [" + canary + "\n", "secrets/dev/db.yaml:2: is no YAML"},
		{head + "values: {}\nvalues: {}\n", "secrets/dev/db.yaml:4: values stands twice"},
		{head + "type: '" + canary + " '\nvalues: {}\n", "secrets/dev/db.yaml:3: type: expected a type of Kubernetes Secrets, such as Opaque"},
		{strings.Replace(head, "age1", "age2", 1) + "values: {}\n", "secrets/dev/db.yaml:2: recipient: is no age recipient; expected one line, age1..."},
		{strings.Replace(head, id.Recipient(), id.age.String(), 1) + "values: {}\n", "secrets/dev/db.yaml:2: recipient: holds an identity, not a recipient: it was given away and must be replaced"},
		{head + strings.Repeat("#", MaxFile), fmt.Sprintf("secrets/dev/db.yaml: %d bytes long; at most %d", len(head)+MaxFile, MaxFile)},
	} {
		_, ps := Parse("dev", "db", []byte(c.text))
		if ps.Error() != c.want || strings.Contains(ps.Error(), canary) {
			t.Errorf("%.120q:\n%s\nwant\n%s", c.text, ps.Error(), c.want)
		}
	}
}

// TestFeature_G11_check is what happens before a merge.
func TestFeature_G11_check(t *testing.T) {
	id, other := newID(t, "dev"), newID(t, "production")
	recipient := Named{"recipient", []byte(id.Recipient() + "\n")}
	mine := db(t, id).Encode()
	theirs := db(t, other).Encode()
	for _, c := range []struct {
		name  string
		files []Named
		want  string
	}{
		{"nothing", nil, ""},
		{"good", []Named{recipient, {"db.yaml", mine}}, ""},
		{"no recipient", []Named{{"db.yaml", mine}}, "secrets/dev/recipient: is missing: nobody can tell whom the values are for"},
		{"two recipients", []Named{{"recipient", []byte(id.Recipient() + "\n" + other.Recipient() + "\n")}}, "secrets/dev/recipient: is no age recipient; expected one line, age1..."},
		{"an identity", []Named{{"recipient", []byte(id.age.String())}}, "secrets/dev/recipient: holds an identity, not a recipient: it was given away and must be replaced"},
		{"of another environment", []Named{recipient, {"db.yaml", theirs}}, "secrets/dev/db.yaml: is sealed for another recipient than that of dev"},
		{"plain", []Named{recipient, {"db.yaml", []byte("password: " + canary)}}, "secrets/dev/db.yaml:1: an unknown key; expected format, recipient, type, values\nsecrets/dev/db.yaml:1: expected format: shoal.dev/secret/v1\nsecrets/dev/db.yaml:1: expected a recipient\nsecrets/dev/db.yaml:1: expected values: a mapping"},
		{"an odd file", []Named{recipient, {"db.yml", mine}}, "secrets/dev/db.yml: is none of recipient, identity.age, <name>.yaml, a SOPS file <name>.json, *.md"},
		{"an odd name", []Named{recipient, {"DB.yaml", mine}}, `secrets/dev/DB.yaml: "DB" is no name of a Secret; expected up to 200 of a-z, 0-9, - and .`},
		{"an odd identity", []Named{recipient, {"identity.age", []byte(id.age.String())}}, "secrets/dev/identity.age: is not what shoal writes: an age file, armored"},
		{"twice", []Named{recipient, {"db.yaml", mine}, {"db.json", mine}}, "secrets/dev/db.json: is the same Secret as db.yaml"},
	} {
		if got := Check("dev", c.files); got.Error() != c.want || strings.Contains(got.Error(), canary) {
			t.Errorf("%s: %s\nwant %s", c.name, got.Error(), c.want)
		}
	}
	fsys := fstest.MapFS{"secrets/dev/recipient": {Data: recipient.Data}, "secrets/dev/db.yaml": {Data: mine}}
	files, err := ReadDir(fsys, "dev")
	if err != nil || len(files) != 2 || len(Check("dev", files)) > 0 {
		t.Errorf("%d files, %v", len(files), err)
	}
	if files, err := ReadDir(fsys, "production"); files != nil || err != nil {
		t.Errorf("of no environment: %v, %v", files, err)
	}
	if _, err := ReadDir(fsys, "../dev"); err == nil {
		t.Error("out of secrets/")
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		at Place
		ok bool
	}{
		{Place{"dev", "db", "password"}, true},
		{Place{"pr-12", "db.tls", "tls.crt"}, true},
		{Place{"dev", "db", ".hidden_KEY-1"}, true},
		{Place{"", "db", "k"}, false},
		{Place{"Dev", "db", "k"}, false},
		{Place{"dev-", "db", "k"}, false},
		{Place{"dev", "", "k"}, false},
		{Place{"dev", "a/b", "k"}, false},
		{Place{"dev", "..", "k"}, false},
		{Place{"dev", "a..b", "k"}, false},
		{Place{"dev", ".db", "k"}, false},
		{Place{"dev", "db", ""}, false},
		{Place{"dev", "db", "."}, false},
		{Place{"dev", "db", "..x"}, false},
		{Place{"dev", "db", "a b"}, false},
		{Place{"dev", "db", "a\nb"}, false},
		{Place{"dev", "db", strings.Repeat("k", 254)}, false},
	} {
		if err := c.at.Check(); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.at, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	id := newID(f, "dev")
	file := db(f, id)
	f.Add(file.Encode())
	f.Add([]byte("format: shoal.dev/secret/v1\nvalues: {a: {age: x}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ps := Parse("dev", "db", data)
		if (got == nil) != (len(ps) > 0) {
			t.Fatalf("%v, %v", got, ps)
		}
		if got != nil {
			again, ps := Parse("dev", "db", got.Encode())
			if len(ps) > 0 || !bytes.Equal(again.Encode(), got.Encode()) {
				t.Fatalf("%v", ps)
			}
			_, _ = id.OpenFile(got)
		}
	})
}

func FuzzOpen(f *testing.F) {
	id := newID(f, "dev")
	v, err := id.Seal(Place{"dev", "db", "k"}, NewPlain([]byte("x")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v.Age)
	f.Add(byAge(f, id, insideHead+"dev\ndb\nk\n1\nx"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = checkSealed(raw)
		if p, err := id.Open(Place{"dev", "db", "k"}, Value{Key: "k", Age: raw}); err == nil && string(p.Bytes()) != "x" {
			t.Fatalf("%q", p.Bytes())
		}
	})
}

func FuzzDisclose(f *testing.F) {
	at := Place{"dev", "db", "k"}
	f.Add(enclose(at, []byte("x")))
	f.Add([]byte(insideHead + "dev\ndb\nk\n-1\n"))
	f.Fuzz(func(t *testing.T, inside []byte) {
		b, at, err := disclose(inside)
		if err == nil && !bytes.Equal(enclose(at, b), inside) {
			t.Fatalf("%q", inside)
		}
	})
}
