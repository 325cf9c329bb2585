package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// sopsMaker writes files as SOPS' documentation describes them. It knows nothing of the reader.
type sopsMaker struct {
	t        testing.TB
	key      []byte
	mac      []byte // what the MAC goes over
	modified string
}

func newMaker(t testing.TB) *sopsMaker {
	m := &sopsMaker{t: t, key: make([]byte, 32), modified: "2024-05-06T07:08:09Z"}
	if _, err := rand.Read(m.key); err != nil {
		t.Fatal(err)
	}
	return m
}

// enc is a value encrypted with the path of its keys, "a:b:".
func (m *sopsMaker) enc(keys, value, kind string) string {
	m.mac = append(m.mac, value...)
	return m.seal(keys, value, kind)
}

func (m *sopsMaker) seal(with, value, kind string) string {
	block, err := aes.NewCipher(m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, 32)
	if err != nil {
		m.t.Fatal(err)
	}
	iv := make([]byte, 32)
	if _, err := rand.Read(iv); err != nil {
		m.t.Fatal(err)
	}
	out := gcm.Seal(nil, iv, []byte(value), []byte(with))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("ENC[AES256_GCM,data:%s,iv:%s,tag:%s,type:%s]", b64(out[:len(out)-16]), b64(iv), b64(out[len(out)-16:]), kind)
}

// plain notes a value that is not encrypted for the MAC.
func (m *sopsMaker) plain(value string) string {
	m.mac = append(m.mac, value...)
	return value
}

func (m *sopsMaker) digest(before ...byte) string {
	d := sha512.Sum512(append(before, m.mac...))
	return m.seal(m.modified, fmt.Sprintf("%X", d[:]), "str")
}

func (m *sopsMaker) wrapped(to *Identity) string {
	var b bytes.Buffer
	a := armor.NewWriter(&b)
	w, err := age.Encrypt(a, to.age.Recipient())
	if err != nil {
		m.t.Fatal(err)
	}
	_, _ = w.Write(m.key)
	if err := w.Close(); err != nil {
		m.t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		m.t.Fatal(err)
	}
	return b.String()
}

// meta is the metadata as YAML.
func (m *sopsMaker) meta(mac, rule string, to ...*Identity) string {
	var b strings.Builder
	b.WriteString("sops:\n    kms: []\n    gcp_kms: []\n    age:\n")
	for _, id := range to {
		fmt.Fprintf(&b, "        - recipient: %s\n          enc: |\n", id.Recipient())
		for line := range strings.Lines(m.wrapped(id)) {
			b.WriteString("            " + line)
		}
	}
	fmt.Fprintf(&b, "    lastmodified: \"%s\"\n    mac: %s\n    pgp: []\n%s    version: 3.9.0\n", m.modified, mac, rule)
	return b.String()
}

// TestFeature_G11_sops reads what SOPS writes.
func TestFeature_G11_sops(t *testing.T) {
	id, other := newID(t, "dev"), newID(t, "production")

	flat := newMaker(t)
	flatText := "user: " + flat.enc("user:", "shop", "str") + "\n" +
		"#ENC[AES256_GCM,data:x,iv:x,tag:x,type:comment]\n" +
		"password: " + flat.enc("password:", canary, "str") + "\n" +
		"port: " + flat.enc("port:", "5432", "int") + "\n" +
		"ratio: " + flat.enc("ratio:", "0.25", "float") + "\n" +
		"\"on\": " + flat.enc("on:", "True", "bool") + "\n" +
		"empty: \"\"\n"
	flatText += flat.meta(flat.digest(), "", other, id)

	manifest := newMaker(t)
	manifestText := "apiVersion: " + manifest.plain("v1") + "\nkind: " + manifest.plain("Secret") + "\nmetadata:\n    name: " + manifest.plain("db") + "\n" +
		"    labels: {n: \"" + manifest.plain("1") + "\", list: [" + manifest.plain("a") + ", " + manifest.plain("2") + "], yes: " + strings.ToLower(manifest.plain("True")) + "}\n" +
		"type: " + manifest.plain("kubernetes.io/basic-auth") + "\n" +
		"stringData:\n    password: " + manifest.enc("stringData:password:", canary, "str") + "\n" +
		"data:\n    password: " + manifest.enc("data:password:", base64.StdEncoding.EncodeToString([]byte("old")), "str") + "\n" +
		"    username: " + manifest.enc("data:username:", base64.StdEncoding.EncodeToString([]byte("shop")), "str") + "\n"
	manifestText += manifest.meta(manifest.digest(), "    encrypted_regex: ^(data|stringData)$\n", id)

	only := newMaker(t)
	onlyText := "a_plain: 1\na: " + only.enc("a:", canary, "str") + "\n"
	start := sha256.Sum256([]byte("sops"))
	onlyText += only.meta(only.digest(start[:]...), "    unencrypted_suffix: _plain\n    mac_only_encrypted: true\n", id)

	js := newMaker(t)
	jsText := fmt.Sprintf("{\n\t\"user\": %q,\n\t\"password\": %q,\n\t\"sops\": {\n\t\t\"age\": [{\"recipient\": %q, \"enc\": %s}],\n\t\t\"lastmodified\": %q,\n\t\t\"mac\": %q,\n\t\t\"version\": \"3.9.0\"\n\t}\n}\n",
		js.enc("user:", "shop", "str"), js.enc("password:", canary, "str"), id.Recipient(), quoted(js.wrapped(id)), js.modified, js.digest())

	for _, c := range []struct{ file, text, want, check string }{
		{"db.yaml", flatText, "Opaque empty=;on=true;password=" + canary + ";port=5432;ratio=0.25;user=shop;", ""},
		{"db.yaml", manifestText, "kubernetes.io/basic-auth password=" + canary + ";username=shop;", ""},
		{"db.yaml", onlyText, "Opaque a=" + canary + ";a_plain=1;", `secrets/dev/db.yaml:1: "a_plain" is not encrypted`},
		{"db.json", jsText, "Opaque password=" + canary + ";user=shop;", ""},
	} {
		s, ps := ParseSOPS("dev", c.file, []byte(c.text))
		if len(ps) > 0 {
			t.Errorf("%.60s: %v", c.text, ps)
			continue
		}
		out, err := s.Open(id.Age())
		if got := out.Type + " " + show(out.Entries); err != nil || got != c.want {
			t.Errorf("%s, %v\nwant %s", got, err, c.want)
		}
		if !IsSOPS([]byte(c.text)) {
			t.Error("IsSOPS says no")
		}
		ps = Check("dev", []Named{{"recipient", []byte(id.Recipient())}, {c.file, []byte(c.text)}})
		if ps.Error() != c.check {
			t.Errorf("check: %s\nwant %s", ps.Error(), c.check)
		}
		if _, err := s.Open(newID(t, "dev").Age()); !strings.Contains(text(err), "is sealed for somebody else") {
			t.Errorf("with another identity: %v", err)
		}
		if ps := Check("dev", []Named{{"recipient", []byte(newID(t, "dev").Recipient())}, {c.file, []byte(c.text)}}); !strings.Contains(ps.Error(), "is not encrypted for dev") {
			t.Errorf("for another recipient: %v", ps)
		}
	}

	// What was changed without SOPS does not open.
	values := strings.Split(flatText, "\n")
	user, password := strings.TrimPrefix(values[0], "user: "), strings.TrimPrefix(values[2], "password: ")
	for _, c := range []struct{ name, text, want string }{
		{"values exchanged", strings.NewReplacer(user, password, password, user).Replace(flatText), `"user": does not open: it was changed, or belongs elsewhere`},
		{"a value left out", strings.Replace(flatText, values[0]+"\n", "", 1), "its MAC is not that of its values: something was changed without SOPS"},
		{"order changed", strings.Replace(strings.Replace(flatText, values[0]+"\n", "", 1), "port:", values[0]+"\nport:", 1), "its MAC is not that of its values: something was changed without SOPS"},
		{"a plain value", strings.Replace(flatText, password, canary, 1), `"password": is not encrypted, or not as SOPS does it`},
		{"an empty value", strings.Replace(flatText, password, `""`, 1), "its MAC is not that of its values: something was changed without SOPS"},
		{"the time changed", strings.Replace(flatText, "07:08:09Z", "07:08:10Z", 1), "its MAC does not open"},
		{"a plain field of a manifest", strings.Replace(manifestText, "n: \"1\"", "n: \"2\"", 1), "its MAC is not that of its values: something was changed without SOPS"},
		{"another rule", strings.Replace(manifestText, "^(data|stringData)$", "^stringData$", 1), "its MAC is not that of its values: something was changed without SOPS"},
		{"another name", strings.Replace(manifestText, "name: db", "name: web", 1), "its MAC is not that of its values: something was changed without SOPS"},
	} {
		s, ps := ParseSOPS("dev", "db.yaml", []byte(c.text))
		if len(ps) > 0 {
			t.Errorf("%s: %v", c.name, ps)
			continue
		}
		_, err := s.Open(id.Age())
		if got := strings.TrimPrefix(text(err), "open secrets/dev/db.yaml: "); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
	s, _ := ParseSOPS("dev", "web.yaml", []byte(manifestText))
	if _, err := s.Open(id.Age()); text(err) != "open secrets/dev/web.yaml: metadata.name is not web, the file's name" {
		t.Errorf("under another name: %v", err)
	}
	a, _ := ParseSOPS("dev", "db.yaml", []byte(flatText))
	b, _ := ParseSOPS("dev", "db.yaml", []byte(strings.Replace(flatText, password, flat.seal("password:", "new", "str"), 1)))
	if a.Version() == b.Version() {
		t.Error("another value has the same version")
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// TestParseSOPS refuses what SOPS does not write, or what is not supported, and says nothing of values.
func TestParseSOPS(t *testing.T) {
	id := newID(t, "dev")
	m := newMaker(t)
	value := "a: " + m.enc("a:", canary, "str") + "\n"
	mac := m.digest()
	good := value + m.meta(mac, "", id)
	for _, c := range []struct{ text, want string }{
		{good, ""},
		{value, "secrets/dev/db.yaml: is not encrypted by SOPS: it has no key sops"},
		{value + "sops: " + canary + "\n", "secrets/dev/db.yaml: is not encrypted by SOPS: it has no key sops"},
		{value + m.meta(mac, ""), "secrets/dev/db.yaml:3: sops: no age recipient; only age is supported"},
		{value + m.meta(canary, "", id), "secrets/dev/db.yaml:3: sops: mac is missing or not one of SOPS"},
		{strings.Replace(good, m.modified, canary, 1), "secrets/dev/db.yaml:3: sops: lastmodified: expected a quoted time such as 2024-01-31T12:00:00Z"},
		{value + m.meta(mac, "    encrypted_regex: \"[\"\n", id), "secrets/dev/db.yaml:3: sops: encrypted_regex is no regular expression"},
		{value + m.meta(mac, "    encrypted_regex: "+strings.Repeat("x", maxPattern+1)+"\n", id), "secrets/dev/db.yaml:3: sops: encrypted_regex is too long"},
		{value + m.meta(mac, "    encrypted_regex: a\n    encrypted_suffix: b\n", id), "secrets/dev/db.yaml:3: sops: encrypted_suffix and encrypted_regex exclude each other"},
		{value + m.meta(mac, "    encrypted_comment_regex: a\n", id), "secrets/dev/db.yaml:3: sops: encrypted_comment_regex is not supported"},
		{value + m.meta(mac, "    key_groups: [{age: []}, {age: []}]\n", id), "secrets/dev/db.yaml:3: sops: several key groups (Shamir) are not supported"},
		{"a: &x " + canary + "\nb: *x\n" + m.meta(mac, "", id), "secrets/dev/db.yaml:1: anchors and aliases are not understood here"},
		{"a: 2024-01-01\n" + m.meta(mac, "", id), "secrets/dev/db.yaml:1: is of a type that is not understood; quote it"},
		{"1: " + canary + "\n" + m.meta(mac, "", id), "secrets/dev/db.yaml:1: a key that is no string"},
		{"a: " + canary + "\na: x\n" + m.meta(mac, "", id), "secrets/dev/db.yaml:2: a key that stands twice"},
		{"{\"a\": \"" + canary + "\", \"a\": 1}", "secrets/dev/db.yaml:1: a key that stands twice"},
		{"{\"a\": \"" + canary, "secrets/dev/db.yaml:1: is no JSON"},
		{"{\"a\": 1} " + canary, "secrets/dev/db.yaml:1: goes on after its end"},
		{strings.Repeat("{\"a\":", 100), "secrets/dev/db.yaml:1: is nested too deeply"},
		{"{\"a\": [" + strings.Repeat("1,", 5*maxLeaves) + "1]}", fmt.Sprintf("secrets/dev/db.yaml:1: holds more than %d values", maxLeaves)},
	} {
		_, ps := ParseSOPS("dev", "db.yaml", []byte(c.text))
		if ps.Error() != c.want || strings.Contains(ps.Error(), canary) {
			t.Errorf("%.100q: %s\nwant %s", c.text, ps.Error(), c.want)
		}
	}
}

func FuzzSOPS(f *testing.F) {
	id := newID(f, "dev")
	m := newMaker(f)
	value := "a: " + m.enc("a:", "x", "str") + "\n"
	f.Add([]byte(value + m.meta(m.digest(), "", id)))
	f.Add([]byte("{\"a\": [1, null, {\"b\": true}], \"sops\": {\"age\": [{\"enc\": \"x\"}]}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, ps := ParseSOPS("dev", "db.yaml", data)
		if (s == nil) != (len(ps) > 0) {
			t.Fatalf("%v, %v", s, ps)
		}
		if s != nil {
			_ = s.Check(id.Recipient())
			_ = s.Version()
			if out, err := s.Open(id.Age()); err == nil && show(out.Entries) != "a=x;" {
				t.Fatalf("opened as %s", show(out.Entries))
			}
		}
	})
}

func FuzzSOPSValue(f *testing.F) {
	m := newMaker(f)
	f.Add(m.enc("a:", "x", "str"))
	f.Add("ENC[AES256_GCM,data:,iv:,tag:,type:]")
	block, err := aes.NewCipher(m.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = openSOPSValue(block, &tree{leaf: typeString, text: text}, "a:")
	})
}
