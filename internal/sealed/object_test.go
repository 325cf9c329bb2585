package sealed

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
)

// roundTrip is an object as the next node has it.
func roundTrip(t *testing.T, o *Object) *Object {
	t.Helper()
	if !IsObject(o.Annotations()) {
		t.Fatal("it is not known to be sealed")
	}
	for key, b := range o.Data() {
		if bytes.Contains(b, []byte(canary)) {
			t.Fatalf("%s is plain", key)
		}
	}
	got, err := ParseObject(o.Name, o.Type, o.Annotations(), o.Data())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestFeature_G11_objects: an object carries what a file has, and all that it takes to open it.
func TestFeature_G11_objects(t *testing.T) {
	id, node := newID(t, "dev"), newNode(t, 1)
	f := db(t, id)
	f.Type = "kubernetes.io/basic-auth"
	bare, err := SealFor(id.Recipient(), f.Place("bare"), NewPlain([]byte("b")))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Put(bare); err != nil {
		t.Fatal(err)
	}
	key, err := id.SealTo(node.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	o, ps := ObjectOf("dev", Named{"db.yaml", f.Encode()}, id.Recipient(), key)
	if o == nil {
		t.Fatal(ps)
	}
	got := roundTrip(t, o)
	if !bytes.Equal(got.Encode(), f.Encode()) {
		t.Errorf("it became\n%s", got.Encode())
	}
	opener, err := OpenIdentityOf(got.Environment, got.Recipient, got.Identity, node)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := opener.OpenObject(got)
	if want := "bare=b;password=" + canary + ";user=shop;"; err != nil || show(entries) != want {
		t.Errorf("%s %v", show(entries), err)
	}

	// A value under another name or key, or in another environment, does not open.
	for what, change := range map[string]func(o *Object, notes map[string]string, data map[string][]byte){
		"another name":        func(o *Object, _ map[string]string, _ map[string][]byte) { o.Name = "other" },
		"another key":         func(_ *Object, _ map[string]string, d map[string][]byte) { d["user"] = d["password"] },
		"another environment": func(_ *Object, n map[string]string, _ map[string][]byte) { n[AnnotationEnvironment] = "production" },
		"another recipient": func(_ *Object, n map[string]string, _ map[string][]byte) {
			n[AnnotationRecipient] = newID(t, "dev").Recipient()
		},
		"plain": func(_ *Object, _ map[string]string, d map[string][]byte) { d["user"] = []byte(canary) },
	} {
		c := *o
		notes, data := maps.Clone(o.Annotations()), maps.Clone(o.Data())
		change(&c, notes, data)
		bad, err := ParseObject(c.Name, c.Type, notes, data)
		if err == nil {
			_, err = opener.OpenObject(bad)
		}
		if text(err) == "" || strings.Contains(text(err), "LEAKED") {
			t.Errorf("%s: %q", what, text(err))
		}
	}
}

// TestFeature_G11_sopsObjects: the same of a file of SOPS, whose keys are known without opening it.
func TestFeature_G11_sopsObjects(t *testing.T) {
	id := newID(t, "dev")
	m := newMaker(t)
	file := "user: " + m.enc("user:", "shop", "str") + "\npassword: " + m.enc("password:", canary, "str") + "\n"
	file += m.meta(m.digest(), "", id)
	o, ps := ObjectOf("dev", Named{"db.yaml", []byte(file)}, id.Recipient(), nil)
	if o == nil {
		t.Fatal(ps)
	}
	if keys := slices.Sorted(maps.Keys(o.Data())); !slices.Equal(keys, []string{"password", "user"}) {
		t.Errorf("keys %v", keys)
	}
	got := roundTrip(t, o)
	entries, err := id.OpenObject(got)
	if want := "password=" + canary + ";user=shop;"; err != nil || show(entries) != want {
		t.Errorf("%s %v", show(entries), err)
	}
	if _, err := newID(t, "production").OpenObject(got); text(err) != "open secrets/dev/db.yaml: the identity is that of production" {
		t.Error(err)
	}
	big := strings.Replace(file, "user:", "# "+strings.Repeat("x", MaxSOPS)+"\nuser:", 1)
	if o, ps := ObjectOf("dev", Named{"db.yaml", []byte(big)}, id.Recipient(), nil); o != nil || !strings.Contains(text(ps), "of a file of SOPS") {
		t.Errorf("a big one: %v", ps)
	}
}

// FuzzObject: whatever the ledger's blobs hold, it is an error or an object, and no panic.
func FuzzObject(f *testing.F) {
	id, err := NewIdentity("dev")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("dev", "", "password", []byte(envelopeHead+"\nx"))
	f.Add("dev", "a: b", "password", []byte(envelopeHead))
	f.Fuzz(func(t *testing.T, environment, sops, key string, value []byte) {
		notes := map[string]string{AnnotationEnvironment: environment, AnnotationRecipient: id.Recipient()}
		if sops != "" {
			notes[AnnotationSOPS] = sops
		}
		o, err := ParseObject("db", "Opaque", notes, map[string][]byte{key: value})
		if err == nil {
			_, _ = id.OpenObject(o)
		}
	})
}
